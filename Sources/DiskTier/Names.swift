internal import Hashing
internal import LMDB
public import OCI
public import System

/// What lies in the index itself.
enum SmallKind: UInt8 {
    case blob = 0
    case manifest = 1
    case list = 2
}

/// In which order that goes.
enum SmallRank: UInt8, CaseIterable {
    /// Small layers, and lists of names.
    case first = 0
    /// Manifests and configs.
    case kept = 1
    /// Not at all.
    case pinned = 2
}

// MARK: - Reading

extension DiskTier {
    /// `nil` where the record itself is damaged.
    private typealias FoundManifest = (manifest: CachedManifest?, isIntact: Bool)

    /// A manifest of a repository, in one look.
    public func manifest(repository: RepositoryName, digest: Digest) throws(DiskTierError) -> CachedManifest? {
        index.visit(Key.hash(Key.digest(digest)))
        let found = try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in try find(repository, digest, transaction) }
        }
        return try intact(found, repository, digest)
    }

    /// Hashes a manifest, whatever is believed of it. Damage is forgotten.
    public func verify(manifest digest: Digest, repository: RepositoryName) throws(DiskTierError) -> Verdict {
        let found = try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in try find(repository, digest, transaction) }
        }
        guard let (manifest, _) = found else { return .unknown }
        let isIntact = manifest.map { Digest(of: $0.bytes, digest.algorithm) == digest } ?? false
        return try intact((manifest, isIntact), repository, digest) == nil ? .damaged : .verified
    }

    private func find(
        _ repository: RepositoryName,
        _ digest: Digest,
        _ transaction: borrowing ReadTransaction
    ) throws(LMDBError) -> FoundManifest? {
        let key = Key.manifest(repository, digest)
        return try transaction.withValueIfWhole(index.manifests, key) { record -> FoundManifest? in
            guard let record else { return (nil, false) }
            guard let manifest = CachedManifest(record) else { return nil }
            return (manifest, isIntact(digest, bigEndianNumber(record, at: 0), manifest.bytes.span))
        } ?? nil
    }

    private func intact(
        _ found: FoundManifest?,
        _ repository: RepositoryName,
        _ digest: Digest
    ) throws(DiskTierError) -> CachedManifest? {
        guard let found, !found.isIntact else { return found?.manifest }
        try forget(manifest: digest, repository: repository)
        report(damage: digest, kept: nil)
        return nil
    }

    /// A tag with its manifest, in one look.
    public func tag(repository: RepositoryName, tag: Tag) throws(DiskTierError) -> CachedTag? {
        let found = try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) -> (TagRecord, FoundManifest?)? in
                let key = Key.tag(repository, tag)
                guard let bytes = try transaction.get(index.tags, key), let record = TagRecord(bytes) else {
                    return nil
                }
                return (record, try find(repository, record.digest, transaction))
            }
        }
        guard let (record, manifest) = found else { return nil }
        index.visit(Key.hash(Key.digest(record.digest)))
        return CachedTag(
            digest: record.digest,
            etag: record.etag,
            checkedAt: record.checkedAt,
            manifest: try intact(manifest, repository, record.digest)
        )
    }
}

// MARK: - Writing

extension DiskTier {
    /// Keeps a manifest that the origin has.
    ///
    /// - Returns: false, and nothing is kept, when it was deleted after the stamp was taken.
    public func record(
        manifest digest: Digest,
        repository: RepositoryName,
        mediaType: MediaType,
        bytes: [UInt8],
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let room = try reserveInIndex(bytes.count)
        defer { hasGrown(room) }
        let key = Key.manifest(repository, digest)
        let record = CachedManifest(mediaType: mediaType, bytes: bytes)
        let header = ManifestHeader(of: record, sequence: index.nextSequence())
        let (index, stamps) = (index, stamps)
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp) else { return false }
                try index.put(record, key, header, transaction)
                return true
            }
        }
    }

    /// Keeps a tag and the manifest that it names, as the origin has them.
    ///
    /// - Returns: false, and nothing is kept, when either was deleted after the stamp was taken.
    public func record(
        tag: Tag,
        repository: RepositoryName,
        digest: Digest,
        mediaType: MediaType,
        bytes: [UInt8],
        etag: String?,
        checkedAt: WallTime,
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let room = try reserveInIndex(bytes.count)
        defer { hasGrown(room) }
        let (tagKey, key) = (Key.tag(repository, tag), Key.manifest(repository, digest))
        let manifest = CachedManifest(mediaType: mediaType, bytes: bytes)
        let record = TagRecord(digest: digest, etag: etag, checkedAt: checkedAt)
        let header = ManifestHeader(of: manifest, sequence: index.nextSequence())
        let (index, stamps) = (index, stamps)
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp), stamps.allows(tagKey, since: stamp) else { return false }
                try index.put(manifest, key, header, transaction)
                try transaction.put(index.tags, tagKey, record.encoded)
                return true
            }
        }
    }

    /// Notes that the origin confirmed a tag; false when the tag is not here any more or was deleted after the stamp was taken.
    public func touch(
        tag: Tag,
        repository: RepositoryName,
        checkedAt: WallTime,
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let key = Key.tag(repository, tag)
        let (index, stamps) = (index, stamps)
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp), let bytes = try transaction.get(index.tags, key),
                    var record = TagRecord(bytes)
                else { return false }
                record.checkedAt = checkedAt
                try transaction.put(index.tags, key, record.encoded)
                return true
            }
        }
    }

    /// Notes for all tags of a repository when the origin is said to have confirmed them.
    public func touch(tagsOf repository: RepositoryName, checkedAt: WallTime) throws(DiskTierError) {
        let index = index
        try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                for (key, var record) in try index.tagRecords(of: repository, transaction) {
                    record.checkedAt = checkedAt
                    try transaction.put(index.tags, key, record.encoded)
                }
            }
        }
    }

    /// Forgets a tag; reads of it that began before cannot bring it back.
    public func forget(tag: Tag, repository: RepositoryName) throws(DiskTierError) {
        let key = Key.tag(repository, tag)
        let (index, stamps) = (index, stamps)
        try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                stamps.delete(key)
                try transaction.delete(index.tags, key)
            }
        }
    }

    /// Forgets a manifest and every tag of its repository that resolves to it, in one transaction.
    ///
    /// - Parameter tags: forgotten too, whatever they resolve to here. Reads of them that began before cannot bring them back.
    public func forget(
        manifest digest: Digest,
        tags: [Tag] = [],
        repository: RepositoryName
    ) throws(DiskTierError) {
        let key = Key.manifest(repository, digest)
        let (index, stamps) = (index, stamps)
        try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                stamps.delete(key)
                try index.removeManifest(key, transaction)
                let resolving = try index.tagRecords(of: repository, transaction).filter { $0.record.digest == digest }
                for tag in tags.map({ Key.tag(repository, $0) }) + resolving.map(\.key) {
                    stamps.delete(tag)
                    try transaction.delete(index.tags, tag)
                }
            }
        }
    }
}

extension CacheIndex {
    fileprivate func tagRecords(
        of repository: RepositoryName,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> [(key: [UInt8], record: TagRecord)] {
        let prefix = Key.repository(repository)
        var found: [(key: [UInt8], record: TagRecord)] = []
        try transaction.forEach(tags, from: prefix) { key, value in
            let key = [UInt8](key)
            guard key.starts(with: prefix) else { return false }
            if let record = TagRecord([UInt8](value)) { found.append((key, record)) }
            return true
        }
        return found
    }
}
