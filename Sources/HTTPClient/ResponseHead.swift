/// Gathers the header lines of a response, as libcurl hands them over one by one.
///
/// Interim responses (1xx) are passed over, trailers ignored.
struct ResponseHead {
    enum Event: Equatable {
        case more
        /// The final head is whole: said once.
        case complete
        case tooLong
        case malformed
    }

    let limitBytes: Int
    private(set) var status = 0
    private(set) var headers: [(name: String, value: String)] = []
    /// Bytes of all lines so far.
    private(set) var bytes = 0
    private(set) var isComplete = false

    init(limitBytes: Int) {
        self.limitBytes = limitBytes
    }

    mutating func append(_ line: Span<UInt8>) -> Event {
        bytes += line.count
        guard bytes <= limitBytes else { return .tooLong }
        guard !isComplete else { return .more }
        let text = line.trimmed(0..<line.count)
        if text.isEmpty {
            guard status >= 200 else { return .more }
            isComplete = true
            return .complete
        }
        if line.string(text).hasPrefix("HTTP/") { return start(line.string(text)) }
        // An old form, a field that goes on in the next line (RFC 9112, section 5.2).
        if line[0] == 0x20 || line[0] == 0x09 {
            guard let last = headers.popLast() else { return .malformed }
            headers.append((last.name, last.value + " " + line.string(text)))
            return .more
        }
        guard let colon = text.first(where: { line[$0] == UInt8(ascii: ":") }), colon > 0 else { return .malformed }
        let value = line.trimmed(colon + 1..<text.upperBound)
        headers.append((line.string(0..<colon), line.string(value)))
        return .more
    }

    /// Begins anew: what came before was interim.
    private mutating func start(_ line: String) -> Event {
        headers = []
        let parts = line.split(separator: " ", maxSplits: 2)
        guard parts.count >= 2, parts[1].utf8.count == 3, let code = Int(parts[1]), code >= 100 else {
            return .malformed
        }
        status = code
        return .more
    }
}

extension Span<UInt8> {
    fileprivate func string(_ range: Range<Int>) -> String {
        extracting(range).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
    }

    /// Without spaces, tabs and line ends on both sides.
    fileprivate func trimmed(_ range: Range<Int>) -> Range<Int> {
        func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }
        var (first, end) = (range.lowerBound, range.upperBound)
        while first < end, isBlank(self[first]) { first += 1 }
        while end > first, isBlank(self[end - 1]) { end -= 1 }
        return first..<end
    }
}
