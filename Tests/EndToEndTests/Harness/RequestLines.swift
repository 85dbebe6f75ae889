/// Finds the request lines in a client's half of an HTTP/1.1 connection by following its framing.
struct RequestLines {
    private enum Place {
        case head
        case body(remaining: Int)
        case chunkSize
        case chunk(remaining: Int)
        case trailer
    }

    private var place = Place.head
    private var line: [UInt8] = []
    private var head: [String] = []

    /// The request lines whose heads are complete with `bytes`.
    mutating func feed(_ bytes: [UInt8]) -> [String] {
        var found: [String] = []
        var index = 0
        while index < bytes.count {
            switch place {
            case .body(let remaining):
                let step = min(remaining, bytes.count - index)
                index += step
                place = step == remaining ? .head : .body(remaining: remaining - step)
            case .chunk(let remaining):
                let step = min(remaining, bytes.count - index)
                index += step
                place = step == remaining ? .chunkSize : .chunk(remaining: remaining - step)
            case .head, .chunkSize, .trailer:
                if bytes[index] == UInt8(ascii: "\n") {
                    let text = String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
                    line = []
                    if let request = endLine(text) { found.append(request) }
                } else {
                    line.append(bytes[index])
                }
                index += 1
            }
        }
        return found
    }

    private mutating func endLine(_ text: String) -> String? {
        switch place {
        case .head where !text.isEmpty:
            head.append(text)
        case .head where !head.isEmpty:
            defer { head = [] }
            place = bodyPlace()
            return head[0]
        case .chunkSize:
            let size = Int(text.prefix { $0 != ";" }, radix: 16) ?? 0
            place = size == 0 ? .trailer : .chunk(remaining: size + 2)
        case .trailer where text.isEmpty:
            place = .head
        default:
            break
        }
        return nil
    }

    private func bodyPlace() -> Place {
        for field in head.dropFirst() {
            let parts = field.lowercased().split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            let value = parts[1].filter { $0 != " " }
            if parts[0] == "transfer-encoding", value == "chunked" { return .chunkSize }
            if parts[0] == "content-length", let length = Int(value), length > 0 { return .body(remaining: length) }
        }
        return .head
    }
}
