internal import Hashing
internal import LMDB
public import OCI
public import System

/// Content on this node.
public enum CachedContent: Sendable {
    /// Verified.
    case inline([UInt8])
    /// Verified: an open file, and what it was then; it stays readable when it is evicted meanwhile.
    case file(File, FileStatus)
    /// A large file that is being hashed at this moment, and can be read as far as that has come.
    case checking(FileCheck)
}

// MARK: - Reading

extension DiskTier {
    /// The content with this digest; `nil` when it is not here, or when what is here is not it.
    ///
    /// Writes nothing and takes no lock that others wait for. Only what may have been damaged, in an unclean stop or by somebody who
    /// touched the file, is hashed first, once; when it is not the content, it goes into quarantine.
    public func lookup(_ digest: Digest) throws(DiskTierError) -> CachedContent? {
        guard let record = try record(of: digest) else { return nil }
        index.visit(Key.hash(Key.digest(digest)))
        switch record.place {
        case .inline(let bytes):
            if isTrusted(record), isIntact(digest, record.sequence, bytes.span) { return .inline(bytes) }
            return try isVerified(digest, record, bytes) ? .inline(bytes) : nil
        case .file(let facts):
            guard case .file(let file, let status) = try open(digest, record, facts) else { return nil }
            if isTrusted(record), facts.describes(status) { return .file(file, status) }
            let check = check(digest, record, file, status)
            guard status.size <= configuration.verifiedAtOnceBytes else { return .checking(check) }
            return try check.verdict() == .verified ? .file(file, status) : nil
        }
    }

    /// The content's size in bytes without opening it; `nil` when it is not here.
    public func size(of digest: Digest) throws(DiskTierError) -> Int64? {
        switch try record(of: digest)?.place {
        case .inline(let bytes): return Int64(bytes.count)
        case .file(let facts):
            let status = try onDisk { () throws(FileError) in try fileSystem.status(at: path(of: digest)) }
            return status?.size == facts.size ? facts.size : nil
        case nil: return nil
        }
    }

    func record(of digest: Digest) throws(DiskTierError) -> BlobRecord? {
        let (table, key) = (index.blobs, Key.digest(digest))
        let (record, isBroken) = try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                try transaction.withValueIfWhole(table, key) { value -> (BlobRecord?, isBroken: Bool) in
                    guard let value else { return (nil, true) }
                    return (BlobRecord(value), false)
                } ?? (nil, false)
            }
        }
        if isBroken { try forgetBroken(digest) }
        return record
    }

    /// A record that is not what was written. What file it led to nobody knows: it is replaced when the content comes again, or found to be an orphan.
    private func forgetBroken(_ digest: Digest) throws(DiskTierError) {
        let (table, key) = (index.blobs, Key.digest(digest))
        let isGone = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                // Another one may have come meanwhile.
                guard try transaction.get(table, key) == nil else { return false }
                return try transaction.delete(table, key)
            }
        }
        if isGone { report(damage: digest, kept: nil) }
    }

    /// The record, also of a writer that began before the call and has not committed yet: writers come one after the other.
    private func settledRecord(of digest: Digest) throws(DiskTierError) -> BlobRecord? {
        let (index, key) = (index, Key.digest(digest))
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                try transaction.get(index.blobs, key).flatMap { BlobRecord($0.span) }
            }
        }
    }

    enum Opened {
        case file(File, FileStatus)
        case missing
        case damaged
    }

    /// The index and the file must agree before a byte is served: one that is gone is forgotten, one of another size put aside, and so is what
    /// is no file.
    func open(_ digest: Digest, _ record: BlobRecord, _ facts: BlobRecord.FileFacts) throws(DiskTierError) -> Opened {
        let lease = readers.begin(Key.hash(Key.digest(digest)))
        let file: File
        let status: FileStatus
        do throws(FileError) {
            (file, status) = try fileSystem.openRegular(path(of: digest))
            file.keep(lease)
        } catch {
            if error.isNotFound {
                try missed(digest, record)
                return .missing
            }
            // What cannot be read is no better than what is damaged.
            if error.isForbidden || error.isUnreadable {
                try quarantine(digest, record)
                return .damaged
            }
            guard error.isReplaced else { throw .file(error) }
            try putAside(digest, record)
            return .damaged
        }
        if status.size == facts.size { return .file(file, status) }
        try quarantine(digest, record)
        return .damaged
    }

    func path(of digest: Digest) -> String {
        let hex = digest.hex
        return "\(configuration.directory)/blobs/\(digest.algorithm.rawValue)/\(hex.prefix(2))/\(hex)"
    }
}

// MARK: - Writing

