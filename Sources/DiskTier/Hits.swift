internal import LMDB
public import OCI
public import System

// What lies ready, for threads that must not wait: these reads change nothing, hash no more than what lies in the index itself, and that once, and
// copy nothing out of it. Whoever gets `nil` asks the calls that may block.

extension DiskTier {
    /// What was found in the index, for whoever keeps what he made of it.
    public struct Sighting: Sendable {
        /// Stands for the record: no other ever has it while the program runs.
        public let number: UInt64
        /// When the origin last confirmed the tag that led to it.
        public let checkedAt: WallTime?
        fileprivate let commits: UInt64
        fileprivate let keyHash: UInt64
    }

    /// Whether looking again would find the same, as long as nothing was committed since; counts as looking does.
    public func stillHolds(_ sighting: Sighting) -> Bool {
        guard index.commitCount == sighting.commits else { return false }
        index.visit(sighting.keyHash)
        return true
    }

    /// A blob that can be served as it is. False when there is none.
    ///
    /// - Parameters:
    ///   - inline: gets its bytes, which are valid until it returns. Must not do I/O.
    ///   - file: gets the open file, and what it was when its bytes were last known to be right.
    public func hit(
        _ digest: Digest,
        inline: (Sighting, Span<UInt8>) -> Void,
        file: (File, FileStatus) -> Void
    ) -> Bool {
        var facts: BlobRecord.FileFacts?
        let keyHash = digest.keyHash
        let isThere = look { transaction, commits throws(LMDBError) in
            try digest.withKey { key throws(LMDBError) in
                try transaction.withValue(index.blobs, key) { record in
                    guard let header = BlobRecord.Header(record), header.run >= run.trustedSince else { return false }
                    let content = record.extracting(droppingFirst: BlobRecord.Header.bytes)
                    guard header.isInline else {
                        facts = BlobRecord.FileFacts(content)
                        return facts != nil
                    }
                    guard isIntact(digest, header.sequence, content) else { return false }
                    inline(
                        Sighting(number: header.sequence, checkedAt: nil, commits: commits, keyHash: keyHash),
                        content
                    )
                    return true
                } ?? false
            }
        }
        guard isThere else { return false }
        index.visit(keyHash)
        guard let facts else { return true }
        guard let (opened, status) = openUntouched(digest, facts) else { return false }
        file(opened, status)
        return true
    }

    /// A manifest of a repository. False when it is not here.
    ///
    /// - Parameter body: gets the media type and the bytes, both valid until it returns.
    public func hit(
        repository: RepositoryName,
        digest: Digest,
        _ body: (Sighting, Span<UInt8>, Span<UInt8>) -> Void
    ) -> Bool {
        look { transaction, commits throws(LMDBError) in
            try manifest(repository, digest, transaction) { number, type, bytes in
                let sighting = Sighting(number: number, checkedAt: nil, commits: commits, keyHash: digest.keyHash)
                body(sighting, type, bytes)
            }
        }
    }

    /// The manifest that a tag names. False when either is not here.
    ///
    /// - Parameters:
    ///   - isFresh: whether the tag may be believed, by the time when the origin last confirmed it.
    ///   - body: gets the manifest's digest, and what ``hit(repository:digest:_:)`` gives.
    public func hit(
        repository: RepositoryName,
        tag: Tag,
        isFresh: (WallTime) -> Bool,
        _ body: (Digest, Sighting, Span<UInt8>, Span<UInt8>) -> Void
    ) -> Bool {
        var key = KeyBuffer()
        key.append(repository)
        key.append(tag.description.utf8.span)
        return look { transaction, commits throws(LMDBError) in
            var named: (digest: Digest, checkedAt: WallTime)?
            _ = try key.withBytes { key throws(LMDBError) in
                try transaction.withValue(index.tags, key) { record in
                    if let found = TagRecord.named(record), isFresh(found.checkedAt) { named = found }
                }
            }
            guard let (digest, checkedAt) = named else { return false }
            return try manifest(repository, digest, transaction) { number, type, bytes in
                let sighting = Sighting(
                    number: number,
                    checkedAt: checkedAt,
                    commits: commits,
                    keyHash: digest.keyHash
                )
                body(digest, sighting, type, bytes)
            }
        }
    }

