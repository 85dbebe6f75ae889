internal import DiskTier
internal import Logging
public import OCI
internal import ObjectStorage
internal import Registry

/// What the origin must have before anybody may refer to it. That a blob lies here says nothing: another node may have deleted it.
extension EdgeCache {
    /// Objects that are read for one manifest, to find out whether they or it is wrong.
    private static let maximumProofs = 8

    /// A blob's size at the origin, whatever lies here and whatever was said of it a moment ago. `nil` when it is not there.
    public func confirmedSize(_ digest: Digest) throws(EdgeError) -> Int64? {
        let size = try sizeAtOrigin(digest, anew: true)
        guard size != nil else { return nil }
        fills.foundPresent(digest)
        told.insert(digest)
        return size
    }

    /// Whether the origin has a blob. One that only this node has goes there again: its clients were told that they need not push it.
    public func provide(_ digest: Digest) throws(EdgeError) -> Bool {
        if let size = try confirmedSize(digest), size == cachedSize(digest) ?? size { return true }
        return try restore(digest)
    }

    /// Refuses an image without its content. Sparse ones are taken, as the conformance tests ask: an index whose children come later or never,
    /// an image that lacks some of its layers but not all, and foreign layers. (distribution-spec, "Push": a registry MAY reject) What a client
    /// was told is here is none of that, nor is what lies at the origin as something else.
    func requireBlobs(of manifest: Manifest) throws(EdgeError) {
        let layers = manifest.layers.filter { !$0.isNonDistributable }
        let blobs = layers + (manifest.config.map { [$0] } ?? [])
        let needed = Dictionary(blobs.map { ($0.digest, $0.size) }) { size, _ in size }
        let digests = needed.keys.sorted()
        let found = try atOrigin { () throws(RegistryError) in try registry.blobInfos(digests) }
        let unproved = zip(digests, found).count { digest, info in
            info.map { $0.size != needed[digest] && cachedSize(digest) == nil } ?? false
        }
        guard unproved <= Self.maximumProofs else {
            throw .manifestInvalid("it names other sizes for \(unproved) blobs than the origin has of them")
        }
        var (missing, denied) = (Set<Digest>(), [Digest]())
        for (digest, info) in zip(digests, found) where try !provide(digest, needed[digest], info) {
            missing.insert(digest)
            if info != nil || told.contains(digest) { denied.append(digest) }
        }
        guard denied.isEmpty else { throw .manifestBlobsUnknown(denied) }
        let lacksConfig = manifest.config.map { missing.contains($0.digest) } ?? false
        let lacksLayers = !layers.isEmpty && layers.allSatisfy { missing.contains($0.digest) }
        guard !lacksConfig, !lacksLayers else { throw .manifestBlobsUnknown(missing.sorted()) }
    }

    /// Whether the origin's object is the blob, as far as its length and earlier pulls tell, or the blob was brought back from here.
    private func provide(_ digest: Digest, _ announced: Int64?, _ info: ObjectInfo?) throws(EdgeError) -> Bool {
        if let size = damages.size(digest, info) {
            fills.foundPresent(digest)
            if try isWhole(digest, size, announced) { return true }
        }
        return try restore(digest)
    }

    /// - Parameter announced: what the client says, who may be wrong: then the object has to prove what it is, as where it is doubted.
    private func isWhole(_ digest: Digest, _ size: Int64, _ announced: Int64?) throws(EdgeError) -> Bool {
        if let cached = cachedSize(digest) { return size == cached }
        if size == announced, !damages.contains(digest) { return true }
        return try isProved(digest)
    }

    /// Reads an object, so that its digest tells. Once it may be damaged on its way, so it is read a second time then.
    private func isProved(_ digest: Digest) throws(EdgeError) -> Bool {
        for _ in 0..<2 {
            do throws(EdgeError) {
                return try readsWhole(digest)
            } catch {
                guard case .origin(.damaged) = error else { throw error }
            }
        }
        return false
    }