extension DiskTier {
    /// Room for a file; evicts if needed. Zero bytes are a reservation to grow.
    public func reserve(_ bytes: Int64) throws(DiskTierError) -> Reservation {
        let reservation = Reservation(self)
        try reservation.grow(by: bytes)
        return reservation
    }

    /// Without a byte yet.
    public func newReservation() -> Reservation { Reservation(self) }

    /// A new file, whose bytes the reservation pays for, and whose record in the index too.
    ///
    /// - Parameter noteRoom: of what is reserved, in bytes: for the note of what has landed.
    public func newFile(_ reservation: Reservation, noteRoom: Int64 = 0) throws(DiskTierError) -> IncomingFile {
        let path = "\(configuration.directory)/incoming/\(random.token())"
        return try newFile(at: path, reservation, noteRoom: noteRoom, isKept: false)
    }

    func newFile(
        at path: String,
        _ reservation: Reservation,
        noteRoom: Int64 = 0,
        isKept: Bool
    ) throws(DiskTierError) -> IncomingFile {
        let held = reservation.held
        do throws(DiskTierError) {
            try reservation.grow(by: Self.indexGrowthBytes)
            let file = try onDisk { () throws(FileError) in try fileSystem.open(path, .create) }
            let incoming = IncomingFile(self, reservation, noteRoom: noteRoom, file)
            try incoming.allocate()
            incoming.isKept = isKept
            return incoming
        } catch {
            reservation.shrink(to: held)
            throw error
        }
    }

    /// Puts small content into the index. The caller has verified that it has this digest.
    ///
    /// - Returns: false, and nothing is kept, when the digest was deleted after the stamp was taken.
    public func insertInline(
        _ digest: Digest,
        _ bytes: [UInt8],
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let room = try reserveInIndex(bytes.count)
        defer { hasGrown(room) }
        let record = BlobRecord(sequence: index.nextSequence(), run: run.number, place: .inline(bytes))
        let key = Key.digest(digest)
        let (index, stamps) = (index, stamps)
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp) else { return false }
                if try transaction.get(index.blobs, key) != nil { return true }
                try index.put(record, key, transaction)
                return true
            }
        }
    }

    /// Forgets a digest for good: fills that began before cannot bring it back.
    ///
    /// The file goes first: whatever happens to the index, it cannot be found again.
    public func remove(_ digest: Digest) throws(DiskTierError) {
        stamps.delete(Key.digest(digest))
        dropLeftFill(digest)
        guard let record = try settledRecord(of: digest) else { return }
        if case .file = record.place {
            try onDisk { () throws(FileError) in _ = try fileSystem.remove(path(of: digest)) }
        }
        try drop(digest, record)
    }

    /// The file is in place; now the index learns of it. Without its answer, or when that is false, the reservation stays the caller's.
    func enter(
        _ digest: Digest,
        _ facts: BlobRecord.FileFacts,
        _ reservation: Reservation,
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let record = BlobRecord(sequence: index.nextSequence(), run: run.number, place: .file(facts))
        let key = Key.digest(digest)
        let (index, stamps) = (index, stamps)
        let replaced: Int64? = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp) else { return nil }
                let replaced = try index.unlink(key, transaction)
                try index.put(record, key, transaction)
                return replaced
            }
        }
        if let replaced {
            // The books never say less than there is: the index is entered before the reservation goes.
            noteIndexSize()
            reservation.commit(facts.allocated)
            readers.release(replaced, Key.hash(key))
        }
        indexHasGrown()
        return replaced != nil
    }

    /// Takes a record out of the index; false when another one came meanwhile, which stays.
    func unlink(_ digest: Digest, _ expected: BlobRecord) throws(DiskTierError) -> Bool {
        let key = Key.digest(digest)
        let index = index
        defer { noteIndexSize() }
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard let bytes = try transaction.get(index.blobs, key),
                    BlobRecord(bytes.span)?.sequence == expected.sequence
                else { return false }
                _ = try index.unlink(key, transaction)
                return true
            }
        }
    }

    /// Takes a record out of the index, then the file from the disk.
    func drop(_ digest: Digest, _ record: BlobRecord) throws(DiskTierError) {
        guard try unlink(digest, record), case .file(let facts) = record.place else { return }
        discard(path(of: digest), bytes: facts.allocated)
        readers.release(facts.allocated, Key.hash(Key.digest(digest)))
    }

    /// Removes a file that nothing refers to any more. While that cannot be done, the books count its blocks, and it is tried again.
    @discardableResult
    func discard(_ path: String, bytes: Int64) -> Bool {
        do throws(FileError) {
            _ = try fileSystem.remove(path)
            return true
        } catch {
            if error.isDirectory, putAside(path) != nil { return true }
            ledger.strand(path, bytes)
            note(.file(error))
            return false
        }
    }
}
