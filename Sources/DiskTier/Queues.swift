internal import LMDB
internal import OCI
internal import System

// What the index keeps in which order. Each entry has its place in its own record too, so that it can leave.

// MARK: - Blobs

extension CacheIndex {
    /// Enters a blob's record, and gives it a place in a queue.
    ///
    /// - Parameter number: greater than that of any entry before; without one, the record's own.
    func put(
        _ record: BlobRecord,
        _ key: [UInt8],
        number: UInt64? = nil,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) {
        var record = record
        let number = number ?? record.sequence
        let isPinned = try transaction.get(pinned, [SmallKind.blob.rawValue] + key) != nil
        let isConfig = try transaction.get(configs, key) != nil
        switch record.place {
        case .inline:
            let rank: SmallRank = isPinned ? .pinned : isConfig ? .kept : .first
            record.standing = Standing(rank.rawValue, number)
            try transaction.put(small, Key.small(rank, number), [SmallKind.blob.rawValue] + key)
        case .file(let facts):
            record.standing =
                if isPinned {
                    Standing(Sweep.pinnedSegment, number)
                } else if isConfig {
                    Standing(Sweep.keptSegment, number)
                } else {
                    policy { $0.enter(number, bytes: facts.allocated, hash: Key.hash(key)) }
                }
            try transaction.put(files, Key.queued(record.standing.place, record.sequence), key)
            try addBytes(facts.allocated, record.standing.place.segment, transaction)
        }
        try transaction.put(blobs, key, record.encoded)
    }

    /// Removes a blob's record and its place in the queue; returns the blocks of its file.
    func unlink(_ key: [UInt8], _ transaction: borrowing WriteTransaction) throws(LMDBError) -> Int64 {
        guard let bytes = try transaction.get(blobs, key) else { return 0 }
        try transaction.delete(blobs, key)
        guard let record = BlobRecord(bytes.span) else { return 0 }
        return try leave(record, transaction)
    }

    private func leave(_ record: BlobRecord, _ transaction: borrowing WriteTransaction) throws(LMDBError) -> Int64 {
        let place = record.standing.place
        switch record.place {
        case .inline:
            try transaction.delete(small, [place.segment] + bigEndian(place.position))
            return 0
        case .file(let facts):
            try transaction.delete(files, Key.queued(place, record.sequence))
            try addBytes(-facts.allocated, place.segment, transaction)
            return facts.allocated
        }
    }

    /// Puts an entry where eviction wants to see it next.
    func move(
        _ record: BlobRecord,
        _ key: [UInt8],
        to standing: Standing,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) {
        guard let facts = record.place.facts else { return }
        var moved = record
        moved.standing = standing
        try transaction.delete(files, Key.queued(record.standing.place, record.sequence))
        try transaction.put(files, Key.queued(standing.place, record.sequence), key)
        try transaction.put(blobs, key, moved.encoded)
        if standing.place.segment != record.standing.place.segment {
            try addBytes(-facts.allocated, record.standing.place.segment, transaction)
            try addBytes(facts.allocated, standing.place.segment, transaction)
        }
    }

    struct QueuedFile: Sendable {
        let queueKey: [UInt8]
        let key: [UInt8]
        let place: QueuePlace
    }

    /// The first file at or after a place, in its segment.
    func first(
        at place: QueuePlace,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> QueuedFile? {
        var found: QueuedFile?
        try transaction.forEach(files, from: Key.queued(place)) { queueKey, key in
            if queueKey.count == 17, queueKey[0] == place.segment {
                let position = bigEndianNumber(queueKey, at: 1)
                found = QueuedFile(
                    queueKey: [UInt8](queueKey),
                    key: [UInt8](key),
                    place: QueuePlace(place.segment, position)
                )
            }
            return false
        }
        return found
    }
}

// MARK: - Manifests

extension ManifestHeader {
    /// What is no image names no config.
    init(of manifest: CachedManifest, sequence: UInt64) {
        let parsed = try? Manifest(parsing: manifest.bytes, contentType: manifest.mediaType)
        self.init(sequence: sequence, rank: .kept, config: (parsed?.config?.digest).map { Key.digest($0) } ?? [])
    }
}

extension CacheIndex {
    func put(
        _ manifest: CachedManifest,
        _ key: [UInt8],
        _ header: ManifestHeader,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) {
        // First the new one, so that the config does not change its place for nothing.
        try count(header.config, by: 1, transaction)
        try removeManifest(key, transaction)
        var header = header
        let itemKey = [SmallKind.manifest.rawValue] + key
        if try transaction.get(pinned, itemKey) != nil { header.rank = .pinned }
        try transaction.put(manifests, key, manifest.encoded(header))
        try transaction.put(small, Key.small(header.rank, header.sequence), itemKey)
    }

    func removeManifest(_ key: [UInt8], _ transaction: borrowing WriteTransaction) throws(LMDBError) {
        let record = try transaction.get(manifests, key)
        // Also one that cannot be read.
        try transaction.delete(manifests, key)
        guard let record, let header = ManifestHeader(record.span) else { return }
        try transaction.delete(small, Key.small(header.rank, header.sequence))
        try count(header.config, by: -1, transaction)
    }

    /// A config is kept over layers for as long as a manifest here names it, whether it is here yet or not.
    private func count(
        _ config: [UInt8],
        by step: Int,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) {
        guard !config.isEmpty else { return }
        let value = try transaction.get(configs, config)
        let old = value.map { $0.count == 8 ? Int(bigEndianNumber($0.span, at: 0)) : 0 } ?? 0
        let new = max(0, old + step)
        if new == 0 {
            try transaction.delete(configs, config)
        } else {
            try transaction.put(configs, config, bigEndian(UInt64(new)))
        }
        if (old == 0) != (new == 0) { try requeue([SmallKind.blob.rawValue] + config, transaction) }
    }

    /// Gives an item the place that it deserves now that it was pinned or unpinned, or became a config or is none any more.
    func requeue(_ itemKey: [UInt8], _ transaction: borrowing WriteTransaction) throws(LMDBError) {
        let key = Array(itemKey.dropFirst())
        switch itemKey.first.flatMap(SmallKind.init) {
        case .blob:
            guard let bytes = try transaction.get(blobs, key), let record = BlobRecord(bytes.span) else { return }
            _ = try leave(record, transaction)
            try put(record, key, number: nextSequence(), transaction)
        case .manifest:
            guard let record = try transaction.get(manifests, key), var header = ManifestHeader(record.span)
            else { return }
            try transaction.delete(small, Key.small(header.rank, header.sequence))
            header.rank = try transaction.get(pinned, itemKey) == nil ? .kept : .pinned
            header.sequence = nextSequence()
            try transaction.put(manifests, key, header.encoded + record.dropFirst(header.count))
            try transaction.put(small, Key.small(header.rank, header.sequence), itemKey)
        case .list, nil: break
        }
    }
}
