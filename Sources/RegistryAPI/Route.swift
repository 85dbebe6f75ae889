internal import HTTPServer
internal import OCI

/// What a request's path names. (distribution-spec, "Endpoints")
enum Route: Equatable {
    /// `/v2/`
    case support
    /// `/v2/_catalog`
    case catalog
    /// `/v2/<name>/tags/list`
    case tags(RepositoryName)
    /// `/v2/<name>/manifests/<reference>`
    case manifest(RepositoryName, Reference)
    /// `/v2/<name>/blobs/<digest>`
    case blob(RepositoryName, Digest)
    /// `/v2/<name>/blobs/uploads/`
    case uploads(RepositoryName)
    /// `/v2/<name>/blobs/uploads/<id>`
    case upload(RepositoryName, id: String)
    /// `/v2/<name>/referrers/<digest>`
    case referrers(RepositoryName, Digest)

    enum Failure: Error {
        case unknownRoute
        case invalid(NameError)
    }

    /// - Parameter path: as it came over the wire, percent-encoded: an encoded slash would be a part of a segment, and no name has one.
    init(path: String) throws(Failure) {
        guard Self.isEncoded(path.utf8.span) else {
            self = try Self.find(path.utf8.span)
            return
        }
        let slashes = path.utf8.count { $0 == UInt8(ascii: "/") }
        guard let decoded = percentDecoded(path), decoded.utf8.count(where: { $0 == UInt8(ascii: "/") }) == slashes
        else {
            throw .unknownRoute
        }
        self = try Self.find(decoded.utf8.span)
    }

    private static func isEncoded(_ path: Span<UInt8>) -> Bool {
        for index in path.indices where path[index] == UInt8(ascii: "%") { return true }
        return false
    }

    private static func find(_ path: Span<UInt8>) throws(Failure) -> Route {
        guard path.count >= 3, equals(path, 0..<3, "/v2") else { throw .unknownRoute }
        if path.count <= 4 {
            guard path.count == 3 || path[3] == UInt8(ascii: "/") else { throw .unknownRoute }
            return .support
        }
        guard path[3] == UInt8(ascii: "/") else { throw .unknownRoute }
        // From the end: a repository name may itself hold `tags`, `blobs` or `manifests`.
        let last = segment(of: path, before: path.count)
        if equals(path, last, "_catalog"), last.lowerBound == 4 { return .catalog }
        let kind = segment(of: path, before: last.lowerBound - 1)
        guard kind.lowerBound > 4 else { throw .unknownRoute }
        let name = path.extracting(4..<kind.lowerBound - 1)
        return try find(path, name, kind, last)
    }

    private static func find(
        _ path: Span<UInt8>,
        _ name: Span<UInt8>,
        _ kind: Range<Int>,
        _ last: Range<Int>
    ) throws(Failure) -> Route {
        let reference = path.extracting(last)
        if equals(path, kind, "uploads") {
            let above = segment(of: path, before: kind.lowerBound - 1)
            if equals(path, above, "blobs"), above.lowerBound > 4 {
                let name = try valid { () throws(NameError) in
                    try RepositoryName(path.extracting(4..<above.lowerBound - 1))
                }
                return last.isEmpty ? .uploads(name) : .upload(name, id: text(reference))
            }
        }
        if equals(path, kind, "blobs") {
            if equals(path, last, "uploads") { return .uploads(try parsed(name)) }
            return .blob(try parsed(name), try valid { () throws(NameError) in try Digest(reference) })
        }
        if equals(path, kind, "tags"), equals(path, last, "list") { return .tags(try parsed(name)) }
        if equals(path, kind, "manifests") {
            return .manifest(try parsed(name), try valid { () throws(NameError) in try Reference(reference) })
        }
        if equals(path, kind, "referrers") {
            return .referrers(try parsed(name), try valid { () throws(NameError) in try Digest(reference) })
        }
        throw .unknownRoute
    }

    /// The last segment that ends at `end`; begins at or after the path's third slash.
    private static func segment(of path: Span<UInt8>, before end: Int) -> Range<Int> {
        var start = max(4, end)
        while start > 4, path[start - 1] != UInt8(ascii: "/") { start -= 1 }
        return start..<max(start, end)
    }

    private static func equals(_ path: Span<UInt8>, _ range: Range<Int>, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        return range.allSatisfy { unsafe path[$0] == text.utf8Start[$0 - range.lowerBound] }
    }

    private static func text(_ bytes: Span<UInt8>) -> String {
        String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self)
    }

    private static func parsed(_ name: Span<UInt8>) throws(Failure) -> RepositoryName {
        try valid { () throws(NameError) in try RepositoryName(name) }
    }

    private static func valid<Value>(_ parse: () throws(NameError) -> Value) throws(Failure) -> Value {
        do throws(NameError) {
            return try parse()
        } catch {
            throw .invalid(error)
        }
    }

    var label: RouteLabel {
        switch self {
        case .support: .support
        case .catalog: .catalog
        case .tags: .tags
        case .referrers: .referrers
        case .manifest: .manifest
        case .blob: .blob
        case .uploads: .uploads
        case .upload: .upload
        }
    }

    /// Names content that lasts, not an upload.
    var isContent: Bool {
        switch self {
        case .manifest, .blob: true
        default: false
        }
    }

    /// For the `Allow` header of a 405.
    var methods: String {
        switch self {
        case .support, .catalog, .tags, .referrers: "GET, HEAD"
        case .manifest: "GET, HEAD, PUT, DELETE"
        case .blob: "GET, HEAD, DELETE"
        case .uploads: "POST"
        case .upload: "GET, PATCH, PUT, DELETE"
        }
    }
}
