internal import Hashing
public import OCI
internal import ObjectStorage
internal import Threading

extension Registry {
    /// Removes a tag and its catalog entry; the manifest stays. Removing a tag that does not exist succeeds, as in the seed.
    public func deleteTag(name: RepositoryName, tag: Tag) throws(RegistryError) {
        try deleteTags(name: name, [tag])
    }

    /// The catalog goes first: a tag that is still there is found again by the next attempt, an entry without a tag is not.
    private func deleteTags(name: RepositoryName, _ tags: [Tag]) throws(RegistryError) {
        try catalogWriter.apply(tags.map { .remove(name: name.description, tag: $0.description) })
        try ask { () throws(StoreError) in try store.delete(tags.map { layout.tag(name, $0) }) }
    }

    /// Removes a manifest: every tag that resolves to it first, then its entry among its subject's referrers, then the digest copy.
    ///
    /// As the digest copy goes last, whatever fails on the way leaves it in place, and the same call resumes. Manifests that refer to this
    /// one stay.
    /// - Throws: ``RegistryError/notFound(_:)`` when the digest copy does not exist.
    /// - Returns: the tags that were removed.
    @discardableResult
    public func deleteManifest(name: RepositoryName, digest: Digest) throws(RegistryError) -> [Tag] {
        let key = layout.manifest(name, digest)
        guard case .complete(let bytes, let info) = try store.contents(key, limitBytes: Self.manifestLimitBytes) else {
            throw .notFound("manifest \(name)@\(digest)")
        }
        let tags = try tags(name: name, resolvingTo: digest, copy: info)
        try deleteTags(name: name, tags)
        // A copy that is no manifest has no subject either.
        if let subject = (try? Manifest(parsing: bytes))?.subject?.digest {
            try ask { () throws(StoreError) in try store.delete(layout.referrer(name, subject: subject, digest)) }
        }
        try ask { () throws(StoreError) in try store.delete(key) }
        return tags
    }

    /// A listing tells by ETag which tags hold the same content, where ETags are hashes of it; elsewhere the tags of the same size are read.
    private func tags(
        name: RepositoryName,
        resolvingTo digest: Digest,
        copy: ObjectInfo
    ) throws(RegistryError) -> [Tag] {
        var candidates: [Tag] = []
        try forEachObject(below: layout.repository(name)) { object in
            guard object.size == copy.size, let tag = layout.tag(of: object.key, in: name) else { return }
            if store.capabilities.etagIsContentHash, let etag = copy.etag, let theirs = object.etag, etag != theirs {
                return
            }
            candidates.append(tag)
        }
        let matches = try inParallel(candidates) { tag throws(RegistryError) in
            try self.resolves(name: name, tag: tag, to: digest)
        }
        return zip(candidates, matches).filter(\.1).map(\.0)
    }

    /// Reads the tag itself, so that one moved since the listing survives.
    private func resolves(name: RepositoryName, tag: Tag, to digest: Digest) throws(RegistryError) -> Bool {
        guard case .found(let manifest) = try lookUp(name: name, tag: tag, unlessETag: nil) else { return false }
        return Digest(of: manifest.bytes, digest.algorithm) == digest
    }
}
