/// Where a registry is: scheme, host, and what stands before `/v2/`.
public struct Target: Sendable, Hashable, CustomStringConvertible {
    public let description: String
    /// Scheme, host and port.
    let root: String

    public struct Invalid: Error, CustomStringConvertible {
        public let description: String
    }

    public init(_ text: String) throws(Invalid) {
        guard let scheme = ["http://", "https://"].first(where: { text.hasPrefix($0) }) else {
            throw Invalid(description: "'\(Self.shown(text))' is no URL of a registry: begin with http:// or https://")
        }
        var base = text[...]
        while base.hasSuffix("/") { base.removeLast() }
        if base.hasSuffix("/v2") { base.removeLast(3) }
        let authority = base.dropFirst(scheme.count).prefix { $0 != "/" }
        guard !authority.isEmpty, base.utf8.allSatisfy({ 0x21...0x7e ~= $0 }), !base.contains("?"), !base.contains("#")
        else {
            throw Invalid(description: "'\(Self.shown(text))' is no URL of a registry, such as http://127.0.0.1:5000")
        }
        guard !authority.contains("@") else {
            throw Invalid(description: "credentials do not belong into a URL: use --credentials FILE")
        }
        description = String(base)
        root = scheme + authority
    }

    /// Without the scheme: host, port, and the path if there is one.
    var place: String {
        String(description[(description.firstRange(of: "://")?.upperBound ?? description.startIndex)...])
    }

    var isEncrypted: Bool { root.hasPrefix("https://") }

    /// What a `Location` means.
    func resolve(_ location: String) -> String {
        if location.contains("://") { return location }
        return root + (location.hasPrefix("/") ? "" : "/") + location
    }

    /// Without what may be a password.
    private static func shown(_ text: String) -> String {
        guard let at = text.lastIndex(of: "@") else { return text }
        return "…" + text[at...]
    }
}
