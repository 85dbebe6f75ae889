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

    /// - Parameter path: as it came over the wire, percent-encoded: an encoded slash is a part of a segment, and so never valid.
    init(path: String) throws(Failure) {
        var segments: [String] = []
        for raw in path.split(separator: "/", omittingEmptySubsequences: false).dropFirst() {
            guard let segment = percentDecoded(String(raw)) else { throw .unknownRoute }
            segments.append(segment)
        }
        guard segments.first == "v2" else { throw .unknownRoute }
        segments.removeFirst()
        self = try Self.find(segments)
    }

    private static func find(_ segments: [String]) throws(Failure) -> Route {
        if segments.isEmpty || segments == [""] { return .support }
        if segments == ["_catalog"] { return .catalog }
        // From the end: a repository name may itself hold `tags`, `blobs` or `manifests`.
        if let name = name(segments, before: ["blobs", "uploads", nil]), let id = segments.last {
            return id.isEmpty ? .uploads(try parsed(name)) : .upload(try parsed(name), id: id)
        }
        if let name = name(segments, before: ["blobs", "uploads"]) { return .uploads(try parsed(name)) }
        if let name = name(segments, before: ["tags", "list"]) { return .tags(try parsed(name)) }
        if let name = name(segments, before: ["blobs", nil]), let digest = segments.last {
            return .blob(try parsed(name), try valid { () throws(NameError) in try Digest(digest) })
        }
        if let name = name(segments, before: ["manifests", nil]), let reference = segments.last {
            return .manifest(try parsed(name), try valid { () throws(NameError) in try Reference(reference) })
        }
        if let name = name(segments, before: ["referrers", nil]), let digest = segments.last {
            return .referrers(try parsed(name), try valid { () throws(NameError) in try Digest(digest) })
        }
        throw .unknownRoute
    }

    /// The segments before the given last ones, where `nil` stands for any; `nil` when they differ or nothing is left.
    private static func name(_ segments: [String], before tail: [String?]) -> ArraySlice<String>? {
        guard segments.count > tail.count else { return nil }
        let matches = zip(segments.suffix(tail.count), tail).allSatisfy { $1 == nil || $0 == $1 }
        return matches ? segments.dropLast(tail.count) : nil
    }

    private static func parsed(_ name: ArraySlice<String>) throws(Failure) -> RepositoryName {
        try valid { () throws(NameError) in try RepositoryName(name.joined(separator: "/")) }
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
