import FaultProxy
import Foundation
import Glibc

/// A place on loopback that speaks HTTP/1.1.
struct Endpoint: Sendable {
    let port: UInt16
    var authority: String { "127.0.0.1:\(port)" }

    /// One request on a connection of its own.
    func request(
        _ method: String,
        _ path: String,
        _ headers: [String: String] = [:],
        body: RequestBody = .none
    ) throws -> Response {
        try Connection(to: self).request(method, path, headers, body: body)
    }
}

enum RequestBody {
    case none
    /// With Content-Length.
    case bytes([UInt8])
    /// With Transfer-Encoding: chunked, a chunk each.
    case chunked([[UInt8]])
}

struct Response {
    let status: Int
    let headers: [(name: String, value: String)]
    var body: [UInt8] = []

    subscript(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }

    var text: String { String(decoding: body, as: UTF8.self) }

    func json() throws -> [String: Any] {
        try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any] ?? [:]
    }

    /// The codes of the protocol's JSON error body; empty when it is not one.
    var errorCodes: [String] {
        guard let errors = try? json()["errors"] as? [[String: Any]] else { return [] }  // not JSON: no codes
        return errors.compactMap { $0["message"] is String ? $0["code"] as? String : nil }
    }

    /// The path and query of the Location header, whether that is absolute or not.
    var location: String? {
        guard let location = self["Location"] else { return nil }
        guard let scheme = location.range(of: "://") else { return location }
        return location[scheme.upperBound...].firstIndex(of: "/").map { String(location[$0...]) }
    }
}

enum HTTPError: Error {
    /// The connection ended inside a response; `received` are the body bytes that came.
    case truncated(received: Int)
    case malformed(String)
}

/// One keep-alive connection: a request at a time, or bytes as they are.
final class Connection {
    let socket: Socket
    let authority: String
    private var received: [UInt8] = []

    init(to endpoint: Endpoint, receiveBuffer: Int32? = nil) throws {
        socket = try Socket.connect(port: endpoint.port, receiveBuffer: receiveBuffer)
        authority = endpoint.authority
    }

    func request(
        _ method: String,
        _ path: String,
        _ headers: [String: String] = [:],
        body: RequestBody = .none
    ) throws -> Response {
        try sendHead(method, path, headers, body: body)
        do {
            switch body {
            case .none: break
            case .bytes(let bytes): try socket.send(bytes)
            case .chunked(let chunks): try sendChunks(chunks)
            }
        } catch let error as SocketError where error.code == EPIPE || error.code == ECONNRESET {
            // Refused before the body was through: the answer is there to be read.
        }
        return try readResponse(hasBody: method != "HEAD")
    }

    func sendHead(_ method: String, _ path: String, _ headers: [String: String] = [:], body: RequestBody) throws {
        var head = "\(method) \(path) HTTP/1.1\r\n"
        if headers["Host"] == nil { head += "Host: \(authority)\r\n" }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        switch body {
        case .none: if ["POST", "PUT", "PATCH"].contains(method) { head += "Content-Length: 0\r\n" }
        case .bytes(let bytes): head += "Content-Length: \(bytes.count)\r\n"
        case .chunked: head += "Transfer-Encoding: chunked\r\n"
        }
        try socket.send((head + "\r\n").utf8)
    }

    func sendChunks(_ chunks: [[UInt8]]) throws {
        for chunk in chunks where !chunk.isEmpty {
            try socket.send(Array("\(String(chunk.count, radix: 16))\r\n".utf8) + chunk + Array("\r\n".utf8))
        }
        try socket.send("0\r\n\r\n".utf8)
    }

    /// The next final response; interim ones (1xx) are passed over.
    func readResponse(hasBody: Bool = true) throws -> Response {
        while true {
            var response = try readHead()
            if response.status < 200 { continue }
            guard hasBody, response.status != 204, response.status != 304 else { return response }
            if response["Transfer-Encoding"]?.lowercased() == "chunked" {
                response.body = try readChunks()
            } else if let length = response["Content-Length"].flatMap(Int.init) {
                response.body = try read(length)
            } else {
                response.body = try readToEnd()
            }
            return response
        }
    }

    /// Status line and header fields of the next response.
    func readHead() throws -> Response {
        var lines: [String] = []
        while true {
            let line = try readLine()
            if line.isEmpty { break }
            lines.append(line)
        }
        let parts = lines.first?.split(separator: " ", maxSplits: 2) ?? []
        guard parts.count >= 2, parts[0] == "HTTP/1.1", let status = Int(parts[1]) else {
            throw HTTPError.malformed(lines.first ?? "")
        }
        let headers = try lines.dropFirst().map { line in
            guard let colon = line.firstIndex(of: ":") else { throw HTTPError.malformed(line) }
            let value = line[line.index(after: colon)...]
            return (name: String(line[..<colon]), value: value.trimmingCharacters(in: .whitespaces))
        }
        return Response(status: status, headers: headers)
    }

    /// Exactly `count` body bytes.
    func read(_ count: Int) throws -> [UInt8] {
        while received.count < count {
            let more = try socket.receive(limit: max(65_536, min(count - received.count, 1 << 20)))
            guard !more.isEmpty else { throw HTTPError.truncated(received: received.count) }
            received += more
        }
        defer { received.removeFirst(count) }
        return Array(received[..<count])
    }

    /// Whatever comes until the peer closes; a reset counts as closing.
    func readToEnd() throws -> [UInt8] {
        do {
            while true {
                let more = try socket.receive()
                if more.isEmpty { break }
                received += more
            }
        } catch let error as SocketError where error.code == ECONNRESET {
            // The peer closed with bytes of ours unread.
        }
        defer { received = [] }
        return received
    }

    private func readChunks() throws -> [UInt8] {
        var body: [UInt8] = []
        while true {
            let line = try readLine()
            guard let size = Int(line.prefix { $0 != ";" }, radix: 16) else { throw HTTPError.malformed(line) }
            body += try read(size)
            guard try readLine().isEmpty else { throw HTTPError.malformed("chunk without its end") }
            if size == 0 { return body }
        }
    }

    private func readLine() throws -> String {
        var searched = 0
        while true {
            if let end = received[searched...].firstIndex(of: UInt8(ascii: "\n")) {
                var line = String(decoding: received[..<end], as: UTF8.self)
                received.removeFirst(end + 1)
                if line.last == "\r" { line.removeLast() }
                return line
            }
            searched = received.count
            let more = try socket.receive()
            guard !more.isEmpty else { throw HTTPError.truncated(received: 0) }
            received += more
        }
    }
}
