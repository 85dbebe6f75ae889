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
        guard Self.isValid(Array(text.utf8)) else { throw NameError(.repository, String(text)) }
        description = String(text)
    }

    public static func < (a: RepositoryName, b: RepositoryName) -> Bool { a.description < b.description }

    private static func isValid(_ text: [UInt8]) -> Bool {
        guard text.count <= maximumBytes else { return false }
        return text.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy(isComponent)
    }

    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
    private static func isComponent(_ component: ArraySlice<UInt8>) -> Bool {
        var separator: [UInt8] = []
        var sawLetter = false
        for byte in component {
            if isLowerAlphanumeric(byte) {
                guard separator.isEmpty || (sawLetter && isSeparator(separator)) else { return false }
                separator.removeAll(keepingCapacity: true)
                sawLetter = true
            } else {
                separator.append(byte)
            }
        }
        return sawLetter && separator.isEmpty
    }

    private static func isSeparator(_ run: [UInt8]) -> Bool {
        switch run[0] {
        case UInt8(ascii: "."): run.count == 1
        case UInt8(ascii: "_"): run.count <= 2 && run.allSatisfy { $0 == UInt8(ascii: "_") }
        case UInt8(ascii: "-"): run.allSatisfy { $0 == UInt8(ascii: "-") }
        default: false
        }
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. (distribution-spec, "Pulling manifests")
public struct Tag: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let description: String

    public init(_ text: some StringProtocol) throws(NameError) {
        let bytes = text.utf8
        guard let first = bytes.first, bytes.count <= 128, Self.isWord(first),
            bytes.allSatisfy({ Self.isWord($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") })
        else { throw NameError(.tag, String(text)) }
        description = String(text)
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
        if text.utf8.contains(UInt8(ascii: ":")) {
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
