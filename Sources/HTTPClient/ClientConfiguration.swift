public import System

/// The limits of a ``Client``. The defaults suit an object store, in the next rack or on another continent.
public struct ClientConfiguration: Sendable {
    /// For name lookup, TCP and TLS together.
    public var connectTimeoutMilliseconds = 5_000
    /// A transfer that moves less than this, over ``stallSeconds``, in both directions, is ended as stalled; so is a server that thinks
    /// for that long before it answers.
    public var stallBytesPerSecond = 1_024
    public var stallSeconds = 30
    /// For a whole transfer, connecting included and the wait for a free handle not; `nil` is no limit but the stall limit.
    public var totalTimeoutMilliseconds: Int?
    /// Transfers at once. Further callers wait.
    public var maxConnections = 64
    /// So many of them are for requests that only read (GET, HEAD): those that write, however many they are, take the others.
    public var connectionsForReads = 0
    /// How long a caller waits for one of the transfers to end.
    public var admissionTimeoutMilliseconds = 60_000
    /// Connections that one handle keeps: one for each server that is used in turn.
    public var keptConnectionsPerHandle = 2
    /// A connection that has been idle for longer is not used again. Servers close theirs after 5 to 120 seconds.
    public var maxConnectionIdleSeconds = 20
    /// What is read from a connection at a time. Memory: one for each transfer that runs. Receivers still get pieces of at most 16 KiB.
    public var receiveBufferBytes = 512 << 10
    /// What is asked of a ``BodySource`` at a time; at most 2 MiB. Memory: one for each upload that runs.
    public var uploadBufferBytes = 1 << 20
    /// For the lines of a request, and for those of its response with all interim responses.
    public var headerLimitBytes = 64 << 10
    /// A PEM file of the only authorities to trust; `nil` trusts the system's. Certificates are always verified.
    public var certificateAuthorityFile: String?
    public var userAgent = "forebay"
    /// Connect to this Unix-domain socket, whatever the URL's host (`CURLOPT_UNIX_SOCKET_PATH(3)`).
    public var unixSocket: SocketPath?
    public var proxy = Proxy.environment

    public init() {}

    func check() {
        precondition(connectTimeoutMilliseconds > 0 && admissionTimeoutMilliseconds > 0)
        precondition(stallBytesPerSecond > 0 && stallSeconds > 0 && maxConnectionIdleSeconds > 0)
        precondition(totalTimeoutMilliseconds.map { $0 > 0 } ?? true)
        precondition(maxConnections > 0 && keptConnectionsPerHandle > 0)
        precondition((0..<maxConnections).contains(connectionsForReads))
        precondition((16 << 10...512 << 10).contains(receiveBufferBytes))
        precondition((16 << 10...2 << 20).contains(uploadBufferBytes))
        precondition(headerLimitBytes > 0)
    }
}

/// The way to a server.
public enum Proxy: Sendable, Equatable {
    /// As `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say (`CURLOPT_PROXY(3)`).
    case environment
    case none
    /// For every request.
    case url(String)
}

/// Counts since a ``Client`` was made.
public struct ClientStatistics: Sendable, Equatable {
    /// Requests that were tried, whatever came of them.
    public var transfers = 0
    /// Those of them that ended in an error.
    public var failures = 0
    /// `CURLINFO_NUM_CONNECTS`, summed.
    public var connectionsOpened = 0
    /// Transfers that needed no new connection.
    public var connectionsReused = 0
    /// Requests sent again because a kept connection was dead.
    public var repeats = 0
    /// Body bytes of requests.
    public var bytesSent = 0
    /// Body bytes of responses.
    public var bytesReceived = 0

    public init() {}
}
