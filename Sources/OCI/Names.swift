/// A name that the specification does not allow.
public struct NameError: Error, Equatable, CustomStringConvertible {
    public enum Kind: String, Sendable {
        case digest
        case repository = "repository name"
        case tag
    }

    public let kind: Kind
    /// What was given, shortened and with everything unprintable replaced: safe to log.
    public let text: String

    public init(_ kind: Kind, _ text: String) {
        self.kind = kind
        let shown = text.unicodeScalars.prefix(80).map { scalar in
            scalar.isASCII && scalar.value > 31 && scalar.value != 127 ? Character(scalar) : "?"
        }
        self.text = String(shown) + (text.unicodeScalars.count > 80 ? "…" : "")
    }

    init(_ kind: Kind, _ text: Span<UInt8>) {
        self.init(kind, String(decoding: text.indices.map { text[$0] }, as: UTF8.self))
    }

    public var description: String { "invalid \(kind.rawValue) '\(text)'" }
}

/// The name of a repository: path components of lower-case letters and digits, joined by `/`, at most 255 bytes.
///
/// A component may hold `.`, `_`, `__` or any number of `-` between letters or digits, so none can be `..` or start with `_`,
/// and a name is safe as a part of a path or key. (distribution-spec, "Pulling manifests")
public struct RepositoryName: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let description: String

    /// Longest name in bytes.
    public static let maximumBytes = 255

    public init(_ text: some StringProtocol) throws(NameError) {
        let text = String(text)
        try self.init(text.utf8.span)
    }

    /// Reads a name in UTF-8.
    public init(_ text: Span<UInt8>) throws(NameError) {
        guard Self.isValid(text) else { throw NameError(.repository, text) }
        description = asciiString(text)
    }

    public static func < (a: RepositoryName, b: RepositoryName) -> Bool { a.description < b.description }

    /// Components `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
    private static func isValid(_ text: Span<UInt8>) -> Bool {
        guard !text.isEmpty, text.count <= maximumBytes else { return false }
        // What stands before the next letter or digit: at the start of a component nothing may.
        var (separator, length) = (UInt8(ascii: "/"), 1)
        for index in text.indices {
            let byte = text[index]
            if isLowerAlphanumeric(byte) {
                guard isSeparator(separator, length) else { return false }
                length = 0
            } else if length == 0 {
                (separator, length) = (byte, 1)
            } else {
                guard byte == separator else { return false }
                length += 1
            }
        }
        return length == 0
    }

    private static func isSeparator(_ byte: UInt8, _ length: Int) -> Bool {
        switch byte {
        case UInt8(ascii: "/"), UInt8(ascii: "."): length <= 1
        case UInt8(ascii: "_"): length <= 2
        case UInt8(ascii: "-"): true
        default: length == 0
        }
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. (distribution-spec, "Pulling manifests")
public struct Tag: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let description: String

    public init(_ text: some StringProtocol) throws(NameError) {
        let text = String(text)
        try self.init(text.utf8.span)
    }

    /// Reads a tag in UTF-8.
    public init(_ text: Span<UInt8>) throws(NameError) {
        guard !text.isEmpty, text.count <= 128, Self.isWord(text[0]),
            text.indices.allSatisfy({
                Self.isWord(text[$0]) || text[$0] == UInt8(ascii: ".") || text[$0] == UInt8(ascii: "-")
            })
        else { throw NameError(.tag, text) }
        description = asciiString(text)
    }

    /// The tag under which clients keep the referrers of a manifest where a registry cannot list them. (distribution-spec, "Referrers Tag Schema")
    public init(referrersOf subject: Digest) {
        description = "\(subject.algorithm.rawValue)-\(subject.hex.prefix(64))"
    }

    public static func < (a: Tag, b: Tag) -> Bool { a.description < b.description }

    private static func isWord(_ byte: UInt8) -> Bool {
        isLowerAlphanumeric(byte) || byte == UInt8(ascii: "_") || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte
    }
}

/// What names a manifest in a repository: a tag, or its digest.
public enum Reference: Sendable, Hashable, CustomStringConvertible {
    case tag(Tag)
    case digest(Digest)

    /// A text with a colon can only be a digest, and is refused as one.
    public init(_ text: some StringProtocol) throws(NameError) {
        let text = String(text)
        try self.init(text.utf8.span)
    }

    /// Reads a reference in UTF-8.
    public init(_ text: Span<UInt8>) throws(NameError) {
        if text.indices.contains(where: { text[$0] == UInt8(ascii: ":") }) {
            self = .digest(try Digest(text))
        } else {
            self = .tag(try Tag(text))
        }
    }

    public var description: String {
        switch self {
        case .tag(let tag): tag.description
        case .digest(let digest): digest.description
        }
    }
}

private func isLowerAlphanumeric(_ byte: UInt8) -> Bool {
    UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
}

/// Whether the bytes are these characters.
func equals(_ bytes: Span<UInt8>, _ text: StaticString) -> Bool {
    guard bytes.count == text.utf8CodeUnitCount else { return false }
    return bytes.indices.allSatisfy { unsafe bytes[$0] == text.utf8Start[$0] }
}

/// Of bytes that were found to be ASCII.
private func asciiString(_ bytes: Span<UInt8>) -> String {
    unsafe String(unsafeUninitializedCapacity: bytes.count) { buffer in
        for index in bytes.indices { unsafe buffer[index] = bytes[index] }
        return bytes.count
    }
}
