/// A transfer that did not end with a whole response: what was asked, how far it came, and libcurl's code.
///
/// Holds no secret: of the URL only scheme, host, port and path are kept, and no header.
public struct TransferError: Error, Sendable, CustomStringConvertible {
    public enum Kind: Sendable {
        /// The request or the configuration cannot be used as it is; nothing was sent.
        case invalid
        /// The client was closed.
        case closed
        /// `isCancelled` said so.
        case cancelled
        case resolve
        case connect
        /// The proxy at this address answered CONNECT with this status.
        case tunnel(status: Int, proxy: String)
        /// The handshake failed, or the certificate was not accepted.
        case tls
        case timeout(Phase)
        /// Too few bytes for too long.
        case stalled
        /// The connection broke while the request was being sent.
        case sendFailed
        /// The connection broke before the head of the response was whole, or with an error within the body.
        case receiveFailed
        /// The connection ended before the body was whole.
        case shortBody
        /// No HTTP, a head that is too long, or an answer that cannot be true.
        case badResponse
        /// The body is longer than the caller wants.
        case bodyLimit
        /// `onHead` or `receive` threw.
        case receiver(any Error)
        /// The ``BodySource`` threw.
        case source(any Error)
        case other
    }

    public enum Phase: String, Sendable {
        /// Waiting for a free handle.
        case admission
        case connect
        case total
    }

    /// Method and URL, the latter without query, fragment and user.
    public let operation: String
    public let kind: Kind
    /// The `CURLcode`; 0 when it was not libcurl that failed.
    public let code: Int32
    /// What libcurl says about it.
    public let detail: String
    /// False: the request was never sent. True: the server began to answer. `nil`: not known, the server may have acted on it.
    public let reachedServer: Bool?
    /// Of the response's body.
    public let bytesReceived: Int64

    public init(
        _ operation: String,
        _ kind: Kind,
        code: Int32 = 0,
        detail: String = "",
        reachedServer: Bool? = false,
        bytesReceived: Int64 = 0
    ) {
        self.operation = operation
        self.kind = kind
        self.code = code
        self.detail = detail
        self.reachedServer = reachedServer
        self.bytesReceived = bytesReceived
    }

    /// The network or the server failed, not the caller, the configuration or the trust in a certificate: a later attempt may succeed.
    public var isConnectionLevel: Bool {
        switch kind {
        case .timeout(.admission): false
        case .resolve, .connect, .timeout, .stalled, .sendFailed, .receiveFailed, .shortBody: true
        case .tunnel(let status, _): status != 407
        case .tls: code == tlsHandshakeFailed
        case .invalid, .closed, .cancelled, .badResponse, .bodyLimit, .receiver, .source, .other: false
        }
    }

    public var description: String {
        var text = "\(operation): \(kindText)"
        if !detail.isEmpty { text += ": \(detail)" }
        if code != 0 { text += " (curl \(code))" }
        if bytesReceived > 0 { text += " after \(bytesReceived) bytes" }
        return text
    }

    private var kindText: String {
        switch kind {
        case .invalid: "cannot be sent"
        case .closed: "the client is closed"
        case .cancelled: "cancelled"
        case .resolve: "name lookup failed"
        case .connect: "cannot connect"
        case .tunnel(let status, let proxy): "proxy \(proxy) refused the connection with status \(status)"
        case .tls: "TLS failed"
        case .timeout(let phase): "timeout (\(phase.rawValue))"
        case .stalled: "stalled"
        case .sendFailed: "sending failed"
        case .receiveFailed: "receiving failed"
        case .shortBody: "the body is cut short"
        case .badResponse: "not a usable response"
        case .bodyLimit: "the body is too long"
        case .receiver(let error): "the receiver failed: \(error)"
        case .source(let error): "reading the body failed: \(error)"
        case .other: "failed"
        }
    }
}
