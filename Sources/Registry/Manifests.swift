internal import Hashing
public import OCI
internal import ObjectStorage
internal import Threading

/// A manifest as it lies in the bucket.
public struct StoredManifest: Sendable {
    /// Exactly as they were pushed.
    public let bytes: [UInt8]
    public let digest: Digest
    public let mediaType: MediaType
    /// The object's ETag, for asking again whether it changed.
    public let etag: String?

    public init(bytes: [UInt8], digest: Digest, mediaType: MediaType, etag: String?) {
        self.bytes = bytes
        self.digest = digest
        self.mediaType = mediaType
        self.etag = etag
    }
}

/// The answer to "is the tag still what it was?".
public enum TagLookup: Sendable {
    case unknown
    /// The ETag given still holds.
    case unchanged
    case found(StoredManifest)
}

/// Which manifest of which repository.
struct ManifestID: Hashable, Sendable {
    let name: RepositoryName
    let digest: Digest
}

extension Registry {
    /// The manifest that a tag names.
    public func manifest(name: RepositoryName, tag: Tag) throws(RegistryError) -> StoredManifest {
        guard case .found(let manifest) = try lookUp(name: name, tag: tag, unlessETag: nil) else {
            throw .notFound("manifest \(name):\(tag)")
        }
        return manifest
    }

    /// Asks for a tag's manifest, conditionally when an ETag is given.
    public func lookUp(name: RepositoryName, tag: Tag, unlessETag etag: String?) throws(RegistryError) -> TagLookup {
        var seen: [Digest] = []
        while true {
            switch try store.contents(layout.tag(name, tag), limitBytes: Self.manifestLimitBytes, ifNoneMatch: etag) {
            case .notFound: return .unknown
            case .notModified: return .unchanged
            case .complete(let bytes, let info):
                let digest = Digest(of: bytes)
                contentHashes.note(info.etag, of: bytes)
                if try isTrustworthy(bytes, info, name, digest, seen) {
                    return .found(Self.stored(bytes, digest: digest, info))
                }
                guard seen.count < Self.lookLimit else { throw untrustworthy(layout.tag(name, tag)) }
                seen.append(digest)
            }
        }
    }

    /// How often a tag's manifest is read again that nothing vouches for.
    private static let lookLimit = 3

    /// Nobody knows what a tag's bytes should be. Where the store's ETag does not tell, the digest copy vouches for them. Whoever pushes writes
    /// it; in a repository that has none at all, the same manifest must come twice.
    private func isTrustworthy(
        _ bytes: [UInt8],
        _ info: ObjectInfo,
        _ name: RepositoryName,
        _ digest: Digest,
        _ seen: [Digest]
    ) throws(RegistryError) -> Bool {
        if store.capabilities.isFaithful { return true }
        // A page of something between us and the store.
        guard Manifest.isObject(bytes) else { return false }
        if info.md5 != nil { return true }
        let copy = try ask { () throws(StoreError) in try store.head(layout.manifest(name, digest)) }
        // Unreadable is no reason to doubt it.
        if copy != nil { return true }
        guard seen.contains(digest), (try? Manifest(parsing: bytes)) != nil else { return false }
        return try !hasDigestCopies(name)
    }

    private func hasDigestCopies(_ name: RepositoryName) throws(RegistryError) -> Bool {
        do throws(StoreError) {
            let prefix = layout.repository(name) + "_digests/"
            return try !store.list(prefix: prefix, delimiter: nil, after: nil, continuation: nil, limit: 1).objects
                .isEmpty
        } catch {
            // One that may not be listed is taken for one that was pushed.
            guard error.kind.isDenial else { throw .store(error) }
            return true
        }
    }

    private func untrustworthy(_ key: ObjectKey) -> RegistryError {
        let message = "no manifest, or another one each time"
        return .store(StoreError(.get, in: store.description, key: key, .damagedBody, message, isRetryable: true))
    }

    /// The manifest with this digest, verified; `nil` when the repository has none.
    public func manifestIfPresent(name: RepositoryName, digest: Digest) throws(RegistryError) -> StoredManifest? {
        let key = layout.manifest(name, digest)
        guard case .complete(let bytes, let info) = try store.contents(key, limitBytes: Self.manifestLimitBytes) else {
            return nil
        }
        let actual = Digest(of: bytes, digest.algorithm)
        guard actual == digest else { throw .damaged(key: key, expected: digest, actual: actual) }
        return Self.stored(bytes, digest: digest, info)
    }

