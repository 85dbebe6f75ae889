internal import CGlibc
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
    public var headerLimitBytes = 8 << 10
    /// Threads that drive connections; `nil` takes one for each processor that the caller may use.
    public var loops: Int?
    /// Of the threads that handlers may block.
    public var threadStackBytes = 512 << 10
    /// Connections that wait to be accepted.
    public var backlog = 1024

    public init(host: String, port: UInt16) {
        address = .tcp(host: host, port: port)
    }

    public init(unixSocket path: SocketPath) {
        address = .unixSocket(path)
    }

    /// What libmicrohttpd reads headers and pieces of bodies into, for each connection. It clears one and a half times that for every request:
    /// 24 KiB instead of 12 take 4 percent of the small answers a second, and make an upload no faster.
    var connectionMemoryBytes: Int { headerLimitBytes + 4 << 10 }
}

/// Why a server could not start.
public struct ServerError: Error, CustomStringConvertible {
    public let operation: String
    public let address: String
    /// `errno`, or a code of `getaddrinfo(3)` below zero.
    public let code: Int32

    /// What to do, to follow the description; empty when that is not known.
    public var advice: String {
        switch code {
        case EADDRINUSE: "; choose another address or stop what uses it"
        case EADDRNOTAVAIL: "; choose an address that this machine has"
        case EACCES: "; choose a port from 1024, or allow the program lower ones (CAP_NET_BIND_SERVICE)"
        case EMFILE: "; raise the limit on its open files (ulimit -n, LimitNOFILE)"
        case ENFILE: "; raise the system's limit on open files (fs.file-max)"
        default: code < 0 ? "; choose another address" : ""
        }
    }

    public var description: String {
        "\(operation)\(address.isEmpty ? "" : " " + address): \(code < 0 ? String(cString: gai_strerror(code)) : String(cString: strerror(code)))"
    }
}

/// An HTTP/1.1 server on one address.
public final class Server: Sendable {
    /// The port that it listens on; 0 for a Unix-domain socket.
    public let port: UInt16
    private let exchanges: Exchanges
    private let loops: [EventLoop]
    private let acceptor: Acceptor
    private let unixSocket: SocketPath?
    private let isStopped = Atomic(false)

    /// Listens and answers from now on.
    public init(_ configuration: ServerConfiguration, handler: any RequestHandler) throws(ServerError) {
        ignoreBrokenPipes()
        let socket = try ListeningSocket(configuration)
        port = socket.port
        let exchanges = Exchanges(configuration, handler: handler)
        self.exchanges = exchanges
        var loops: [EventLoop] = []
        do throws(ServerError) {
            for number in 0..<max(1, configuration.loops ?? usableProcessors()) {
                loops.append(try EventLoop(configuration, exchanges, number: number))
            }
        } catch {
            close(socket.descriptor)
            throw error
        }
        for (index, loop) in loops.enumerated() { loop.start("loop-\(index)") }
        self.loops = loops
        acceptor = Acceptor(socket, loops, exchanges.clients)
        unixSocket = if case .unixSocket(let path) = configuration.address { path } else { nil }
    }

    /// Connections that are open now.
    public var connections: Int { exchanges.clients.total }

    /// Requests that are being answered now.
    public var requestsInFlight: Int { loops.reduce(0) { $0 + $1.inFlight } }

    /// Stops accepting, lets the requests in flight finish, and closes the connections.
    ///
    /// - Returns: false when requests were still in flight after `limit`; then the process has to end to be rid of them.
    @discardableResult
    public func stop(drain limit: Duration) -> Bool {
        guard !isStopped.exchange(true, ordering: .relaxed) else { return true }
        acceptor.stop()
        if let unixSocket { unlink(unixSocket.address) }
        let deadline = Deadline.after(limit)
        guard exchanges.drain(deadline, areAllOver: { requestsInFlight == 0 }) else { return false }
        // A connection that was idle may have sent another request since.
        for loop in loops where !loop.stop(until: deadline) { return false }
        return exchanges.threads.close(until: deadline)
    }
}

/// In a container these may be few of those that the machine has (`sched_getaffinity(2)`).
private func usableProcessors() -> Int {
    var set = cpu_set_t()
    guard sched_getaffinity(0, MemoryLayout<cpu_set_t>.size, &set) == 0 else {
        return sysconf(Int32(_SC_NPROCESSORS_ONLN))
    }
    return withUnsafeBytes(of: set) { $0.reduce(0) { $0 + $1.nonzeroBitCount } }
}
