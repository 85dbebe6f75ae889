/// The head of a request or a response.
struct MessageHead {
    /// As it came, with the empty line at its end.
    var bytes: [UInt8]
    let startLine: String
    /// Names in lower case.
    let fields: [(name: String, value: String)]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\r\n")
        startLine = lines.first.map(String.init) ?? ""
        fields = lines.dropFirst().map { line in
            let colon = line.firstIndex(of: ":") ?? line.endIndex
            return (line[..<colon].lowercased(), line[colon...].dropFirst().drop { $0 == " " }.description)
        }
    }

    func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    var status: Int { Int(startLine.split(separator: " ").dropFirst().first ?? "") ?? 0 }

    var endsConnection: Bool { startLine.contains("HTTP/1.0") || value("connection")?.lowercased() == "close" }

    /// The same with one field of another value, or without it.
    func setting(_ name: String, _ value: String?) -> MessageHead {
        var lines = [startLine]
        for field in fields where field.name != name.lowercased() { lines.append("\(field.name): \(field.value)") }
        if let value { lines.append("\(name): \(value)") }
        return MessageHead(Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8))
    }
}

/// How the end of a body is told (RFC 9112, section 6), and how far it is read.
enum BodyFraming {
    case length(Int)
    case chunks(ChunkReader)
    case endOfConnection

    init(request: MessageHead) {
        self = Self.announced(request) ?? .length(0)
    }

    init(response: MessageHead, toMethod method: String) {
        let status = response.status
        let isBodiless = method == "HEAD" || status == 204 || status == 304 || (100..<200).contains(status)
        self = isBodiless ? .length(0) : Self.announced(response) ?? .endOfConnection
    }

    private static func announced(_ head: MessageHead) -> BodyFraming? {
        if head.value("transfer-encoding")?.lowercased() == "chunked" { return .chunks(ChunkReader()) }
        return head.value("content-length").flatMap { Int($0) }.map { .length($0) }
    }

    var isAtEnd: Bool {
        switch self {
        case .length(let rest): rest == 0
        case .chunks(let reader): reader.isAtEnd
        case .endOfConnection: false
        }
    }

    /// How many of `bytes` still belong to the body.
    mutating func take(_ bytes: ArraySlice<UInt8>) -> Int {
        switch self {
        case .length(let rest):
            let count = min(rest, bytes.count)
            self = .length(rest - count)
            return count
        case .chunks(var reader):
            let count = reader.take(bytes)
            self = .chunks(reader)
            return count
        case .endOfConnection:
            return bytes.count
        }
    }
}

/// Follows the framing of chunks, which is passed on as it is.
struct ChunkReader {
    private enum Place: Equatable {
        case size
        case data(rest: Int)
        case trailer
        case end
    }

    private var place = Place.size
    private var line: [UInt8] = []

    var isAtEnd: Bool { place == .end }

    mutating func take(_ bytes: ArraySlice<UInt8>) -> Int {
        var index = bytes.startIndex
        while index < bytes.endIndex, place != .end {
            if case .data(let rest) = place {
                let step = min(rest, bytes.endIndex - index)
                index += step
                place = step == rest ? .size : .data(rest: rest - step)
                continue
            }
            if bytes[index] == UInt8(ascii: "\n") {
                endLine()
            } else if bytes[index] != UInt8(ascii: "\r") {
                line.append(bytes[index])
            }
            index += 1
        }
        return index - bytes.startIndex
    }

    private mutating func endLine() {
        let text = String(decoding: line, as: UTF8.self)
        line = []
        if place == .trailer {
            if text.isEmpty { place = .end }
            return
        }
        let size = Int(text.prefix { $0 != ";" }, radix: 16) ?? 0
        place = size == 0 ? .trailer : .data(rest: size + 2)
    }
}

/// Reads the messages that come over one connection: heads whole, bodies piece by piece.
struct MessageReader {
    let socket: Socket
    private var buffer: [UInt8] = []

    init(_ socket: Socket) { self.socket = socket }

    var hasBytes: Bool { !buffer.isEmpty }

    /// `nil` when the connection ends before one is whole.
    mutating func head() throws -> MessageHead? {
        var searched = 0
        while true {
            if let end = buffer[searched...].firstRange(of: Array("\r\n\r\n".utf8)) {
                defer { buffer.removeSubrange(..<end.upperBound) }
                return MessageHead(Array(buffer[..<end.upperBound]))
            }
            searched = max(0, buffer.count - 3)
            guard try fill(limit: 65_536) else { return nil }
        }
    }

    /// The next bytes of a body, at most `limit`; `nil` at its end, and when the connection ends too early.
    mutating func piece(_ framing: inout BodyFraming, limit: Int) throws -> [UInt8]? {
        guard !framing.isAtEnd else { return nil }
        if buffer.isEmpty {
            guard try fill(limit: limit) else { return nil }
        }
        let count = framing.take(buffer.prefix(limit))
        defer { buffer.removeFirst(count) }
        return Array(buffer[..<count])
    }

    private mutating func fill(limit: Int) throws -> Bool {
        while true {
            do {
                let bytes = try socket.receive(limit: limit)
                buffer += bytes
                return !bytes.isEmpty
            } catch let error as SocketError where error.isTimeout {
                continue  // Idle.
            }
        }
    }
}
