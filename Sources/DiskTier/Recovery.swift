internal import Hashing
internal import LMDB
internal import OCI
internal import System
internal import Threading

extension DiskTier {
    /// Clears up behind an earlier run, beside the first answers: evicts down to a lowered ceiling, collects orphans after an unclean stop.
    func startRecovery() {
        let openedAt = time.wallTime()
        spawnThread(name: "recovery") { [weak self] in
            guard let self else { return }
            // What cannot be done now is done by the next eviction, or at the next start.
            let excess = ledger.current.usedBytes - ledger.ceilingBytes
            if excess > 0 { _ = try? evictFiles(atLeast: excess, for: 0) }
            if run.wasUnclean { try? removeOrphans(before: openedAt) }
        }
    }

    /// Files that are in place without the index knowing: the program stopped between the two.
    func removeOrphans(before moment: WallTime) throws(DiskTierError) {
        for algorithm in DigestAlgorithm.allCases {
            let root = "\(configuration.directory)/blobs/\(algorithm.rawValue)"
            for folder in try onDisk({ () throws(FileError) in try fileSystem.entries(of: root) }) {
                let path = "\(root)/\(folder.name)"
                for entry in try onDisk({ () throws(FileError) in try fileSystem.entries(of: path) }) {
                    // A name that is no digest was never ours to serve.
                    let digest = try? Digest(algorithm: algorithm.rawValue, hex: entry.name)
                    let isKnown = try digest.map { digest throws(DiskTierError) in try record(of: digest) != nil }
                    if isKnown != true { try removeIfOlder("\(path)/\(entry.name)", than: moment) }
                }
            }
        }
    }

    /// Files of this run are younger than its start.
    private func removeIfOlder(_ path: String, than moment: WallTime) throws(DiskTierError) {
        try onDisk { () throws(FileError) in
            guard let status = try fileSystem.status(at: path), !status.isDirectory,
                status.modifiedNanoseconds / 1_000_000_000 < moment.seconds
            else { return }
            try fileSystem.remove(path)
        }
    }
}

// MARK: - After an unclean stop

extension DiskTier {
    /// Hashes a file that may have suffered from a crash, once, before it is served for the first time. What is damaged goes.
    func isVerified(_ digest: Digest, _ record: BlobRecord, _ file: File) throws(DiskTierError) -> Bool {
        let isMine: Bool? = verifying.wait { $0.contains(digest) ? nil : $0.insert(digest).inserted }
        precondition(isMine == true)
        defer { verifying.update { _ = $0.remove(digest) } }
        // Somebody else may have done it while this thread waited.
        guard let current = try self.record(of: digest), current.sequence == record.sequence else { return false }
        if current.run >= run.trustedSince { return true }
        guard try hash(file, digest.algorithm) == digest else {
            try drop(digest, record)
            return false
        }
        try markVerified(digest, record)
        return true
    }

    private func markVerified(_ digest: Digest, _ record: BlobRecord) throws(DiskTierError) {
        var verified = record
        verified.run = run.number
        let (index, key, bytes) = (index, Key.digest(digest), verified.encoded)
        try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard let current = try transaction.get(index.blobs, key),
                    BlobRecord(current.span)?.sequence == record.sequence
                else { return }
                try transaction.put(index.blobs, key, bytes)
            }
        }
    }

    private func hash(_ file: File, _ algorithm: DigestAlgorithm) throws(DiskTierError) -> Digest {
        var hash = ContentHash(algorithm)
        var offset: Int64 = 0
        while true {
            let piece = try onDisk { () throws(FileError) in try fileSystem.read(file, at: offset, count: 1 << 20) }
            if piece.isEmpty { return hash.digest() }
            hash.update(piece.span)
            offset += Int64(piece.count)
        }
    }
}
