public import System

/// An answer.
public struct Response {
    public enum Body {
        case empty
        case bytes([UInt8])
        /// A part of a file, by `sendfile(2)`. The file is given away.
        case file(File, offset: Int64, length: Int64)
        /// Bytes that arrive while they are sent.
        case stream(length: Int64, any BodyProducer)
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
    /// Appends at least one byte of the body from `offset` on; may wait for it. An error, or nothing, breaks the connection: the client
    /// sees that the body is not whole.
    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws
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

/// How a request goes on.
public enum Reply {
    /// Answer now. If the body of the request was not read, the connection is closed after the answer.
    case respond(Response)
    /// Take the body in first; a request without one finishes at once.
    case receive(any BodyReceiver)
}

/// What answers requests. Each connection has a thread, so all of it may block.
public protocol RequestHandler: Sendable {
    /// Called when the header section is in and in order.
    func handle(_ request: Request) -> Reply
    /// The answer to a request that is refused for its form.
    func refusal(status: Int, reason: String) -> Response
}
