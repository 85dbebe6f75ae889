internal import DiskTier
internal import EdgeCache
internal import OCI

/// One piece of an image.
struct ImagePart: Sendable {
    enum Role: Sendable {
        case index(RepositoryName)
        case manifest(RepositoryName)
        case config
        case layer

        var name: String {
            switch self {
            case .index: "index"
            case .manifest: "manifest"
            case .config: "config"
            case .layer: "layer"
            }
        }
    }

    let role: Role
    let digest: Digest
    /// In bytes.
    let size: Int64
    let platform: Platform?
    /// It was not here before it was asked for.
    var isFetched = false
}

/// An image with all that hangs on it, each piece once.
struct ImageContents: Sendable {
    var parts: [ImagePart] = []
    /// What belongs to it and is nowhere to be found, or not for the platform.
    var missing: [String] = []

    /// Configs and layers.
    var blobs: [ImagePart] {
        parts.filter { if case .index = $0.role { false } else if case .manifest = $0.role { false } else { true } }
    }
}

extension CacheAdministration {
    /// Where manifests are looked for.
    enum ManifestSource {
        /// What the tier has, however old; the origin for the rest.
        case cacheFirst
        /// As a client would get them.
        case asServed
    }

    /// Follows an image from its manifest, through the children of an index, to its config and layers. Layers that are not distributed
    /// with it are left out.
    func contents(
        of name: RepositoryName,
        _ reference: Reference,
        _ platform: Platform?,
        from source: ManifestSource = .cacheFirst
    ) throws(CacheFailure) -> ImageContents {
        var image = ImageContents()
        var seen: Set<Digest> = []
        guard let top = try manifest(name, reference, source) else {
            throw CacheFailure(.failed, "there is no such image, \(try nowhere())")
        }
        try follow(top, nil, name, platform, source, &image, &seen)
        return image
    }

    private struct FoundManifest {
        let digest: Digest
        let mediaType: MediaType
        let bytes: [UInt8]
        var isFetched = false
    }

    private func follow(
        _ found: FoundManifest,
        _ foundPlatform: Platform?,
        _ name: RepositoryName,
        _ platform: Platform?,
        _ source: ManifestSource,
        _ image: inout ImageContents,
        _ seen: inout Set<Digest>
    ) throws(CacheFailure) {
        guard seen.insert(found.digest).inserted else { return }
        let manifest: Manifest
        do throws(Manifest.Invalid) {
            manifest = try Manifest(parsing: found.bytes, contentType: found.mediaType)
        } catch {
            throw CacheFailure(.failed, "manifest \(name)@\(found.digest): \(error)")
        }
        let isIndex = !manifest.manifests.isEmpty
        image.parts.append(
            ImagePart(
                role: isIndex ? .index(name) : .manifest(name),
                digest: found.digest,
                size: Int64(found.bytes.count),
                platform: foundPlatform,
                isFetched: found.isFetched
            )
        )
        let wanted = manifest.manifests.filter { child in
            guard let platform, let other = child.platform else { return true }
            return platform.includes(other)
        }
        if isIndex, wanted.isEmpty, let platform { image.missing.append("there is no image for \(platform)") }
        for child in wanted {
            if let found = try self.manifest(name, .digest(child.digest), source) {
                try follow(found, child.platform, name, platform, source, &image, &seen)
            } else {
                image.missing.append("manifest \(child.digest) is \(try nowhere())")
            }
        }
        let blobs = (manifest.config.map { [($0, ImagePart.Role.config)] } ?? []) + manifest.layers.map { ($0, .layer) }
        for (blob, role) in blobs where !blob.isNonDistributable && seen.insert(blob.digest).inserted {
            image.parts.append(ImagePart(role: role, digest: blob.digest, size: blob.size, platform: foundPlatform))
        }
    }

    /// The command's settings may name another origin than the server's, or none.
    func nowhere() throws(CacheFailure) -> String { "neither here nor at the origin, \(try edge().originName)" }

    private func manifest(
        _ name: RepositoryName,
        _ reference: Reference,
        _ source: ManifestSource
    ) throws(CacheFailure) -> FoundManifest? {
        if source == .cacheFirst, let cached = try cachedManifest(name, reference) { return cached }
        let edge = try edge()
        do throws(EdgeError) {
            return try edge.manifest(name, reference).map {
                FoundManifest(digest: $0.digest, mediaType: $0.mediaType, bytes: $0.bytes, isFetched: true)
            }
        } catch {
            throw CacheFailure(.failed, "\(error)")
        }
    }

    private func cachedManifest(_ name: RepositoryName, _ reference: Reference) throws(CacheFailure) -> FoundManifest? {
        try onDisk { () throws(DiskTierError) in
            switch reference {
            case .digest(let digest):
                try tier.manifest(repository: name, digest: digest).map {
                    FoundManifest(digest: digest, mediaType: $0.mediaType, bytes: $0.bytes)
                }
            case .tag(let tag):
                try tier.tag(repository: name, tag: tag).flatMap { cached in
                    cached.manifest.map {
                        FoundManifest(digest: cached.digest, mediaType: $0.mediaType, bytes: $0.bytes)
                    }
                }
            }
        }
    }
}
