internal import LMDB
public import OCI
public import System

// What lies ready, for threads that must not wait: these reads change nothing, verify nothing, and copy nothing out of the index. Whoever gets
// `nil` asks the calls that may block.

extension DiskTier {
    /// A blob that can be served as it is.
    ///
    /// - Parameters:
    ///   - inline: gets its bytes, which are valid until it returns, and a number that stands for them: no other record ever has it while the
    ///     program runs. Must not do I/O.
    ///   - file: gets the open file and its size in bytes.
    public func hit<Answer>(
        _ digest: Digest,
        inline: (UInt64, Span<UInt8>) -> Answer,
        file: (File, Int64) -> Answer
    ) -> Answer? {
        let found: Found<Answer>?
        do throws(LMDBError) {
            found = try digest.withKey { key throws(LMDBError) in
                try index.read { transaction throws(LMDBError) in
                    try transaction.withValue(index.blobs, key) { record in self.found(record, inline) } ?? nil
                }
            }
        } catch {
            return nil
        }
        guard let found else { return nil }
        index.policy.visit(digest.keyHash)
        switch found {
        case .answer(let answer): return answer
        case .file(let facts):
            guard let (opened, size) = openUntouched(digest, facts) else { return nil }
            return file(opened, size)
        }
    }

    /// A manifest of a repository.
    ///
    /// - Parameter body: gets the number that stands for the record, as ``hit(_:inline:file:)`` does, the media type and the bytes.
    public func hit<Answer>(
        repository: RepositoryName,
        digest: Digest,
        _ body: (UInt64, Span<UInt8>, Span<UInt8>) -> Answer
    ) -> Answer? {
        do throws(LMDBError) {
            return try index.read { transaction throws(LMDBError) in
                try manifest(repository, digest, transaction, body)
            }
        } catch {
            return nil
        }
    }

    /// The manifest that a tag names.
    ///
    /// - Parameters:
    ///   - isFresh: whether the tag may be believed, by the time when the origin last confirmed it.
    ///   - body: gets the manifest's digest, and what ``hit(repository:digest:_:)`` gives.
    public func hit<Answer>(
        repository: RepositoryName,
        tag: Tag,
        isFresh: (WallTime) -> Bool,
        _ body: (Digest, UInt64, Span<UInt8>, Span<UInt8>) -> Answer
    ) -> Answer? {
        var key = KeyBuffer()
        key.append(repository)
        key.append(tag.description.utf8.span)
        do throws(LMDBError) {
            return try index.read { transaction throws(LMDBError) in
                let digest = try key.withBytes { key throws(LMDBError) in
                    try transaction.withValue(index.tags, key) { record in
                        TagRecord.named(record).flatMap { isFresh($0.checkedAt) ? $0.digest : nil }
                    } ?? nil
                }
                guard let digest else { return nil }
                return try manifest(repository, digest, transaction) { body(digest, $0, $1, $2) }
            }
        } catch {
            return nil
        }
    }
}

private enum Found<Answer> {
    case answer(Answer)
    case file(BlobRecord.FileFacts)
}

extension DiskTier {
    private func found<Answer>(_ record: Span<UInt8>, _ inline: (UInt64, Span<UInt8>) -> Answer) -> Found<Answer>? {
        guard let header = BlobRecord.Header(record), header.run >= run.trustedSince else { return nil }
        let content = record.extracting(droppingFirst: BlobRecord.Header.bytes)
        guard header.isInline else { return BlobRecord.FileFacts(content).map { .file($0) } }
        return .answer(inline(header.sequence, content))
    }

    /// `nil` when the file is not exactly what the index says.
    private func openUntouched(_ digest: Digest, _ facts: BlobRecord.FileFacts) -> (File, Int64)? {
        let lease = readers.begin(digest.keyHash)
        do throws(FileError) {
            let file = try fileSystem.open(path(of: digest), .read)
            file.keep(lease)
            return facts.describes(try fileSystem.status(of: file)) ? (file, facts.size) : nil
        } catch {
            return nil
        }
    }

    private func manifest<Answer>(
        _ repository: RepositoryName,
        _ digest: Digest,
        _ transaction: borrowing ReadTransaction,
        _ body: (UInt64, Span<UInt8>, Span<UInt8>) -> Answer
    ) throws(LMDBError) -> Answer? {
        var key = KeyBuffer()
        key.append(repository)
        key.append(digest)
        return try key.withBytes { key throws(LMDBError) in
            try transaction.withValue(index.manifests, key) { record in
                guard let parts = CachedManifest.parts(record) else { return nil }
                index.policy.visit(digest.keyHash)
                let number = bigEndianNumber(record, at: 0)
                return body(number, record.extracting(parts.type), record.extracting(parts.manifest))
            } ?? nil
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
