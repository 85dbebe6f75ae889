internal import CGlibc
internal import Glibc
internal import Synchronization
internal import System

/// At most so much of a file goes into a socket at once. libmicrohttpd asks for 128 KiB where it does not have a thread for each connection: a tenth more
/// CPU.
let filePieceBytes = 2 << 20

/// Sends so many bytes of a file, or fewer where it ends, and then without an error (`sendfile(2)`): how many went, and why no more did; `EAGAIN` where
/// the socket is full.
func sendFile(to socket: Int32, from file: Int32, at offset: Int, _ count: Int) -> (sent: Int, code: Int32) {
    var position = offset
    while position < offset + count {
        let sent = sendfile(socket, file, &position, offset + count - position)
        if sent > 0 { continue }
        let code = sent == 0 ? 0 : errno
        if code == EINTR { continue }
        if code == EINVAL || code == EOPNOTSUPP { SentFiles.isUsable.store(false, ordering: .relaxed) }
        return (position - offset, code)
    }
    return (count, 0)
}

/// Sends what waits for more to come (`TCP_NODELAY` of `tcp(7)`).
func push(_ socket: Int32) {
    var yes: Int32 = 1
    setsockopt(socket, Int32(IPPROTO_TCP), TCP_NODELAY, &yes, socklen_t(MemoryLayout<Int32>.size))
}

/// The answers of a loop that are being sent from files.
struct SentFiles {
    /// Whether libmicrohttpd finds ``sendPiece(_:_:_:_:)``, and the cache's volume knows `sendfile(2)`; where not, files are sent as streams.
    static let isUsable = Atomic(dlsym(nil, "sendfile64") == unsafeBitCast(address, to: UnsafeMutableRawPointer.self))
    private static let address: @convention(c) (Int32, Int32, UnsafeMutablePointer<Int>?, Int) -> Int = sendPiece

    private var streams: [FileStream?] = []
    private var free: [Int] = []

    var isEmpty: Bool { free.count == streams.count }

    /// - Returns: what to give libmicrohttpd for a descriptor: it only hands it back here, and closes it in the end, which does nothing, as no file
    ///   has a negative one (-1 stands for none).
    mutating func began(_ stream: FileStream) -> Int32 {
        let index = free.popLast() ?? streams.count
        if index == streams.count { streams.append(nil) }
        streams[index] = stream
        return Int32(-2 - index)
    }

    mutating func ended(_ token: Int32) {
        streams[-2 - Int(token)] = nil
        free.append(-2 - Int(token))
    }

    fileprivate subscript(_ token: Int32) -> FileStream? {
        streams.indices.contains(-2 - Int(token)) ? streams[-2 - Int(token)] : nil
    }
}

/// `sendfile(2)`, as libmicrohttpd calls it: a name that the executable defines comes before those of all libraries (`ld.so(8)`).
///
/// After `EBADF` libmicrohttpd closes the connection. After others it would go on by reading, and where it got less than it asked for, wait for room in the
/// socket.
@c(sendfile64)
public func sendPiece(_ socket: Int32, _ file: Int32, _ offset: UnsafeMutablePointer<Int>?, _ count: Int) -> Int {
    guard let offset, let stream = EventLoop.current?.sentFiles[file] else {
        return sendfile(socket, file, offset, count)
    }
    let (sent, code) = stream.send(to: socket, at: offset.pointee, count)
    guard sent > 0, code != EBADF else {
        errno = code
        return -1
    }
    return sent
}
