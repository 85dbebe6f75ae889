internal import Glibc

/// A bound and listening TCP socket. libmicrohttpd takes it over.
struct ListeningSocket {
    let descriptor: Int32
    let port: UInt16
    /// For messages.
    let address: String

    init(_ configuration: ServerConfiguration) throws(ServerError) {
        let shown = configuration.host.contains(":") ? "[\(configuration.host)]" : configuration.host
        address = "\(shown):\(configuration.port)"
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(configuration.host, "\(configuration.port)", &hints, &found)
        guard code == 0, let first = found else {
            throw ServerError(operation: "resolve", address: address, code: code == EAI_SYSTEM ? errno : code)
        }
        defer { freeaddrinfo(found) }
        descriptor = socket(first.pointee.ai_family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ServerError(operation: "socket", address: address, code: errno) }
        do throws(ServerError) {
            try Self.listen(descriptor, on: first.pointee, address, backlog: configuration.backlog)
            port = try Self.port(of: descriptor, address)
        } catch {
            close(descriptor)
            throw error
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
        guard bind(descriptor, target.ai_addr, target.ai_addrlen) == 0 else {
            throw ServerError(operation: "bind", address: address, code: errno)
        }
        guard Glibc.listen(descriptor, Int32(backlog)) == 0 else {
            throw ServerError(operation: "listen", address: address, code: errno)
        }
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
