/// The name of an object: segments joined by `/`, in UTF-8.
///
/// 1 to 1,024 bytes; no segment is empty, `.` or `..`; no control characters. So a key is safe as a path below a directory, in a URL and in
/// a log line. Keys are compared by their bytes, as stores do, not by what looks alike in Unicode.
public struct ObjectKey: Sendable, CustomStringConvertible {
    /// Longest key in bytes: that of S3.
    public static let maximumBytes = 1_024

    public let description: String

    public init(_ text: some StringProtocol) throws(InvalidKey) {
        var owned = String(text)
        owned.makeContiguousUTF8()
        if let rule = Self.violation(of: owned.utf8.span) { throw InvalidKey(owned, rule) }
        description = owned
    }

    private static func violation(of text: Span<UInt8>) -> InvalidKey.Rule? {
        guard !text.isEmpty else { return .empty }
        guard text.count <= maximumBytes else { return .tooLong }
        guard !text.indices.contains(where: { isControl(text, at: $0) }) else { return .controlCharacter }
        var start = 0
        for index in 0...text.count where index == text.count || text[index] == UInt8(ascii: "/") {
            let segment = text.extracting(start..<index)
            if segment.isEmpty { return .emptySegment }
            if segment.count <= 2, segment.indices.allSatisfy({ segment[$0] == UInt8(ascii: ".") }) {
                return .dotSegment
            }
            start = index + 1
        }
        return nil
    }

    /// The two ranges of control characters (Unicode, general category Cc), the second of which takes two bytes.
    private static func isControl(_ text: Span<UInt8>, at index: Int) -> Bool {
        switch text[index] {
        case ..<0x20, 0x7F: true
        case 0x80..<0xA0: index > 0 && text[index - 1] == 0xC2
        default: false
        }
    }
}

extension ObjectKey: Hashable, Comparable {
    // A String's own comparison takes canonically equivalent texts for equal; a store does not.
    public static func == (a: ObjectKey, b: ObjectKey) -> Bool { a.description.utf8.elementsEqual(b.description.utf8) }

    public static func < (a: ObjectKey, b: ObjectKey) -> Bool { isOrdered(a.description, before: b.description) }

    public func hash(into hasher: inout Hasher) {
        for byte in description.utf8 { hasher.combine(byte) }
    }
}

/// A text that is no ``ObjectKey``.
public struct InvalidKey: Error, Equatable, CustomStringConvertible {
    public enum Rule: String, Sendable {
        case empty = "it is empty"
        case tooLong = "it is longer than 1024 bytes"
        case controlCharacter = "it holds a control character"
        case emptySegment = "a segment is empty"
        case dotSegment = "a segment is '.' or '..'"
    }

    /// What was given, shortened and with everything unprintable replaced: safe to log.
    public let text: String
    public let rule: Rule

    init(_ text: String, _ rule: Rule) {
        self.text = printable(text, limit: 80)
        self.rule = rule
    }

    public var description: String { "invalid object key '\(text)': \(rule.rawValue)" }
}

/// The order of keys in a listing: that of their UTF-8 bytes.
func isOrdered(_ a: String, before b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }

/// Foreign text, cut to `limit` characters, with control characters replaced.
func printable(_ text: some StringProtocol, limit: Int) -> String {
    let shown = text.unicodeScalars.prefix(limit).map { scalar in
        scalar.properties.generalCategory == .control ? "?" : Character(scalar)
    }
    return String(shown) + (text.unicodeScalars.dropFirst(limit).isEmpty ? "" : "…")
}