    /// False also for trouble: the calls that may wait tell of it. Nothing here is generic over the answer: its type would be looked up each time.
    private func look(_ body: (borrowing ReadTransaction, _ commits: UInt64) throws(LMDBError) -> Bool) -> Bool {
        // Before the snapshot, so that a commit between the two counts as one after it.
        let commits = index.commitCount
        do throws(LMDBError) {
            return try index.read { transaction throws(LMDBError) in try body(transaction, commits) }
        } catch {
            return false
        }
    }

    /// `nil` when the file is not exactly what the index says.
    private func openUntouched(_ digest: Digest, _ facts: BlobRecord.FileFacts) -> (File, FileStatus)? {
        let lease = readers.begin(digest.keyHash)
        do throws(FileError) {
            let (file, status) = try fileSystem.openRegular(path(of: digest))
            file.keep(lease)
            return facts.describes(status) ? (file, status) : nil
        } catch {
            return nil
        }
    }

    private func manifest(
        _ repository: RepositoryName,
        _ digest: Digest,
        _ transaction: borrowing ReadTransaction,
        _ body: (UInt64, Span<UInt8>, Span<UInt8>) -> Void
    ) throws(LMDBError) -> Bool {
        var key = KeyBuffer()
        key.append(repository)
        key.append(digest)
        return try key.withBytes { key throws(LMDBError) in
            try transaction.withValue(index.manifests, key) { record in
                guard let parts = CachedManifest.parts(record) else { return false }
                index.visit(digest.keyHash)
                let (number, content) = (bigEndianNumber(record, at: 0), record.extracting(parts.manifest))
                guard isIntact(digest, number, content) else { return false }
                body(number, record.extracting(parts.type), content)
                return true
            } ?? false
        }
    }
}

/// A key on the stack; the same bytes that ``Key`` makes.
private struct KeyBuffer {
    /// A repository's name, a zero, and a tag or digest.
    private var storage = InlineArray<400, UInt8>(repeating: 0)
    private var count = 0

    mutating func append(_ bytes: Span<UInt8>) {
        for index in bytes.indices { storage[count + index] = bytes[index] }
        count += bytes.count
    }

    mutating func append(_ name: RepositoryName) {
        append(name.description.utf8.span)
        count += 1
    }

    mutating func append(_ digest: Digest) {
        storage[count] = digest.algorithm == .sha256 ? 1 : 2
        count += 1
        digest.withBytes { append($0) }
    }

    func withBytes<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(storage.span.extracting(0..<count))
    }
}

extension Digest {
    /// What ``Key/hash(_:)`` makes of its key: the first bytes of the hash.
    fileprivate var keyHash: UInt64 { withBytes { bigEndianNumber($0, at: 0) } }

    fileprivate func withKey<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var key = KeyBuffer()
        key.append(self)
        return try key.withBytes(body)
    }
}

extension TagRecord {
    /// What a record names, and when that was confirmed.
    fileprivate static func named(_ record: Span<UInt8>) -> (digest: Digest, checkedAt: WallTime)? {
        guard record.count > 17, record.count >= 17 + Int(record[16]),
            let digest = Digest(key: record.extracting(17..<17 + Int(record[16])))
        else { return nil }
        let checkedAt = WallTime(
            seconds: Int64(bitPattern: bigEndianNumber(record, at: 0)),
            nanoseconds: Int32(truncatingIfNeeded: bigEndianNumber(record, at: 8))
        )
        return (digest, checkedAt)
    }
}

extension Digest {
    /// The same as for a collection, without one.
    fileprivate init?(key: Span<UInt8>) {
        guard key.count == 33 && key[0] == 1 || key.count == 65 && key[0] == 2 else { return nil }
        self.init(key[0] == 1 ? .sha256 : .sha512, bytes: key.extracting(1..<key.count))
    }
}
