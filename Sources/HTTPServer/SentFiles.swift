internal import CGlibc
internal import CMicroHTTPD
internal import Glibc

/// What a look at a file tells of whether its bytes are still those that were meant.
struct FileSight {
    /// Where the body ends in it.
    private let end: Int64
    /// When it was last written to, as the answer began.
    private let modified: timespec

    init(_ status: stat, end: Int64) {
        self.end = end
        modified = status.st_mtim
    }

    func holds(of descriptor: Int32) -> Bool {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return false }
        let now = status.st_mtim
        return Int64(status.st_size) >= end && now.tv_sec == modified.tv_sec && now.tv_nsec == modified.tv_nsec
    }
}

/// A file whose bytes are an answer's body, while libmicrohttpd sends them.
struct SentFile {
    /// libmicrohttpd's, until the answer is through.
    let descriptor: Int32
    let connection: OpaquePointer
    private let sight: FileSight
    /// What the client had on this connection before; `nil` also where that is not asked.
    let acknowledgedBefore: Int64?
    /// Among those that its loop sends.
    fileprivate(set) var place = 0
    fileprivate(set) var isBroken = false

    /// Up to here all goes into the socket at once: to ask what the client has of it if it is broken off costs more than it tells.
    private static let shortBytes = 256 << 10

    init(_ descriptor: Int32, _ connection: OpaquePointer, _ range: Range<Int64>, _ status: stat) {
        self.descriptor = descriptor
        self.connection = connection
        sight = FileSight(status, end: range.upperBound)
        acknowledgedBefore = range.count > Self.shortBytes ? acknowledgedBytes(connection) : nil
    }

    fileprivate var isAsItWas: Bool { sight.holds(of: descriptor) }
}

/// The answers of a loop that are being sent from files.
///
/// libmicrohttpd 0.9.75 takes the early end of a file for a client that is slow: the connection would stay until it times out. So the loop looks
/// at the files now and then, and breaks the connections of those that were cut short or written to.
struct SentFiles {
    private static let pauseNanoseconds: UInt64 = 250_000_000

    private var exchanges: [Exchange] = []
    private var nextLook: UInt64 = 0

    mutating func began(_ exchange: Exchange) {
        exchange.sentFile?.place = exchanges.count
        exchanges.append(exchange)
    }

    mutating func ended(_ exchange: Exchange) {
        guard let place = exchange.sentFile?.place else { return }
        let last = exchanges.removeLast()
        guard last !== exchange else { return }
        exchanges[place] = last
        last.sentFile?.place = place
    }

    /// When to look at them; `nil` when nothing is sent.
    var next: UInt64? { exchanges.isEmpty ? nil : nextLook }

    mutating func look(now: UInt64) {
        guard let next, next <= now else { return }
        nextLook = now + Self.pauseNanoseconds
        for exchange in exchanges {
            guard let file = exchange.sentFile, !file.isBroken, !file.isAsItWas else { continue }
            exchange.sentFile?.isBroken = true
            // libmicrohttpd sees a client that hung up; the client sees that the body is not whole.
            shutdown(forebay_mhd_socket(file.connection), Int32(SHUT_RDWR))
        }
    }
}
