import Glibc
import Synchronization
import Threading

/// An HTTP server on loopback that answers as a test says, right or wrong.
final class ScriptedServer: Sendable {
    struct Received: Sendable {
        var method = ""
        /// Path and query.
        var target = ""
        /// Names in lower case.
        var headers: [String: String] = [:]
        var body: [UInt8] = []

        var text: String { String(decoding: body, as: UTF8.self) }
    }

    struct Answer: Sendable {
        var status = 200
        var headers: [(name: String, value: String)] = []
        var body: [UInt8] = []
        /// Announced length, if it is not the body's; negative: none at all.
        var length: Int?
        /// End the connection afterwards, with a reset if so wanted.
        var closes = false
        var resets = false

        static func ok(_ body: String = "", _ headers: [(name: String, value: String)] = []) -> Answer {
            Answer(headers: headers, body: Array(body.utf8))
        }

        static func status(
            _ status: Int,
            _ code: String? = nil,
            headers: [(name: String, value: String)] = []
        ) -> Answer {
            let body = code.map {
                "<?xml version=\"1.0\"?><Error><Code>\($0)</Code><Message>text of \($0)</Message>"
                    + "<RequestId>id-1</RequestId></Error>"
            }
            return Answer(status: status, headers: headers, body: Array((body ?? "").utf8))
        }

        /// No answer at all.
        static let reset = Answer(status: 0, resets: true)
    }

    let port: UInt16
    private let listener: Int32
    private let answer: @Sendable (Received, Int) -> Answer
    private let log = Mutex<[Received]>([])

    /// - Parameter answer: gets each request with the number of those before it.
    init(_ answer: @escaping @Sendable (Received, Int) -> Answer) {
        self.answer = answer
        (listener, port) = Self.listen()
        spawnThread(name: "scripted") { [self] in
            while true {
                let connection = accept(listener, nil, nil)
                guard connection >= 0 else { return }
                spawnThread(name: "scripted-conn") { self.serve(connection) }
            }
        }
    }

    private static func listen() -> (listener: Int32, port: UInt16) {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                precondition(bind(listener, address, length) == 0 && Glibc.listen(listener, 64) == 0)
                precondition(getsockname(listener, address, &length) == 0)
            }
        }
        return (listener, UInt16(bigEndian: address.sin_port))
    }

    /// Ends the thread that accepts.
    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    deinit { close(listener) }

    var requests: [Received] { log.withLock { $0 } }

    private func serve(_ connection: Int32) {
        defer { close(connection) }
        var buffer: [UInt8] = []
        while let request = receive(connection, &buffer) {
            let number = log.withLock { log in
                log.append(request)
                return log.count - 1
            }
            let answer = answer(request, number)
            if answer.status != 0 { send(connection, answer, isHead: request.method == "HEAD") }
            if answer.resets {
                var linger = linger(l_onoff: 1, l_linger: 0)
                setsockopt(connection, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
                return
            }
            if answer.closes { return }
        }
    }

    private func receive(_ connection: Int32, _ buffer: inout [UInt8]) -> Received? {
        let end = Array("\r\n\r\n".utf8)
        var head: Range<Int>?
        while head == nil {
            head = buffer.firstRange(of: end)
            guard head != nil || more(connection, &buffer) else { return nil }
        }
        let lines = String(decoding: buffer[..<head!.lowerBound], as: UTF8.self).split(separator: "\r\n")
        let words = lines[0].split(separator: " ")
        var request = Received(method: String(words[0]), target: String(words[1]))
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            request.headers[line[..<colon].lowercased()] = String(line[line.index(colon, offsetBy: 2)...])
        }
        buffer.removeSubrange(..<head!.upperBound)
        let length = request.headers["content-length"].flatMap { Int($0) } ?? 0
        while buffer.count < length {
            guard more(connection, &buffer) else { return nil }
        }
        request.body = Array(buffer.prefix(length))
        buffer.removeFirst(length)
        return request
    }

    private func more(_ connection: Int32, _ buffer: inout [UInt8]) -> Bool {
        var piece = [UInt8](repeating: 0, count: 65_536)
        let count = recv(connection, &piece, piece.count, 0)
        guard count > 0 else { return false }
        buffer += piece[..<count]
        return true
    }

    private func send(_ connection: Int32, _ answer: Answer, isHead: Bool) {
        var head = "HTTP/1.1 \(answer.status) Text\r\n"
        let length = answer.length ?? answer.body.count
        if length >= 0 { head += "Content-Length: \(length)\r\n" }
        for header in answer.headers { head += "\(header.name): \(header.value)\r\n" }
        let bytes = Array((head + "\r\n").utf8) + (isHead ? [] : answer.body)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(connection, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            sent += count
        }
    }
}
