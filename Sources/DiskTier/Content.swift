internal import Hashing
internal import LMDB
public import OCI
public import System

/// Verified content on this node.
public enum CachedContent: Sendable {
    case inline([UInt8])
    /// An open file of exactly this many bytes; it stays readable when it is evicted meanwhile.
    case file(File, size: Int64)
}

// MARK: - Reading

extension DiskTier {
    /// The content with this digest; `nil` when it is not here, or when what is here cannot be it.
    ///
    /// Writes nothing and takes no lock but the index's own for a moment.
    public func lookup(_ digest: Digest) throws(DiskTierError) -> CachedContent? {
        guard let record = try record(of: digest) else { return nil }
        visited.set(digest)
        switch record.place {
        case .inline(let bytes):
            return .inline(bytes)
        case .file(let size, _):
            guard let file = try open(digest, size: size) else {
                try drop(digest, record)
                return nil
            }
            if record.run < run.trustedSince {
                guard try isVerified(digest, record, file) else { return nil }
            }
            return .file(file, size: size)
        }
    }

    /// The content's size in bytes without opening it; `nil` when it is not here.
    public func size(of digest: Digest) throws(DiskTierError) -> Int64? {
        switch try record(of: digest)?.place {
        case .inline(let bytes): return Int64(bytes.count)
        case .file(let size, _):
            let status = try onDisk { () throws(FileError) in try fileSystem.status(at: path(of: digest)) }
            return status?.size == size ? size : nil
        case nil: return nil
        }
    }

    func record(of digest: Digest) throws(DiskTierError) -> BlobRecord? {
        let table = index.blobs
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                try transaction.withValue(table, Key.digest(digest)) { BlobRecord($0) } ?? nil
            }
        }
    }

    /// The index and the file must agree before a byte is served.
    private func open(_ digest: Digest, size: Int64) throws(DiskTierError) -> File? {
        do throws(FileError) {
            let file = try fileSystem.open(path(of: digest), .read)
            return try fileSystem.status(of: file).size == size ? file : nil
        } catch {
            guard error.isNotFound else { throw .file(error) }
            return nil
        }
    }

    func path(of digest: Digest) -> String {
        "\(configuration.directory)/blobs/\(digest.algorithm.rawValue)/\(digest.hex.prefix(2))/\(digest.hex)"
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

    /// A new file, whose bytes the reservation pays for, and whose record in the index too.
    public func newFile(_ reservation: Reservation) throws(DiskTierError) -> IncomingFile {
        try reservation.grow(by: Self.indexGrowthBytes)
        let path = "\(configuration.directory)/incoming/\(random.token())"
        let file = try onDisk { () throws(FileError) in try fileSystem.open(path, .create) }
        return IncomingFile(self, reservation, file)
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
        defer { indexHasGrown(room) }
        let record = BlobRecord(sequence: index.nextSequence(), run: run.number, place: .inline(bytes))
        let key = Key.digest(digest)
        let (index, stamps) = (index, stamps)
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp) else { return false }
                if try transaction.get(index.blobs, key) != nil { return true }
                try transaction.put(index.blobs, key, record.encoded)
                try transaction.put(index.small, Key.sequence(record.sequence), [SmallKind.blob.rawValue] + key)
                return true
            }
        }
    }

    /// Forgets a digest for good: fills that began before cannot bring it back.
    public func remove(_ digest: Digest) throws(DiskTierError) {
        stamps.delete(Key.digest(digest))
        dropLeftFill(digest)
        guard let record = try record(of: digest) else { return }
        try drop(digest, record)
    }

    /// The file is in place; now the index learns of it.
    func enter(
        _ digest: Digest,
        size: Int64,
        allocated: Int64,
        _ reservation: Reservation,
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let record = BlobRecord(
            sequence: index.nextSequence(),
            run: run.number,
            place: .file(size: size, allocated: allocated)
        )
        let key = Key.digest(digest)
        let (index, stamps) = (index, stamps)
        let change: Int64? = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp) else { return nil }
                let replaced = try index.unlink(key, transaction)
                try transaction.put(index.blobs, key, record.encoded)
                try transaction.put(index.files, Key.sequence(record.sequence), key)
                try index.addBytes(allocated, transaction)
                return allocated - replaced
            }
        }
        // The books never say less than there is: the file is entered before its reservation goes.
        ledger.update { $0.committedBytes += change ?? 0 }
        indexHasGrown(reservation)
        guard change != nil else {
            try onDisk { () throws(FileError) in _ = try fileSystem.remove(path(of: digest)) }
            return false
        }
        return true
    }

    /// Takes a record out of the index, then the file from the disk. Another record that came meanwhile stays.
    func drop(_ digest: Digest, _ expected: BlobRecord) throws(DiskTierError) {
        let key = Key.digest(digest)
        let index = index
        let freed: Int64? = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard let bytes = try transaction.get(index.blobs, key),
                    BlobRecord(bytes.span)?.sequence == expected.sequence
                else { return nil }
                return try index.unlink(key, transaction)
            }
        }
        guard let freed else { return }
        if case .file = expected.place {
            try onDisk { () throws(FileError) in _ = try fileSystem.remove(path(of: digest)) }
            ledger.update { $0.committedBytes -= freed }
        }
    }
}

extension CacheIndex {
    /// Removes a blob's record and its place in the queue; returns the blocks of its file.
    func unlink(_ key: [UInt8], _ transaction: borrowing WriteTransaction) throws(LMDBError) -> Int64 {
        guard let bytes = try transaction.get(blobs, key) else { return 0 }
        try transaction.delete(blobs, key)
        guard let record = BlobRecord(bytes.span) else { return 0 }
        switch record.place {
        case .inline:
            try transaction.delete(small, Key.sequence(record.sequence))
            return 0
        case .file(_, let allocated):
            try transaction.delete(files, Key.sequence(record.sequence))
            try addBytes(-allocated, transaction)
            return allocated
        }
    }
}
