/// The parts of an absolute URL (RFC 3986, section 3), without its fragment.
struct WebAddress {
    /// In small letters.
    let scheme: String
    /// As written: host and port, and perhaps a user.
    let authority: String
    let path: String
    /// With its question mark; empty when there is none.
    let query: String

    /// `nil` when it is relative.
    init?(_ url: String) {
        let url = url.prefix { $0 != "#" }
        guard let mark = url.firstRange(of: "://"), Self.isScheme(url[..<mark.lowerBound]) else { return nil }
        scheme = url[..<mark.lowerBound].lowercased()
        let rest = url[mark.upperBound...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let path = rest[authority.endIndex...].prefix { $0 != "?" }
        self.authority = String(authority)
        self.path = String(path)
        query = String(rest[path.endIndex...])
    }

    private static func isScheme(_ text: Substring) -> Bool {
        guard let first = text.utf8.first, first.isLetter else { return false }
        return text.utf8.allSatisfy { $0.isLetter || 48...57 ~= $0 || "+-.".utf8.contains($0) }
    }

    /// Host in small letters.
    var host: String {
        let end = authority.lastIndex(of: ":").flatMap { authority[$0...].contains("]") ? nil : $0 }
        return authority[..<(end ?? authority.endIndex)].lowercased()
    }

    /// Scheme, host and port, the same for all ways to write them.
    var origin: String {
        let port = authority.dropFirst(host.count).drop { $0 == ":" }
        let usual = scheme == "https" ? "443" : "80"
        return "\(scheme)://\(host):\(port.isEmpty ? usual : String(port))"
    }

    /// What `reference` means in an answer to a request for this (RFC 3986, section 5.2).
    func resolve(_ reference: String) -> String {
        let reference = String(reference.prefix { $0 != "#" })
        if WebAddress(reference) != nil { return reference }
        if reference.hasPrefix("//") { return "\(scheme):\(reference)" }
        let root = "\(scheme)://\(authority)"
        if reference.isEmpty { return root + path + query }
        if reference.hasPrefix("?") { return root + path + reference }
        let relative = String(reference.prefix { $0 != "?" })
        let rest = reference[relative.endIndex...]
        let folder = path[..<(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)]
        let whole = relative.hasPrefix("/") ? relative : (folder.isEmpty ? "/" : folder) + relative
        return root + Self.withoutDots(whole) + rest
    }

    /// Section 5.2.4, for a path that begins with a slash.
    private static func withoutDots(_ path: String) -> String {
        let segments = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        var kept: [Substring] = []
        for segment in segments {
            switch segment {
            case ".": break
            case "..": _ = kept.popLast()
            default: kept.append(segment)
            }
        }
        if let last = segments.last, last == "." || last == ".." { kept.append("") }
        return "/" + kept.joined(separator: "/")
    }
}

extension UInt8 {
    fileprivate var isLetter: Bool { 65...90 ~= self || 97...122 ~= self }
}
