internal import FoundationEssentials

/// A reference to content by digest (image-spec, descriptor.md).
public struct Descriptor: Sendable, Hashable {
    public let mediaType: MediaType
    public let digest: Digest
    /// In bytes.
    public let size: Int64
    public let artifactType: String?
    public let annotations: [String: String]?
    /// Where else the content may be fetched from; such layers need not be pushed.
    public let urls: [String]?

    public init(
        mediaType: MediaType,
        digest: Digest,
        size: Int64,
        artifactType: String? = nil,
        annotations: [String: String]? = nil,
        urls: [String]? = nil
    ) {
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
        self.artifactType = artifactType
        self.annotations = annotations
        self.urls = urls
    }

    /// Foreign layers: clients need not push them, so their absence is no error (image-spec, "Non-Distributable Layers").
    public var isNonDistributable: Bool {
        urls?.isEmpty == false || mediaType.rawValue.contains(".nondistributable.")
            || mediaType.rawValue.contains(".foreign.")
    }
}

/// What a registry needs to know of a manifest: its type and what it refers to. The bytes stay as they were pushed.
///
/// (image-spec, manifest.md and image-index.md; Docker's schema 2 has the same fields.)
public struct Manifest: Sendable {
    public let mediaType: MediaType
    public let artifactType: String?
    public let config: Descriptor?
    public let layers: [Descriptor]
    /// The children of an index.
    public let manifests: [Descriptor]
    public let subject: Descriptor?
    public let annotations: [String: String]?

    /// A body that is no manifest.
    public struct Invalid: Error, CustomStringConvertible {
        public let description: String
    }

    /// - Parameters:
    ///   - bytes: JSON.
    ///   - contentType: what the manifest was pushed as; decides when the JSON has no `mediaType` of its own, and must agree when it has.
    ///     `nil`, or `application/octet-stream` as the seed stores it, decides nothing.
    public init(parsing bytes: [UInt8], contentType: MediaType? = nil) throws(Invalid) {
        let wire: Wire
        do {
            wire = try JSONDecoder().decode(Wire.self, from: Data(bytes))
        } catch {
            throw Invalid(description: "the manifest is not valid JSON of a known shape: \(Self.explain(error))")
        }
        if let version = wire.schemaVersion, version != 2 {
            throw Invalid(description: "schemaVersion \(version) is not supported, only 2")
        }
        let announced = contentType.map(\.essence).flatMap { $0 == .octetStream ? nil : $0 }
        let stated = wire.mediaType.map { MediaType(rawValue: $0) }
        if let announced, let stated, stated.essence != announced {
            throw Invalid(description: "the Content-Type is \(announced) but the manifest's mediaType is \(stated)")
        }
        mediaType = stated ?? announced ?? Self.guess(wire)
        artifactType = wire.artifactType
        annotations = wire.annotations
        do {
            config = try wire.config.map(Descriptor.init)
            layers = try (wire.layers ?? []).map(Descriptor.init)
            manifests = try (wire.manifests ?? []).map(Descriptor.init)
            subject = try wire.subject.map(Descriptor.init)
        } catch {
            throw Invalid(description: "\(error)")
        }
    }

    /// Descriptors without `mediaType` come from builders that leave it out of config and layers, so only digest and size decide.
    private static func guess(_ wire: Wire) -> MediaType {
        if wire.manifests != nil { return .imageIndex }
        let inner = (wire.config?.mediaType ?? wire.layers?.first?.mediaType ?? "")
        return inner.hasPrefix("application/vnd.docker.") ? .dockerManifest : .imageManifest
    }

    private static func explain(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "unreadable" }
        switch error {
        case .keyNotFound(let key, let context): return "\(path(context)) has no '\(key.stringValue)'"
        case .typeMismatch(_, let context), .valueNotFound(_, let context): return "\(path(context)) has the wrong type"
        default: return "it cannot be parsed"
        }
    }

    private static func path(_ context: DecodingError.Context) -> String {
        context.codingPath.isEmpty ? "the document" : context.codingPath.map(\.stringValue).joined(separator: ".")
    }
}

private struct Wire: Decodable {
    struct Descriptor: Decodable {
        let mediaType: String?
        let digest: String
        let size: Int64
        let artifactType: String?
        let annotations: [String: String]?
        let urls: [String]?
    }

    let schemaVersion: Int?
    let mediaType: String?
    let artifactType: String?
    let config: Descriptor?
    let layers: [Descriptor]?
    let manifests: [Descriptor]?
    let subject: Descriptor?
    let annotations: [String: String]?
}

extension Descriptor {
    fileprivate init(_ wire: Wire.Descriptor) throws {
        guard wire.size >= 0 else { throw Manifest.Invalid(description: "the size of \(wire.digest) is negative") }
        self.init(
            mediaType: MediaType(rawValue: wire.mediaType ?? ""),
            digest: try Digest(wire.digest),
            size: wire.size,
            artifactType: wire.artifactType,
            annotations: wire.annotations,
            urls: wire.urls
        )
    }
}
