internal import CGlibc
internal import Glibc
internal import Synchronization
internal import System

/// A file whose bytes are an answer's body, while libmicrohttpd sends them.
struct SentFile {
    /// libmicrohttpd's, until the answer is through.
    let descriptor: Int32
    /// What it was when its bytes were known to be right.
    private let status: FileStatus
    private let part: Range<Int64>
    /// How much of the part went into the socket.
    private(set) var given: Int64 = 0
    private(set) var isBroken = false

    /// At most so much goes into the socket at once. libmicrohttpd asks for 128 KiB where it does not have a thread for each connection: a tenth
    /// more CPU.
    private static let pieceBytes = 2 << 20

    init(_ descriptor: Int32, _ status: FileStatus, offset: Int64, length: Int64) {
        self.descriptor = descriptor
        self.status = status
        part = offset..<offset + length
    }

    /// Sends what is asked for, and more where there is. A file that was cut short or touched ends its connection.
    fileprivate mutating func send(to socket: Int32, from offset: UnsafeMutablePointer<Int>, _ asked: Int) -> Int {
        guard status.stillDescribes(descriptor) else { return breakOff() }
        let rest = Int(part.upperBound) - offset.pointee
        let wanted = max(asked, min(Self.pieceBytes, rest))
        defer { given = Int64(offset.pointee) - part.lowerBound }
        var sent = 0
        while sent < wanted {
            let count = sendfile(socket, descriptor, offset, wanted - sent)
            guard count <= 0 else {
                sent += count
                continue
            }
            guard count < 0 else { return breakOff() }
            guard errno == EAGAIN || errno == EINTR else { return breakOff(errno) }
            return sent > 0 ? sent : -1
        }
        // libmicrohttpd does so itself with the last bytes that it asks for.
        if wanted == rest, rest > asked { Self.push(socket) }
        return sent
    }

    /// Sends what waits for more to come (`TCP_NODELAY` of `tcp(7)`).
    private static func push(_ socket: Int32) {
        var yes: Int32 = 1
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
    }

    /// The error that has libmicrohttpd close the connection: the client sees that the body is not whole. After others it would go on by reading,
    /// and where it got less than it asked for, wait for room in the socket.
    private mutating func breakOff(_ code: Int32 = EIO) -> Int {
        // Others are of the connection.
        isBroken = code == EIO
        if code == EINVAL || code == EOPNOTSUPP { SentFiles.isUsable.store(false, ordering: .relaxed) }
        errno = EBADF
        return -1
    }
}

/// The answers of a loop that are being sent from files.
struct SentFiles {
    /// Whether libmicrohttpd finds ``sendPiece(_:_:_:_:)``, and the cache's volume knows `sendfile(2)`; where not, files are sent as streams.
    static let isUsable = Atomic(dlsym(nil, "sendfile64") == unsafeBitCast(address, to: UnsafeMutableRawPointer.self))
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
