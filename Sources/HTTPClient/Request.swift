/// A request as it goes on the wire.
public struct Request: Sendable {
    public var method: String
    /// Absolute, `http` or `https`, percent-encoded; path and query are sent as they stand here, dots and slashes included.
    public var url: String
    /// Sent in this order. An empty value is sent as an empty value.
    ///
    /// `Content-Length` comes from the body: one given here must agree with it. `Transfer-Encoding`, `Expect` and `Trailer` are
    /// refused.
    public var headers: [(name: String, value: String)]
    public var body: Body
    /// Whether the same request may be sent twice (RFC 9110, section 9.2.2): only then is it repeated when a kept connection turns
    /// out dead. Set from the method; a caller who knows better may change it.
    public var isIdempotent: Bool
    /// Takes the place of ``ClientConfiguration/totalTimeoutMilliseconds``.
    public var totalTimeoutMilliseconds: Int?
    /// Takes the place of ``ClientConfiguration/stallSeconds``, for a request that the server thinks about for long.
    public var stallSeconds: Int?

    public init(
        _ method: String,
        _ url: String,
        headers: [(name: String, value: String)] = [],
        body: Body = .none
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        isIdempotent = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"].contains(method)
    }
}

/// What a request carries.
public enum Body: Sendable {
    case none
    case bytes([UInt8])
    case source(any BodySource)

    /// In bytes.
    public var length: Int64 {
        switch self {
        case .none: 0
        case .bytes(let bytes): Int64(bytes.count)
        case .source(let source): source.length
        }
    }
}

/// Bytes that can be read again from any offset: a resent request starts over.
public protocol BodySource: Sendable {
    /// In bytes; the same for as long as a request uses the source.
    var length: Int64 { get }

    /// Appends at least one byte from `offset` on, as many as there is room for if it can; returns how many.
    ///
    /// Called on the thread that performs the request, with `offset` below `length`. `buffer` never has more room than there are
    /// bytes left. Returning 0 ends the request with ``SourceEndedEarly``.
    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws -> Int
}

/// A ``BodySource`` had fewer bytes than its length.
public struct SourceEndedEarly: Error, Equatable {
    public let offset: Int64
    public let length: Int64

    public init(offset: Int64, length: Int64) {
        self.offset = offset
        self.length = length
    }
}
