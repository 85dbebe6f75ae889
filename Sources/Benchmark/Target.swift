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
        guard Self.isAuthority(authority) else {
            throw Invalid(
                description: "'\(Self.shown(text))' is no URL of a registry: write http://HOST:PORT, and [::1] for IPv6"
            )
        }
        root = scheme + authority
    }

    /// A name or an address, in brackets where it has colons, and a port.
    private static func isAuthority(_ text: Substring) -> Bool {
        let isBracketed = text.hasPrefix("[")
        let end = isBracketed ? text.firstIndex(of: "]").map { text.index(after: $0) } : text.firstIndex(of: ":")
        guard let end = end ?? (isBracketed ? nil : text.endIndex), end > text.startIndex else { return false }
        let port = text[end...]
        return port.isEmpty || port.hasPrefix(":") && UInt16(port.dropFirst()) != nil
    }

    /// Without the scheme: host, port, and the path if there is one.
    var place: String {
        String(description[(description.firstRange(of: "://")?.upperBound ?? description.startIndex)...])
    }

    var isEncrypted: Bool { root.hasPrefix("https://") }

    /// Whether a URL leads to the same scheme, host and port, which alone get the credentials.
    func holds(_ url: String) -> Bool {
        url.hasPrefix(root + "/") || WebAddress(url).map { $0.origin == WebAddress(root)?.origin } ?? false
    }

    /// Where the registry is whose version check a redirect led to, when it is another port or scheme of the same host, and the credentials
    /// are as safe there.
    func moved(to url: String) -> Target? {
        guard !holds(url), let there = WebAddress(url), there.host == WebAddress(root)?.host,
            there.scheme == "https" || !isEncrypted, there.path.hasSuffix("/v2/") || there.path.hasSuffix("/v2")
        else { return nil }
        // What is no registry's URL is no other place.
        return try? Target("\(there.scheme)://\(there.authority)\(there.path)")
    }

    /// Without what may be a password.
    private static func shown(_ text: String) -> String {
        guard let at = text.lastIndex(of: "@") else { return text }
        return "…" + text[at...]
    }
}
