internal import CMicroHTTPD
internal import Glibc
internal import Synchronization
public import System
internal import Threading

/// Limits and the address of a server.
public struct ServerConfiguration: Sendable {
    /// Where a server listens.
    public enum Address: Sendable {
        /// A name or an address, IPv6 without brackets. Port 0 takes any free one.
        case tcp(host: String, port: UInt16)
        /// A socket in the file system that only its owner may connect to. What lies at the path is replaced: the caller sees to it that no
        /// other server listens there.
        case unixSocket(SocketPath)
    }

    public var address: Address
    /// More are closed at once.
    public var connectionLimit = 4096
    /// From one client address; 0 is no limit.
    public var connectionsPerAddressLimit = 0
    /// A connection that neither sends nor takes a byte for so long is closed.
    public var idleTimeoutSeconds = 60
    /// Of a request's path and headers together.
    public var headerLimitBytes = 32 << 10
    /// What libmicrohttpd reads headers and pieces of bodies into, for each connection; larger ones cost time on every request.
    public var connectionMemoryBytes = 64 << 10
    public var threadStackBytes = 512 << 10
    /// Connections that wait to be accepted.
    public var backlog = 1024

    public init(host: String, port: UInt16) {
        address = .tcp(host: host, port: port)
    }

    public init(unixSocket path: SocketPath) {
        address = .unixSocket(path)
    }
}

/// Why a server could not start.
public struct ServerError: Error, CustomStringConvertible {
    public let operation: String
    public let address: String
    /// `errno`, or a code of `getaddrinfo(3)` below zero.
    public let code: Int32

    public var isAddressInUse: Bool { code == EADDRINUSE }

    public var description: String {
        "\(operation) \(address): \(code < 0 ? String(cString: gai_strerror(code)) : String(cString: strerror(code)))"
    }
}

/// An HTTP/1.1 server on one address.
public final class Server: Sendable {
    /// The port that it listens on; 0 for a Unix-domain socket.
    public let port: UInt16
    private let exchanges: Exchanges
    private let daemon: DaemonHandle
    private let unixSocket: SocketPath?
    private let isStopped = Atomic(false)

    /// Listens and answers from now on (`MHD_start_daemon`).
    ///
    /// The threading mode is chosen here and nowhere else: a thread for each connection, over `poll`.
    public init(_ configuration: ServerConfiguration, handler: any RequestHandler) throws(ServerError) {
        ignoreBrokenPipes()
        let socket = try ListeningSocket(configuration)
        port = socket.port
        let exchanges = Exchanges(handler: handler, headerLimitBytes: configuration.headerLimitBytes)
        self.exchanges = exchanges
        var options = forebay_mhd_options(
            connection_limit: UInt32(configuration.connectionLimit),
            connections_per_address: UInt32(configuration.connectionsPerAddressLimit),
            idle_timeout_seconds: UInt32(configuration.idleTimeoutSeconds),
            connection_memory_bytes: configuration.connectionMemoryBytes,
            thread_stack_bytes: configuration.threadStackBytes,
            listen_socket: socket.descriptor
        )
        let daemon = forebay_mhd_start(
            forebay_mhd_thread_per_connection,
            &options,
            onAccess,
            onCompleted,
            onTarget,
            Unmanaged.passUnretained(exchanges).toOpaque()
        )
        guard let daemon else {
            let code = errno
            close(socket.descriptor)
            throw ServerError(
                operation: "MHD_start_daemon",
                address: socket.address,
                code: code == 0 ? EINVAL : code
            )
        }
        self.daemon = DaemonHandle(daemon)
        unixSocket = if case .unixSocket(let path) = configuration.address { path } else { nil }
    }

    /// Connections that are open now.
    public var connections: Int { Int(forebay_mhd_connections(daemon.pointer)) }

    /// Requests that are being answered now.
    public var requestsInFlight: Int { exchanges.inFlight }

    /// Stops accepting, lets the requests in flight finish, and closes the connections.
    ///
    /// - Returns: false when requests were still in flight after `limit`; then the process has to end to be rid of them.
    @discardableResult
    public func stop(drain limit: Duration) -> Bool {
        guard !isStopped.exchange(true, ordering: .relaxed) else { return true }
        let socket = MHD_quiesce_daemon(daemon.pointer)
        // Refuses new connections now; closed only when no thread of the daemon can look at it any more.
        if socket >= 0 { shutdown(socket, Int32(SHUT_RDWR)) }
        if let unixSocket { unlink(unixSocket.address) }
        guard exchanges.drain(.after(limit)) else { return false }
        MHD_stop_daemon(daemon.pointer)
        if socket >= 0 { close(socket) }
        return true
    }
}

/// Sendable because the functions called on it are thread-safe (libmicrohttpd manual, "Thread modes").
private struct DaemonHandle: @unchecked Sendable {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
    }
}