    /// False when there is nothing to read.
    private func readsWhole(_ digest: Digest) throws(EdgeError) -> Bool {
        guard let content = try blob(digest) else { return false }
        guard case .stream(let stream, let size) = content else { return true }
        try content.begin(0..<size)
        var offset: Int64 = 0
        while offset < size {
            let piece = try [UInt8](capacity: 1 << 20) { (buffer: inout OutputSpan<UInt8>) throws(EdgeError) in
                try stream.read(at: offset, into: &buffer)
            }
            offset += Int64(piece.count)
        }
        return true
    }

    /// Brings a blob of the tier back to the origin, once for all who miss it; false when it is not here, or damaged.
    private func restore(_ digest: Digest) throws(EdgeError) -> Bool {
        try restoreFlights.run(digest) { Result { () throws(EdgeError) in try sendAgain(digest) } }.get()
    }

    private func sendAgain(_ digest: Digest) throws(EdgeError) -> Bool {
        guard let size = cachedSize(digest) else { return false }
        // Another may have brought it back after the caller's look.
        if try atOrigin({ () throws(RegistryError) in try uploadTools.lengthAtOrigin(digest) }) == size { return true }
        guard let content = verified(digest) else { return false }
        try atOrigin { () throws(RegistryError) in
            switch content {
            case .file(let file, _) where size > registry.store.multipart.thresholdBytes:
                let remote = RemoteUpload(uploadTools, id: nil)
                remote.name(digest)
                do throws(RegistryError) {
                    try remote.finish(file, size: size, as: digest)
                } catch {
                    remote.abort()
                    throw error
                }
            case .file(let file, _):
                let body = ObjectBody.file(file, offset: 0, length: size, digest: digest)
                try registry.pushBlob(digest, from: body, isMissing: true)
            case .bytes(let bytes):
                try registry.pushBlob(digest, from: .bytes(bytes), isMissing: true)
            case .stream:
                preconditionFailure("a blob that was hashed is still being hashed")
            }
        }
        hasPushed(digest)
        log.notice("sent again: the origin had it no more", metadata: ["digest": "\(digest)"])
        return true
    }

    /// Brings back the manifests below an index that only this node has. What no client was told is here may come later, or never.
    ///
    /// - Throws: ``EdgeError/manifestBlobsUnknown(_:)`` for one that a client was told is here and that is nowhere, and for one that lacks its
    ///   blobs: that is forgotten, so that its client hears so and pushes it.
    func restoreChildren(of index: Manifest, in name: RepositoryName) throws(EdgeError) {
        var (level, seen) = (index.manifests.map(\.digest), Set<Digest>())
        while !level.isEmpty {
            let known = level.filter { digest in
                seen.insert(digest).inserted
                    && (cachedManifest(name, digest) != nil || told.contains(digest, in: name))
            }
            let missing = try atOrigin { () throws(RegistryError) in
                try registry.missingManifests(name: name, among: known)
            }
            let denied = missing.filter { told.contains($0, in: name) && cachedManifest(name, $0) == nil }
            guard denied.isEmpty else { throw .manifestBlobsUnknown(denied) }
            level = []
            for digest in missing {
                guard let child = cachedManifest(name, digest) else { continue }
                // What is no manifest refers to nothing, and is brought back all the same.
                let manifest = try? Manifest(parsing: child.bytes, contentType: child.mediaType)
                do throws(EdgeError) {
                    if let manifest { try requireBlobs(of: manifest) }
                } catch {
                    guard case .manifestBlobsUnknown = error else { throw error }
                    drop("manifest \(name)@\(digest)") { () throws(DiskTierError) in
                        try tier.forget(manifest: digest, repository: name)
                    }
                    throw error
                }
                try write(name, [], digest, child.bytes, child.mediaType)
                log.notice("sent again: the origin had it no more", metadata: ["manifest": "\(name)@\(digest)"])
                level += manifest?.manifests.map(\.digest) ?? []
            }
        }
    }

    /// What was hashed a moment ago: nothing else may become the truth.
    private func verified(_ digest: Digest) -> BlobContent? {
        do {
            guard try tier.verify(digest) == .verified else { return nil }
            return try cached(digest)?.forRanges()
        } catch {
            log.warning("not sent again", metadata: ["digest": "\(digest)", "error": "\(error)"])
            return nil
        }
    }
}
