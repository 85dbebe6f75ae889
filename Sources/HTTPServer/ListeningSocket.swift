internal import CMicroHTTPD
internal import Glibc
internal import System

/// A bound and listening socket.
struct ListeningSocket {
    let descriptor: Int32
    let port: UInt16
    /// For messages.
    let address: String
    /// The system's, which connections that are none of the loopback have to get, where the socket gives its own another.
    let systemsCongestionControl: CongestionControl?

    init(_ configuration: ServerConfiguration) throws(ServerError) {
        switch configuration.address {
        case .tcp(let host, let port): try self.init(host, port, backlog: configuration.backlog)
        case .unixSocket(let path): try self.init(path, backlog: configuration.backlog)
        }
    }

    private init(_ host: String, _ port: UInt16, backlog: Int) throws(ServerError) {
        let shown = host.contains(":") ? "[\(host)]" : host
        address = "\(shown):\(port)"
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &found)
        guard code == 0, let first = found else {
            throw ServerError(operation: "resolve", address: address, code: code == EAI_SYSTEM ? errno : code)
        }
        defer { freeaddrinfo(found) }
        descriptor = socket(first.pointee.ai_family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ServerError(operation: "socket", address: address, code: errno) }
        systemsCongestionControl = Self.useNoTimersOverTheLoopback(descriptor)
        do throws(ServerError) {
            try Self.listen(descriptor, on: first.pointee, address, backlog: backlog)
            self.port = try Self.port(of: descriptor, address)
        } catch {
            close(descriptor)
            throw error
        }
    }

    /// A socket in the file system, with mode 0600 from its first moment (`unix(7)`).
    private init(_ path: SocketPath, backlog: Int) throws(ServerError) {
        address = path.path
        port = 0
        systemsCongestionControl = nil
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ServerError(operation: "socket", address: address, code: errno) }
        var target = sockaddr_un()
        target.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &target.sun_path) { $0.copyBytes(from: path.address.utf8) }
        // A process that was killed leaves its socket behind. The new name takes its mode from the descriptor.
        unlink(path.address)
        let code = fchmod(descriptor, 0o600) == 0 ? Self.bind(descriptor, to: &target) : errno
        guard code == 0, Glibc.listen(descriptor, Int32(backlog)) == 0 else {
            let error = ServerError(operation: "listen", address: address, code: code == 0 ? errno : code)
            close(descriptor)
            throw error
        }
    }

    private static func bind(_ descriptor: Int32, to target: inout sockaddr_un) -> Int32 {
        withUnsafePointer(to: &target) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 ? 0 : errno
            }
        }
    }

    private static func listen(
        _ descriptor: Int32,
        on target: addrinfo,
        _ address: String,
        backlog: Int
    ) throws(ServerError) {
        // A restart must not wait for the connections of the one before; two at a time still exclude each other.
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        guard Glibc.bind(descriptor, target.ai_addr, target.ai_addrlen) == 0 else {
            throw ServerError(operation: "bind", address: address, code: errno)
        }
        guard Glibc.listen(descriptor, Int32(backlog)) == 0 else {
            throw ServerError(operation: "listen", address: address, code: errno)
        }
    }

    /// Over the loopback there is no path whose capacity BBR, where that is the system's congestion control, would have to find, and its timers take up
    /// to two thirds of the processor's time. A connection that once had BBR keeps them, whatever it uses later; so the socket has another from the
    /// beginning, which its connections inherit.
    private static func useNoTimersOverTheLoopback(_ descriptor: Int32) -> CongestionControl? {
        guard let system = CongestionControl(of: descriptor), system.paces else { return nil }
        CongestionControl.reno.use(on: descriptor)
        return system
    }

    private static func port(of descriptor: Int32, _ address: String) throws(ServerError) -> UInt16 {
        var bound = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = withUnsafeMutablePointer(to: &bound) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard code == 0 else { throw ServerError(operation: "getsockname", address: address, code: errno) }
        return withUnsafePointer(to: &bound) { pointer in
            // Both families have the port in the same place.
            pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) }
        }
    }
}
