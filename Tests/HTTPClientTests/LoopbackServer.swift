import Glibc
import HTTPClient
import Synchronization
import Threading

/// A server on 127.0.0.1 that answers byte for byte as its script says: the script runs once for each connection.
final class LoopbackServer: Sendable {
    typealias Script = @Sendable (Connection) -> Void

    let port: Int
    private let listener: Int32
    private let connections = Monitor<[Connection]>([])

    init(_ script: @escaping Script) {
        (listener, port) = boundSocket()
        precondition(listen(listener, 64) == 0)
        spawnThread(name: "loopback") { [connections, listener] in
            // Closed here and not where the server ends: the number could be another's by then.
            defer { close(listener) }
            var index = 0
            while true {
                let descriptor = accept(listener, nil, nil)
                guard descriptor >= 0 else { return }
                let connection = Connection(index: index, descriptor: descriptor)
                connections.update { $0.append(connection) }
                spawnThread(name: "loopback") {
                    script(connection)
                    connection.end()
                }
                index += 1
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        for connection in connections.withLock({ $0 }) { connection.interrupt() }
    }

    var url: String { "http://127.0.0.1:\(port)" }

    /// Connections accepted so far.
    var accepted: Int { connections.withLock { $0.count } }

    /// Answers every request of every connection with `response`, and notes the requests.
    static func answering(_ response: String) -> (server: LoopbackServer, requests: Monitor<[ReceivedRequest]>) {
        let requests = Monitor<[ReceivedRequest]>([])
        let server = LoopbackServer { connection in
            while let request = connection.readRequest() {
                requests.update { $0.append(request) }
                connection.send(response)
            }
        }
        return (server, requests)
    }
}

/// A port of 127.0.0.1 where connections are refused, and where nobody else listens meanwhile.
final class RefusingPort: Sendable {
    let number: Int
    private let descriptor: Int32

    init() { (descriptor, number) = boundSocket() }

    deinit { close(descriptor) }
}

/// A socket bound to a free port, or connected to a given one.
private func boundSocket(connectedTo target: Int? = nil) -> (descriptor: Int32, port: Int) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_port = in_port_t(target ?? 0).bigEndian
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
            precondition((target == nil ? bind : connect)(descriptor, pointer, length) == 0)
            precondition(getsockname(descriptor, pointer, &length) == 0)
        }
    }
    return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
}

struct ReceivedRequest: Sendable {
    /// Everything before the empty line.
    let head: String
    let body: [UInt8]

    var lines: [String] { head.split(separator: "\r\n").map(String.init) }

    func values(_ name: String) -> [String] {
        lines.dropFirst().filter { $0.lowercased().hasPrefix(name.lowercased() + ":") }
            .map { String($0.dropFirst(name.count + 1).drop { $0 == " " }) }
    }
}

/// The server's end of a connection; used by the thread that runs its script.
final class Connection: Sendable {
    /// Counts from 0 in the order of acceptance.
    let index: Int
    private let descriptor: Mutex<Int32>
    private let pending = Mutex<[UInt8]>([])

    init(index: Int, descriptor: Int32) {
        self.index = index
        self.descriptor = Mutex(descriptor)
    }

    /// `nil` when the client has closed the connection.
    func readRequest() -> ReceivedRequest? {
        guard let head = readHead() else { return nil }
        let length = ReceivedRequest(head: head, body: []).values("Content-Length").first.flatMap { Int($0) } ?? 0
        guard let body = readBody(length) else { return nil }
        return ReceivedRequest(head: head, body: body)
    }

    func readHead() -> String? {
        let end = Array("\r\n\r\n".utf8)
        while true {
            let head: String? = pending.withLock { pending in
                guard let range = pending.firstRange(of: end) else { return nil }
                defer { pending.removeSubrange(..<range.upperBound) }
                return String(decoding: pending[..<range.lowerBound], as: UTF8.self)
            }
            if let head { return head }
            guard receive() else { return nil }
        }
    }

    func readBody(_ length: Int) -> [UInt8]? {
        while pending.withLock({ $0.count }) < length {
            guard receive() else { return nil }
        }
        return pending.withLock { pending in
            defer { pending.removeSubrange(..<length) }
            return Array(pending[..<length])
        }
    }

    /// Blocks until the client closes the connection, or the server is dropped.
    func waitForEnd() {
        while receive() {}
    }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        let socket = descriptor.withLock { $0 }
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(socket, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return }
            sent += count
        }
    }

    /// Copies bytes to and from a port of 127.0.0.1 until either side ends.
    func tunnel(toPort port: Int) {
        let (target, _) = boundSocket(connectedTo: port)
        let here = descriptor.withLock { $0 }
        let backward = Monitor(false)
        spawnThread(name: "tunnel") {
            copy(from: target, to: here)
            backward.update { $0 = true }
        }
        copy(from: here, to: target)
        _ = backward.wait { $0 ? true : nil }
        close(target)
    }

    /// Ends the connection with RST.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        _ = descriptor.withLock { setsockopt($0, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size)) }
        end()
    }

    func end() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }

    func interrupt() {
        descriptor.withLock { if $0 >= 0 { _ = shutdown($0, Int32(SHUT_RDWR)) } }
    }

    private func receive() -> Bool {
        let socket = descriptor.withLock { $0 }
        let bytes = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
            count = max(0, recv(socket, buffer.baseAddress, buffer.count, 0))
        }
        pending.withLock { $0 += bytes }
        return !bytes.isEmpty
    }
}

/// Until the one has no more, or the other takes no more; then ends both directions.
private func copy(from source: Int32, to target: Int32) {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
        let count = recv(source, &buffer, buffer.count, 0)
        guard count > 0, send(target, buffer, count, Int32(MSG_NOSIGNAL)) == count else { break }
    }
    shutdown(target, Int32(SHUT_WR))
}

extension ClientConfiguration {
    /// For loopback: no proxy, short waits.
    static func test(_ change: (inout ClientConfiguration) -> Void = { _ in }) -> ClientConfiguration {
        var configuration = ClientConfiguration()
        configuration.proxy = .none
        change(&configuration)
        return configuration
    }
}

/// What `body` throws; `nil` when it does not.
func failure<Value>(_ body: () throws(TransferError) -> Value) -> TransferError? {
    do throws(TransferError) {
        _ = try body()
        return nil
    } catch {
        return error
    }
}

extension TransferError {
    /// The kind's name without what it carries.
    var kindName: String {
        String(describing: kind).prefix { $0 != "(" }.description
    }
}

extension String {
    init(_ bytes: [UInt8]) { self.init(decoding: bytes, as: UTF8.self) }
}
