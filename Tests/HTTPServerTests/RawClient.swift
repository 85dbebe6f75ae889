import Glibc

/// A blocking HTTP/1.1 connection to a port of this machine.
final class RawClient {
    struct Failure: Error {
        let operation: String
    }

    struct Answer: Equatable {
        var status: Int
        var headers: [String: String]
        var body: [UInt8]

        var text: String { String(decoding: body, as: UTF8.self) }
    }

    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var isOpen = true
    /// The server sent nothing for so long that it will not.
    private(set) var isStuck = false

    /// - Parameter address: IPv4, the loopback where none is given.
    init(_ address: in_addr? = nil, port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var server = sockaddr_in()
        server.sin_family = sa_family_t(AF_INET)
        server.sin_port = port.bigEndian
        server.sin_addr = address ?? in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
        let code = withUnsafePointer(to: server) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else {
            Glibc.close(descriptor)
            isOpen = false
            throw Failure(operation: "connect")
        }
        // A server that never answers fails the test instead of hanging it.
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close() }

    func close() {
        if isOpen { Glibc.close(descriptor) }
        isOpen = false
    }

    /// This end's.
    var port: UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &length) }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    /// Nothing more comes from here.
    func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure(operation: "send") }
            sent += count
        }
    }

    /// Sends it again and again, and reads nothing, until the server takes no more.
    func sendUntilStuck(_ text: String) throws {
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        // From a large buffer, a good part has to go before there is room again.
        var bufferBytes: Int32 = 32_768
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &bufferBytes, socklen_t(MemoryLayout<Int32>.size))
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let bytes = Array(String(repeating: text, count: 100).utf8)
        var sent = 0
        repeat {
            sent = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        } while sent == bytes.count
        guard sent >= 0 || errno == EAGAIN else { throw Failure(operation: "send") }
    }

    func get(_ path: String, method: String = "GET") throws -> Answer {
        try send("\(method) \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
        return try answer(hasBody: method != "HEAD")
    }

    /// Of the next answer, whose rest is left unread.
    func status() throws -> Int {
        var line: [UInt8] = []
        while line.last != 10 { line.append(try byte()) }
        return Int(String(decoding: line, as: UTF8.self).split(separator: " ")[1]) ?? 0
    }

    /// Reads on until more than so many bytes have come since the status line; how many did.
    func rest(_ count: Int) throws -> Int {
        var sum = buffer.count
        while sum <= count {
            buffer = []
            guard fill() else { throw Failure(operation: "read") }
            sum += buffer.count
        }
        return sum
    }

    /// The next answer on this connection.
    func answer(hasBody: Bool = true) throws -> Answer {
        var head: [UInt8] = []
        while !head.suffix(4).elementsEqual("\r\n\r\n".utf8) { head.append(try byte()) }
        let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n")
        var answer = Answer(status: Int(lines[0].split(separator: " ")[1]) ?? 0, headers: [:], body: [])
        for line in lines.dropFirst() {
            let colon = line.firstIndex(of: ":")!
            answer.headers[line[..<colon].lowercased()] = String(line[line.index(colon, offsetBy: 2)...])
        }
        guard hasBody else { return answer }
        if answer.headers["transfer-encoding"] == "chunked" {
            answer.body = try chunks()
        } else {
            answer.body = try bytes(Int(answer.headers["content-length"] ?? "0") ?? 0)
        }
        return answer
    }

    /// Whether the server has closed the connection, with nothing before.
    func isAtEnd() -> Bool { buffer.isEmpty && !fill() && !isStuck }

    private func chunks() throws -> [UInt8] {
        var body: [UInt8] = []
        while true {
            var line: [UInt8] = []
            while !line.suffix(2).elementsEqual("\r\n".utf8) { line.append(try byte()) }
            let count = Int(String(decoding: line.dropLast(2), as: UTF8.self), radix: 16) ?? 0
            body += try bytes(count)
            _ = try bytes(2)
            if count == 0 { return body }
        }
    }

    /// So many of a body.
    func bytes(_ count: Int) throws -> [UInt8] {
        while buffer.count < count {
            guard fill() else { throw Failure(operation: "read") }
        }
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    private func byte() throws -> UInt8 { try bytes(1)[0] }

    private func fill() -> Bool {
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        let count = recv(descriptor, &piece, piece.count, 0)
        // A server that keeps the connection open has not ended it.
        if count < 0, errno == EAGAIN { isStuck = true }
        guard count > 0 else { return false }
        buffer += piece[..<count]
        return true
    }
}