    /// The manifest with this digest.
    public func manifest(name: RepositoryName, digest: Digest) throws(RegistryError) -> StoredManifest {
        guard let manifest = try manifestIfPresent(name: name, digest: digest) else {
            throw .notFound("manifest \(name)@\(digest)")
        }
        return manifest
    }

    /// Stores a manifest under its digest and under each tag, then enters the tags into the catalog.
    ///
    /// The digest copy comes first: whoever sees the tag can resolve it. That is to a SHA-256, since a tag has no more than the manifest's bytes: with
    /// another digest a tagged manifest has a copy under both. A manifest with a `subject`,
    /// which need not exist, is listed among that one's referrers from then on.
    /// - Returns: each tag's ETag, in the order given, where the store tells it.
    @discardableResult
    public func pushManifest(
        name: RepositoryName,
        tags: [Tag],
        digest: Digest,
        _ bytes: [UInt8],
        mediaType: MediaType
    ) throws(RegistryError) -> [String?] {
        if !tags.isEmpty, digest.algorithm != .sha256 {
            let resolved = ManifestID(name: name, digest: Digest(of: bytes))
            return try manifestClaims.share(resolved) { () throws(RegistryError) in
                try write(layout.manifest(name, resolved.digest), bytes, mediaType)
                return try push(name, tags, digest, bytes, mediaType)
            }
        }
        return try push(name, tags, digest, bytes, mediaType)
    }

    private func push(
        _ name: RepositoryName,
        _ tags: [Tag],
        _ digest: Digest,
        _ bytes: [UInt8],
        _ mediaType: MediaType
    ) throws(RegistryError) -> [String?] {
        let etags = try manifestClaims.share(ManifestID(name: name, digest: digest)) { () throws(RegistryError) in
            try write(layout.manifest(name, digest), bytes, mediaType)
            // What is no manifest refers to nothing.
            if let manifest = try? Manifest(parsing: bytes, contentType: mediaType), let subject = manifest.subject {
                let entry = manifest.referrer(digest: digest, size: Int64(bytes.count))
                try recordReferrer(name, subject: subject.digest, entry)
            }
            return try tagClaims.share(name) { () throws(RegistryError) in
                var etags: [String?] = []
                for tag in tags { etags.append(try write(layout.tag(name, tag), bytes, mediaType)) }
                return etags
            }
        }
        try enterIntoCatalog(name, tags)
        return etags
    }

    func enterIntoCatalog(_ name: RepositoryName, _ tags: [Tag]) throws(RegistryError) {
        try catalogWriter.apply(
            tags.map { .add(name: name.description, tag: $0.description, key: layout.relativeTag(name, $0)) }
        )
    }

    /// Stores a manifest under a tag and its digest, and enters the tag into the catalog.
    @discardableResult
    public func pushManifest(
        name: RepositoryName,
        tag: Tag,
        _ bytes: [UInt8],
        mediaType: MediaType
    ) throws(RegistryError) -> Digest {
        let digest = Digest(of: bytes)
        try pushManifest(name: name, tags: [tag], digest: digest, bytes, mediaType: mediaType)
        return digest
    }

    /// Stores a manifest by digest only, as an index's children are. The catalog is not touched.
    @discardableResult
    public func pushManifest(
        name: RepositoryName,
        _ bytes: [UInt8],
        mediaType: MediaType
    ) throws(RegistryError) -> Digest {
        let digest = Digest(of: bytes)
        try pushManifest(name: name, tags: [], digest: digest, bytes, mediaType: mediaType)
        return digest
    }

    @discardableResult
    private func write(_ key: ObjectKey, _ bytes: [UInt8], _ mediaType: MediaType) throws(RegistryError) -> String? {
        let outcome = try ask { () throws(StoreError) in
            try store.put(key, .bytes(bytes), contentType: mediaType.rawValue, condition: .none)
        }
        guard case .stored(let etag) = outcome else { preconditionFailure("an unconditional write was conditional") }
        contentHashes.note(etag, of: bytes)
        return etag
    }

    /// Objects that the seed wrote carry no type of their own; then the manifest itself tells.
    private static func stored(_ bytes: [UInt8], digest: Digest, _ info: ObjectInfo) -> StoredManifest {
        let announced = info.contentType.map { MediaType(rawValue: $0) }
        let mediaType: MediaType
        if let announced, !announced.rawValue.isEmpty, announced.essence != .octetStream {
            mediaType = announced
        } else {
            // An unreadable manifest is served all the same: its bytes are what the digest promises.
            mediaType = (try? Manifest(parsing: bytes))?.mediaType ?? .imageManifest
        }
        return StoredManifest(bytes: bytes, digest: digest, mediaType: mediaType, etag: info.etag)
    }
}
