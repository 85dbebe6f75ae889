internal import CMicroHTTPD
internal import Glibc
internal import System

/// A file whose bytes are an answer's body, while libmicrohttpd sends them.
struct SentFile {
    /// libmicrohttpd's, until the answer is through.
    let descriptor: Int32
    let connection: OpaquePointer
    /// What it was when its bytes were known to be right.
    private let status: FileStatus
    /// What the client had on this connection before; `nil` also where that is not asked.
    let acknowledgedBefore: Int64?
    /// Among those that its loop sends.
    fileprivate(set) var place = 0
    fileprivate(set) var isBroken = false

    /// Up to here all goes into the socket at once: to ask what the client has of it if it is broken off costs more than it tells.
    private static let shortBytes = 256 << 10

    init(_ descriptor: Int32, _ status: FileStatus, _ connection: OpaquePointer, length: Int64) {
        self.descriptor = descriptor
        self.status = status
        self.connection = connection
        acknowledgedBefore = length > Self.shortBytes ? acknowledgedBytes(connection) : nil
    }

    fileprivate var isAsItWas: Bool { status.stillDescribes(descriptor) }
}

/// The answers of a loop that are being sent from files.
///
/// libmicrohttpd 0.9.75 takes the early end of a file for a client that is slow: the connection would stay until it times out. So the loop looks
/// at the files now and then, and breaks the connections of those that were cut short or touched.
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

extension FileStatus {
    /// Nobody has touched the file with that descriptor since, as far as can be told.
    func stillDescribes(_ descriptor: Int32) -> Bool {
        guard let now = FileStatus(of: descriptor) else { return false }
        return stillDescribes(now)
    }
}
