internal import CMicroHTTPD
internal import Glibc
internal import System

/// A file whose bytes are an answer's body, while libmicrohttpd sends them.
struct SentFile {
    /// libmicrohttpd's, until the answer is through.
    let descriptor: Int32
    /// What it was when its bytes were known to be right.
    private let status: FileStatus
    private let part: Range<Int64>
    /// What the client had on this connection before; `nil` also where that is not asked.
    let acknowledgedBefore: Int64?
    fileprivate(set) var isBroken = false

    /// Up to here all goes into the socket at once: to ask what the client has of it if it is broken off costs more than it tells.
    private static let shortBytes: Int64 = 256 << 10
    /// At most so much goes into the socket at once. libmicrohttpd asks for 128 KiB where it does not have a thread for each connection: a tenth
    /// more CPU.
    private static let pieceBytes: Int64 = 1 << 20

    init(_ descriptor: Int32, _ status: FileStatus, _ connection: OpaquePointer, offset: Int64, length: Int64) {
        self.descriptor = descriptor
        self.status = status
        part = offset..<offset + length
        acknowledgedBefore = length > Self.shortBytes ? acknowledgedBytes(connection) : nil
    }

    /// Sends at least what is asked for, and more where there is. A file that was cut short or touched ends its connection: libmicrohttpd 0.9.75
    /// takes the early end of a file for a client that is slow, and would wait.
    fileprivate mutating func send(to socket: Int32, from offset: UnsafeMutablePointer<Int>, _ asked: Int) -> Int {
        // The first piece follows at once on the look with which the answer began.
        guard Int64(offset.pointee) == part.lowerBound || status.stillDescribes(descriptor) else { return breakOff() }
        let rest = part.upperBound - Int64(offset.pointee)
        // The last piece is libmicrohttpd's: with that it has the socket's last bytes go out at once.
        let wanted = max(asked, Int(min(Self.pieceBytes, rest - Int64(asked))))
        let sent = sendfile(socket, descriptor, offset, wanted)
        guard sent >= 0, sent < wanted, !status.stillDescribes(descriptor) else { return sent }
        return breakOff()
    }

    /// The error that has libmicrohttpd close the connection: the client sees that the body is not whole.
    private mutating func breakOff() -> Int {
        isBroken = true
        errno = EBADF
        return -1
    }
}

/// The answers of a loop that are being sent from files.
struct SentFiles {
    /// Whether libmicrohttpd finds ``sendPiece(_:_:_:_:)``; where it does not, files are sent as streams.
    static let isCalled = dlsym(nil, "sendfile64") == unsafeBitCast(address, to: UnsafeMutableRawPointer.self)
    private static let address: @convention(c) (Int32, Int32, UnsafeMutablePointer<Int>?, Int) -> Int = sendPiece

    private var byDescriptor: [Exchange?] = []
    private var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func began(_ exchange: Exchange, _ file: SentFile) {
        let missing = Int(file.descriptor) + 1 - byDescriptor.count
        if missing > 0 { byDescriptor.append(contentsOf: repeatElement(nil, count: missing)) }
        exchange.sentFile = file
        byDescriptor[Int(file.descriptor)] = exchange
        count += 1
    }

    mutating func ended(_ exchange: Exchange) {
        guard let file = exchange.sentFile else { return }
        count -= 1
        // An answer that was not taken has its descriptor closed before its request ends.
        if self[file.descriptor] === exchange { byDescriptor[Int(file.descriptor)] = nil }
    }

    fileprivate subscript(_ descriptor: Int32) -> Exchange? {
        byDescriptor.indices.contains(Int(descriptor)) ? byDescriptor[Int(descriptor)] : nil
    }
}

/// `sendfile(2)`, as libmicrohttpd calls it: a name that the executable defines comes before those of all libraries (`ld.so(8)`).
@c(sendfile64)
public func sendPiece(_ socket: Int32, _ file: Int32, _ offset: UnsafeMutablePointer<Int>?, _ count: Int) -> Int {
    guard let offset, let exchange = EventLoop.current?.sentFiles[file],
        let sent = exchange.sentFile?.send(to: socket, from: offset, count)
    else { return sendfile(socket, file, offset, count) }
    return sent
}

extension FileStatus {
    /// Nobody has touched the file with that descriptor since, as far as can be told.
    func stillDescribes(_ descriptor: Int32) -> Bool {
        guard let now = FileStatus(of: descriptor) else { return false }
        return stillDescribes(now)
    }
}
