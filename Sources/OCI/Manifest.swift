internal import FoundationEssentials

/// A reference to content by digest (image-spec, descriptor.md).
public struct Descriptor: Sendable, Hashable, Codable {
    public let mediaType: MediaType
    public let digest: Digest
    /// In bytes.
    public let size: Int64
    public let artifactType: String?
    public let annotations: [String: String]?
    /// Where else the content may be fetched from; such layers need not be pushed.
    public let urls: [String]?
    /// What an index's child runs on.
    public let platform: Platform?

    public init(
        mediaType: MediaType,
        digest: Digest,
        size: Int64,
        artifactType: String? = nil,
        annotations: [String: String]? = nil,
        urls: [String]? = nil,
        platform: Platform? = nil
    ) {
        self.platform = platform
        self.mediaType = mediaType
        self.digest = digest
        self.size = size
        self.artifactType = artifactType
        self.annotations = annotations
        self.urls = urls
    }

    /// Some builders leave out the media type of config and layers, so only digest and size must be there.
    public init(from decoder: any Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        size = try values.decode(Int64.self, forKey: .size)
        guard size >= 0 else {
            throw DecodingError.dataCorruptedError(forKey: .size, in: values, debugDescription: "a negative size")
        }
        digest = try values.decode(Digest.self, forKey: .digest)
        mediaType = try values.decodeIfPresent(MediaType.self, forKey: .mediaType) ?? MediaType(rawValue: "")
        artifactType = try values.decodeIfPresent(String.self, forKey: .artifactType)
        annotations = try values.decodeIfPresent([String: String].self, forKey: .annotations)
        urls = try values.decodeIfPresent([String].self, forKey: .urls)
        // Odd ones are no reason to refuse a manifest.
        platform = try? values.decodeIfPresent(Platform.self, forKey: .platform)
    }

    /// Foreign layers: clients need not push them, so their absence is no error (image-spec, "Non-Distributable Layers").
    public var isNonDistributable: Bool {
        urls?.isEmpty == false || mediaType.rawValue.contains(".nondistributable.")
            || mediaType.rawValue.contains(".foreign.")
    }
}

/// What an image runs on (image-spec, image-index.md, "platform").
public struct Platform: Sendable, Hashable, Codable, CustomStringConvertible {
    public let os: String
    public let architecture: String
    public let variant: String?

    /// Reads `os/architecture` or `os/architecture/variant`, as tools write them; `nil` for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard 2...3 ~= parts.count, parts.allSatisfy({ !$0.isEmpty }) else { return nil }
        os = String(parts[0])
        architecture = String(parts[1])
        variant = parts.count == 3 ? String(parts[2]) : nil
    }

    /// Whether a child for `other` is wanted: a variant counts only where one is asked for.
    public func includes(_ other: Platform) -> Bool {
        os == other.os && architecture == other.architecture && (variant == nil || variant == other.variant)
    }

    public var description: String { "\(os)/\(architecture)\(variant.map { "/\($0)" } ?? "")" }
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
        if contentType?.essence.rawValue == "text/html" {
            throw Invalid(description: "the Content-Type is text/html, which no manifest has")
        }
        let announced = contentType.map(\.essence).flatMap { $0 == .octetStream ? nil : $0 }
        let stated = wire.mediaType.map { MediaType(rawValue: $0) }
        if let announced, let stated, stated.essence != announced {
            throw Invalid(description: "the Content-Type is \(announced) but the manifest's mediaType is \(stated)")
        }
        mediaType = stated ?? announced ?? Self.guess(wire)
        artifactType = wire.artifactType
        annotations = wire.annotations
        config = wire.config
        layers = wire.layers ?? []
        manifests = wire.manifests ?? []
        subject = wire.subject
    }

    /// Whether these bytes are a JSON object, which every manifest is, also one of a shape that is not known here.
    public static func isObject(_ bytes: [UInt8]) -> Bool {
        (try? JSONDecoder().decode(AnyObject.self, from: Data(bytes))) != nil  // Why not is of no interest.
    }

    private struct AnyObject: Decodable {
        private enum Name: CodingKey {}
        init(from decoder: any Decoder) throws { _ = try decoder.container(keyedBy: Name.self) }
    }

    private static func guess(_ wire: Wire) -> MediaType {
        if wire.manifests != nil { return .imageIndex }
        let inner = wire.config?.mediaType ?? wire.layers?.first?.mediaType
        return inner?.rawValue.hasPrefix("application/vnd.docker.") == true ? .dockerManifest : .imageManifest
    }

    private static func explain(_ error: any Error) -> String {
        guard let error = error as? DecodingError else { return "unreadable" }
        switch error {
        case .keyNotFound(let key, let context): return "\(path(context)) has no '\(key.stringValue)'"
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            return "\(path(context)): \(context.debugDescription)"
        case .typeMismatch(_, let context), .valueNotFound(_, let context): return "\(path(context)) has the wrong type"
        default: return "it cannot be parsed"
        }
    }

    private static func path(_ context: DecodingError.Context) -> String {
        context.codingPath.isEmpty ? "the document" : context.codingPath.map(\.stringValue).joined(separator: ".")
    }
}

private struct Wire: Decodable {
    let schemaVersion: Int?
    let mediaType: String?
    let artifactType: String?
    let config: Descriptor?
    let layers: [Descriptor]?
    let manifests: [Descriptor]?
    let subject: Descriptor?
    let annotations: [String: String]?
}

// MARK: - Referrers

extension Manifest {
    /// How this manifest is listed among the referrers of its subject. (distribution-spec, "Listing Referrers")
    ///
    /// An image without an `artifactType` is listed by its config's media type, an index without one by none.
    public func referrer(digest: Digest, size: Int64) -> Descriptor {
        let type = artifactType.flatMap { $0.isEmpty ? nil : $0 }
        return Descriptor(
            mediaType: mediaType,
            digest: digest,
            size: size,
            artifactType: type ?? config?.mediaType.rawValue,
            annotations: annotations
        )
    }
}

/// The answer to a request for referrers: an image index of descriptors.
public struct ReferrersIndex: Encodable, Sendable {
    private let schemaVersion = 2
    private let mediaType = MediaType.imageIndex
    public let manifests: [Descriptor]

    public init(_ manifests: [Descriptor]) {
        self.manifests = manifests
    }
}
