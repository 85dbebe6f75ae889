internal import CMicroHTTPD
internal import Glibc
internal import System

/// A body that lies in a file, or comes to lie there while it is sent: what is there and in memory goes out by `sendfile(2)`, and for the rest a thread
/// waits while the connection is suspended. What the file does not have is produced as for a ``BodyStream``.
///
/// Sendable because one thread at a time has it, as its exchange.
final class FileStream: StreamedBody, @unchecked Sendable {
    private enum State {
        case idle
        /// Bytes that are not taken from the file, and how many of them are sent.
        case produced([UInt8], sent: Int)
        case failed
    }

    private let file: File
    /// Where the body begins in the file.
    private let start: Int
    private let length: Int64
    /// The file's name at libmicrohttpd.
    private var token: Int32 = -1
    private(set) var produced: Int64 = 0
    private(set) var hasFailed = false
    private let producer: any BodyProducer
    private let connection: OpaquePointer
    private let exchange: Exchange
    private var state = State.idle
    /// Where the bytes of the body end that lay in memory.
    private var inMemory = 0
    private lazy var block = StreamBlock(for: length)

    init(
        _ producer: any BodyProducer,
        _ file: File,
        from start: Int64,
        _ length: Int64,
        _ connection: OpaquePointer,
        _ exchange: Exchange
    ) {
        self.producer = producer
        self.file = file
        self.start = Int(start)
        self.length = length
        self.connection = connection
        self.exchange = exchange
    }

    func make() -> OpaquePointer? {
        token = exchange.loop.sentFiles.began(self)
        guard let made = MHD_create_response_from_fd_at_offset64(UInt64(length), token, UInt64(start)) else {
            ended()
            return nil
        }
        exchange.stream = self
        return made
    }

    func ended() { exchange.loop.sentFiles.ended(token) }

    /// Sends what libmicrohttpd asks for, and more where there is. Fewer bytes it takes for a full socket, and waits for its room: where it is the bytes
    /// that are missing, the connection is suspended.
    ///
    /// - Parameter offset: in the file.
    /// - Returns: how many went, and why no more did, if they are fewer: `EAGAIN`, or `EBADF` where there is no more to come.
    func send(to socket: Int32, at offset: Int, _ asked: Int) -> (sent: Int, code: Int32) {
        exchange.isBack(connection)
        let position = offset - start
        var (sent, code) = (0, Int32(0))
        while sent < asked, code == 0 {
            let next = sendNext(to: socket, at: position + sent)
            sent += next.sent
            code = next.code
        }
        produced = Int64(position + sent)
        // libmicrohttpd does so itself with the last bytes that it asks for.
        if sent > asked, produced == length { push(socket) }
        return (sent, code)
    }

    private func sendNext(to socket: Int32, at position: Int) -> (sent: Int, code: Int32) {
        switch state {
        case .failed:
            return (0, fail())
        case .produced(let bytes, let before):
            let sent = bytes.withUnsafeBytes { bytes in
                Glibc.send(socket, bytes.baseAddress! + before, bytes.count - before, Int32(MSG_NOSIGNAL))
            }
            guard sent > 0 else { return (0, errno == EAGAIN || errno == EINTR ? EAGAIN : EBADF) }
            state = before + sent < bytes.count ? .produced(bytes, sent: before + sent) : .idle
            return (sent, 0)
        case .idle:
            let count = min(Int(producer.countInFile(from: Int64(position))), filePieceBytes)
            guard count > 0, isInMemory(position..<position + count) else {
                return (0, fetch(at: position, socket, waits: count == 0))
            }
            let (sent, code) = sendFile(to: socket, from: file.descriptor, at: start + position, count)
            switch code {
            case 0 where sent == count, EAGAIN: return (sent, code)
            case EPIPE, ECONNRESET: return (sent, EBADF)
            // It is shorter than it was, cannot be read, or its volume does not know `sendfile(2)`.
            default: return (sent, fetch(at: position + sent, socket, waits: false))
            }
        }
    }

    /// What was found there once is not looked for again.
    private func isInMemory(_ part: Range<Int>) -> Bool {
        let first = max(part.lowerBound, inMemory)
        guard first < part.upperBound else { return true }
        guard HTTPServer.isInMemory(file, Int64(start + first), Int64(part.upperBound - first)) else { return false }
        inMemory = part.upperBound
        return true
    }

    /// Has a thread wait until there is more in the file, or produce what it does not get.
    private func fetch(at position: Int, _ socket: Int32, waits: Bool) -> Int32 {
        guard !exchange.loop.refusesWork else { return fail() }
        // libmicrohttpd has the socket keep what does not fill a segment until more comes.
        push(socket)
        _ = exchange.handOver(connection) { [self] _ in
            if waits, producer.waitForFile(at: Int64(position)) { return }
            state = produce(at: Int64(position)).map { .produced($0, sent: 0) } ?? .failed
        }
        return EAGAIN
    }

    private func produce(at position: Int64) -> [UInt8]? {
        let room = Int(min(Int64(block.bytes), length - position))
        // The producer has said why; a broken connection is all that can still be told the client.
        let bytes = try? [UInt8](capacity: room) { buffer in try producer.produce(at: position, into: &buffer) }
        return bytes?.isEmpty == false ? bytes : nil
    }

    private func fail() -> Int32 {
        hasFailed = true
        return EBADF
    }
}
