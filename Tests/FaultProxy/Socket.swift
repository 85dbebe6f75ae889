import Glibc

package struct SocketError: Error, CustomStringConvertible {
    package let operation: String
    package let code: Int32

    package init(operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }

    package var description: String { "\(operation): \(String(cString: strerror(code)))" }
    package var isTimeout: Bool { code == EAGAIN }
}

/// A blocking TCP socket on loopback, closed with this value. No call waits for ever.
package final class Socket: @unchecked Sendable {
    // Sendable because the descriptor never changes, and the kernel orders the calls on it.
    package let descriptor: Int32

    private init(owning descriptor: Int32) {
        self.descriptor = descriptor
        setTimeout(seconds: 60)
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    deinit { close(descriptor) }

    /// How long one call may wait; a longer one fails with ``SocketError/isTimeout``.
    package func setTimeout(seconds: Int) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    /// - Parameter receiveBuffer: bytes the kernel may hold for this reader; small makes a slow reader.
    package static func connect(port: UInt16, receiveBuffer: Int32? = nil) throws -> Socket {
        let socket = try make()
        if var size = receiveBuffer {
            setsockopt(socket.descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        let result = withLoopback(port) { Glibc.connect(socket.descriptor, $0, $1) }
        guard result == 0 else { throw SocketError(operation: "connect to port \(port)", code: errno) }
        return socket
    }

    /// - Parameter port: 0 for one that is free.
    package static func listen(port: UInt16) throws -> Socket {
        let socket = try make()
        var on: Int32 = 1
        setsockopt(socket.descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        guard withLoopback(port, { Glibc.bind(socket.descriptor, $0, $1) }) == 0 else {
            throw SocketError(operation: "bind to port \(port)", code: errno)
        }
        // Only a port that was asked for by its number stays bound when the socket stops listening.
        if port == 0 { return try listen(port: socket.port) }
        try socket.listen()
        return socket
    }

    /// Listens, again after ``shutDown()``; the port is this socket's all the while.
    package func listen() throws {
        guard Glibc.listen(descriptor, 256) == 0 else { throw SocketError(operation: "listen", code: errno) }
    }

    /// The next caller, `nil` once ``shutDown()`` was called.
    package func accept() -> Socket? {
        while true {
            let caller = Glibc.accept(descriptor, nil, nil)
            if caller >= 0 {
                _ = fcntl(caller, F_SETFD, FD_CLOEXEC)
                return Socket(owning: caller)
            }
            guard errno == EAGAIN || errno == EINTR || errno == ECONNABORTED else { return nil }
        }
    }

    /// Ends both directions and wakes whoever waits on them.
    package func shutDown() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// The local one.
    package var port: UInt16 {
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
        }
        precondition(result == 0)
        return UInt16(bigEndian: address.sin_port)
    }

    /// Waits until one of the sockets has bytes or has ended; which of them.
    package static func waitForBytes(_ sockets: [Socket], seconds: Double) -> [Bool] {
        var polled = sockets.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        poll(&polled, nfds_t(polled.count), Int32(seconds * 1_000))
        return polled.map { $0.revents != 0 }
    }

    /// Ends the connection with RST, when the last reference goes.
    package func resetOnClose() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
    }

    package func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    package func send(_ bytes: some Collection<UInt8>) throws {
        let bytes = Array(bytes)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count >= 0 else { throw SocketError(operation: "send", code: errno) }
            sent += count
        }
    }

    /// At most `limit` bytes; none at the end of the stream.
    package func receive(limit: Int = 65_536) throws -> [UInt8] {
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            count = max(-1, recv(descriptor, buffer.baseAddress, limit, 0))
            if count < 0 { count = 0 } else { errno = 0 }
        }
        guard !bytes.isEmpty || errno == 0 else { throw SocketError(operation: "receive", code: errno) }
        return bytes
    }

    private static func make() throws -> Socket {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SocketError(operation: "socket", code: errno) }
        return Socket(owning: descriptor)
    }
}

private func withLoopback<Result>(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}
