internal import Hashing
public import OCI
internal import ObjectStorage
internal import Threading

extension Registry {
    /// Removes a tag and its catalog entry; the manifest stays. Removing a tag that does not exist succeeds, as in the seed.
    public func deleteTag(name: RepositoryName, tag: Tag) throws(RegistryError) {
        try removeFromCatalog(name, [tag])
        try ask { () throws(StoreError) in try store.delete(layout.tag(name, tag)) }
    }

    /// Removes a manifest: every tag that resolves to it first, then its entry among its subject's referrers, then the digest copy.
    ///
    /// As the digest copy goes last, whatever fails on the way leaves it in place, and the same call resumes. Manifests that refer to this
    /// one stay. A push of the same manifest through this registry comes wholly before the delete or wholly after it.
    /// - Throws: ``RegistryError/notFound(_:)`` when the digest copy does not exist. An error of the store that is ``StoreError/mayBeDone`` may
    ///   have come when some of it was removed.
    /// - Returns: the tags that were removed.
    @discardableResult
    public func deleteManifest(name: RepositoryName, digest: Digest) throws(RegistryError) -> [Tag] {
        try manifestClaims.own(ManifestID(name: name, digest: digest)) { () throws(RegistryError) in
            let key = layout.manifest(name, digest)
            guard case .complete(let bytes, let info) = try store.contents(key, limitBytes: Self.manifestLimitBytes)
            else { throw .notFound("manifest \(name)@\(digest)") }
            contentHashes.note(info.etag, of: bytes)
            let found = try tags(name: name, resolvingTo: digest, bytes)
            var isBegun = false
            do throws(RegistryError) {
                let removed = try unlink(name, found, from: digest, &isBegun)
                // A copy that is no manifest has no subject either.
                if let subject = (try? Manifest(parsing: bytes))?.subject?.digest {
                    try ask { () throws(StoreError) in try store.delete(layout.referrer(name, subject: subject, digest))
                    }
                }
                try ask { () throws(StoreError) in try store.delete(key) }
                return removed
            } catch {
                guard isBegun, case .store(let error) = error else { throw error }
                throw .store(error.afterChange)
            }
        }
    }

    /// Removes these tags as far as they still resolve to the digest.
    ///
    /// The catalog goes first: a tag that is still there is found again by the next attempt, an entry without a tag is not. That takes time, so
    /// each tag is compared once more right before it goes; one that was moved meanwhile gets its entry back.
    ///
    /// - Parameter isBegun: set once a tag may be gone, whatever the error that comes then says of itself.
    private func unlink(
        _ name: RepositoryName,
        _ found: [FoundTag],
        from digest: Digest,
        _ isBegun: inout Bool
    ) throws(RegistryError) -> [Tag] {
        guard !found.isEmpty else { return [] }
        try removeFromCatalog(name, found.map(\.tag))
        let (gone, others) = try tagClaims.own(name) { () throws(RegistryError) in
            let isSame = try inParallel(found) { found throws(RegistryError) in
                try self.etag(name, found.tag, resolvingTo: digest, unless: found.etag) != nil
            }
            let gone = zip(found, isSame).filter(\.1).map(\.0.tag)
            // Of several, some may be gone when one is refused.
            isBegun = gone.count > 1
            try ask { () throws(StoreError) in try store.delete(gone.map { layout.tag(name, $0) }) }
            isBegun = !gone.isEmpty
            return (gone, zip(found, isSame).filter { !$0.1 }.map(\.0.tag))
        }
        let isThere = try inParallel(others) { tag throws(RegistryError) in
            try self.ask { () throws(StoreError) in try self.store.head(self.layout.tag(name, tag)) != nil }
        }
        try enterIntoCatalog(name, zip(others, isThere).filter(\.1).map(\.0))
        return gone
    }

    private func removeFromCatalog(_ name: RepositoryName, _ tags: [Tag]) throws(RegistryError) {
        try catalogWriter.apply(tags.map { .remove(name: name.description, tag: $0.description) })
    }

    private struct FoundTag: Sendable {
        let tag: Tag
        /// Of its object when it was compared.
        let etag: String
    }

    /// A listing tells by ETag which tags hold the same content. An ETag that nobody has seen yet is looked at once; one that is no hash of the
    /// content, such as an encrypted object's, tells nothing: all its tags are read.
    private func tags(
        name: RepositoryName,
        resolvingTo digest: Digest,
        _ bytes: [UInt8]
    ) throws(RegistryError) -> [FoundTag] {
        var tags: [String: [Tag]] = [:]
        try forEachObject(below: layout.repository(name)) { object in
            guard object.size == Int64(bytes.count), let tag = layout.tag(of: object.key, in: name) else { return }
            tags[object.etag ?? "", default: []].append(tag)
        }
        let same = tags.removeValue(forKey: hexadecimal(md5(bytes))) ?? []
        let others = tags.filter { !contentHashes.contains($0.key) }
        let looks = others.compactMap(\.value.first)
        let found = try compare(same, with: digest, in: name) + compare(looks, with: digest, in: name, areOthers: true)
        let rest = others.filter { !contentHashes.contains($0.key) }.flatMap { $0.value.dropFirst() }
        return try (found + compare(rest, with: digest, in: name, areOthers: true)).sorted { $0.tag < $1.tag }
    }

    /// Those of the tags that resolve to the digest.
    ///
    /// - Parameter areOthers: their ETags say that they do not. Where ETags are to be believed, one that nothing vouches for does not either.
    private func compare(
        _ tags: [Tag],
        with digest: Digest,
        in name: RepositoryName,
        areOthers: Bool = false
    ) throws(RegistryError) -> [FoundTag] {
        let isLenient = areOthers && store.capabilities.etagIsContentHash
        let etags = try inParallel(tags) { tag throws(RegistryError) -> String? in
            do throws(RegistryError) {
                return try self.etag(name, tag, resolvingTo: digest, unless: nil)
            } catch {
                guard isLenient, case .store(let reason) = error, case .damagedBody = reason.kind else { throw error }
                return nil
            }
        }
        return zip(tags, etags).compactMap { tag, etag in etag.map { FoundTag(tag: tag, etag: $0) } }
    }

    /// The ETag of a tag's object, empty where the store gives none; `nil` when the tag does not resolve to this digest.
    ///
    /// - Parameter known: an ETag under which it did; it counts where ETags are hashes of the content.
    private func etag(
        _ name: RepositoryName,
        _ tag: Tag,
        resolvingTo digest: Digest,
        unless known: String?
    ) throws(RegistryError) -> String? {
        let isTelling = store.capabilities.etagIsContentHash && known?.isEmpty == false
        switch try lookUp(name: name, tag: tag, unlessETag: isTelling ? known : nil) {
        case .unknown: return nil
        case .unchanged: return known
        case .found(let manifest):
            return Digest(of: manifest.bytes, digest.algorithm) == digest ? manifest.etag ?? "" : nil
        }
    }
}
