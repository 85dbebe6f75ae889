public import System

/// An answer.
public struct Response {
    public enum Body {
        case empty
        case bytes([UInt8])
        /// A part of a file, by `sendfile(2)` when it is in memory. Its status is of when its bytes were known to be right:
        /// who touches it after that, also before the answer begins, breaks the answer.
        case file(File, FileStatus, offset: Int64, length: Int64)
        /// Bytes that arrive while they are sent.
        case stream(length: Int64, any BodyProducer)
        /// The same, of a length that nobody knows: a producer that appends nothing ends the body.
        case chunked(any BodyProducer)
        /// The answer to a HEAD: this length is announced, nothing is sent.
        case withheld(length: Int64)
    }

    public var status: Int
    public var headers: [(name: String, value: String)]
    public var body: Body

    public init(status: Int, headers: [(name: String, value: String)] = [], body: Body = .empty) {
        self.status = status
        self.headers = headers
        self.body = body
    }
}

/// The source of a streamed body.
public protocol BodyProducer: AnyObject {
    /// Appends at least one byte of the body from `offset` on; may wait for it. An error breaks the connection, and so does nothing where the
    /// length was announced: the client sees that the body is not whole. A producer goes when the answer is through or the client is gone.
    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws
    /// Asked first, on a thread that many connections share: appends what can be had without waiting for anything. Nothing leaves it to
    /// ``produce(at:into:)``.
    func produceAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>)
    /// A file that the bytes of the body lie in, or come to lie in, each at its own offset, unless something happens to it: what is there is sent from it by
    /// `sendfile(2)`. Only what it does not get is then asked for by ``produce(at:into:)``.
    var file: File? { get }
    /// How many bytes of the body are in the file from `offset` on; asked on a thread that many connections share.
    func countInFile(from offset: Int64) -> Int64
    /// Waits for such bytes; false when they do not come.
    func waitForFile(at offset: Int64) -> Bool
}

extension BodyProducer {
    public func produceAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {}
    public var file: File? { nil }
    public func countInFile(from offset: Int64) -> Int64 { 0 }
    public func waitForFile(at offset: Int64) -> Bool { false }
}

/// What takes a request's body in.
public protocol BodyReceiver: AnyObject {
    /// The next piece. An error is to be remembered for ``finish()``: the rest of the body comes all the same.
    func receive(_ bytes: Span<UInt8>)
    /// The body is complete. Exactly one of this and ``abandon()`` ends a receiver.
    func finish() -> Response
    /// The client is gone.
    func abandon()
}

/// Takes a body into memory.
public final class CollectedBody: BodyReceiver {
    private let limitBytes: Int
    private let complete: ([UInt8]?) -> Response
    private var bytes: [UInt8]? = []

    /// - Parameter complete: gets `nil` when more than `limitBytes` came.
    public init(limitBytes: Int, complete: @escaping ([UInt8]?) -> Response) {
        self.limitBytes = limitBytes
        self.complete = complete
    }

    public func receive(_ piece: Span<UInt8>) {
        guard let count = bytes?.count, count + piece.count <= limitBytes else {
            bytes = nil
            return
        }
        bytes?.append(piece)
    }

    public func finish() -> Response { complete(bytes) }
    public func abandon() {}
}

/// How a request goes on.
public enum Reply {
    /// Answer now. If the body of the request was not read, the connection is closed after the answer.
    case respond(Response)
    /// Take the body in first; a request without one finishes at once.
    case receive(any BodyReceiver)
}

/// An answer that was there already.
public enum ReadyAnswer {
    case prepared(PreparedResponse)
    case response(Response)
}

/// What answers requests.
public protocol RequestHandler: Sendable {
    /// Called when the header section is in and in order, on a thread of the request's own: this may block, and so may what it returns.
    func handle(_ request: Request) -> Reply
    /// Asked first for a request without a body, on a thread that many connections share: this must not wait for anything. `nil` leaves it
    /// to ``handle(_:)``.
    func answerAtOnce(_ request: Request) -> ReadyAnswer?
    /// The answer to a request that is refused for its form, or since the server is stopping.
    func refusal(of request: Request, status: Int, reason: String) -> Response
    /// Called once for each request, when it is through, whatever became of it, on a thread that many connections share. Its headers can still
    /// be read.
    func ended(_ request: Request, _ end: ExchangeEnd)
}

extension RequestHandler {
    public func answerAtOnce(_ request: Request) -> ReadyAnswer? { nil }
    public func ended(_ request: Request, _ end: ExchangeEnd) {}
}

/// How a request ended.
public struct ExchangeEnd: Sendable {
    /// 499 when the client left before there was an answer.
    public let status: Int
    /// Of the request's body, as far as it was taken in.
    public let receivedBytes: Int64
    /// Of the answer's body: of one that was broken off, about as many as the client has, and none if it was short.
    public let bodyBytes: Int64
    /// From the request line to the last byte of the answer.
    public let nanoseconds: UInt64
    /// The whole answer went out.
    public let isComplete: Bool
    /// It was broken off here, since the rest of its body could not be had.
    public let isBroken: Bool
}
