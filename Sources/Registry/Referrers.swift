internal import FoundationEssentials
public import OCI
internal import ObjectStorage
internal import Threading

extension Registry {
    /// How large an entry may be: a descriptor with its annotations.
    private static let referrerLimitBytes = 4 << 20

    /// The manifests of a repository whose `subject` is this digest, in the order of their digests.
    ///
    /// Each has an entry of its own in the bucket, so pushes never contend. Indexes that clients keep under the fallback tag are merged in, as
    /// far as what they list exists and has this subject. (distribution-spec, "Listing Referrers" and "Enabling the Referrers API")
    public func referrers(name: RepositoryName, subject: Digest) throws(RegistryError) -> [Descriptor] {
        var keys: [ObjectKey] = []
        try forEachObject(below: layout.referrers(name, subject)) { keys.append($0.key) }
        var found: [Digest: Descriptor] = [:]
        for descriptor in try inParallel(keys, { key throws(RegistryError) in try self.referrer(at: key) }) {
            if let descriptor { found[descriptor.digest] = descriptor }
        }
        let fallback = try fallbackReferrers(name, subject).filter { found[$0.digest] == nil }
        let checked = try inParallel(fallback) { descriptor throws(RegistryError) in
            try self.confirmed(descriptor, name, subject)
        }
        for descriptor in checked.compactMap({ $0 }) { found[descriptor.digest] = descriptor }
        return found.values.sorted { $0.digest < $1.digest }
    }

    func recordReferrer(
        _ name: RepositoryName,
        subject: Digest,
        _ descriptor: Descriptor
    ) throws(RegistryError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let bytes: [UInt8]
        do {
            bytes = try Array(encoder.encode(descriptor))
        } catch {
            preconditionFailure("a descriptor of strings and numbers cannot fail to encode: \(error)")
        }
        let key = layout.referrer(name, subject: subject, descriptor.digest)
        _ = try ask { () throws(StoreError) in
            try store.put(key, .bytes(bytes), contentType: "application/json", condition: .none)
        }
    }

    /// An entry that cannot be read as one is skipped: the others are still true.
    private func referrer(at key: ObjectKey) throws(RegistryError) -> Descriptor? {
        guard case .complete(let bytes, _) = try store.contents(key, limitBytes: Self.referrerLimitBytes) else {
            return nil
        }
        return try? JSONDecoder().decode(Descriptor.self, from: Data(bytes))
    }

    private func fallbackReferrers(_ name: RepositoryName, _ subject: Digest) throws(RegistryError) -> [Descriptor] {
        let tag = Tag(referrersOf: subject)
        guard case .found(let stored) = try lookUp(name: name, tag: tag, unlessETag: nil) else { return [] }
        // Some other manifest under a tag of this form lists nothing.
        return (try? Manifest(parsing: stored.bytes, contentType: stored.mediaType))?.manifests ?? []
    }

    private func confirmed(
        _ listed: Descriptor,
        _ name: RepositoryName,
        _ subject: Digest
    ) throws(RegistryError) -> Descriptor? {
        guard let stored = try manifestIfPresent(name: name, digest: listed.digest),
            let manifest = try? Manifest(parsing: stored.bytes, contentType: stored.mediaType),
            manifest.subject?.digest == subject
        else { return nil }
        return manifest.referrer(digest: listed.digest, size: Int64(stored.bytes.count))
    }
}
