internal import LMDB
internal import OCI
internal import System
internal import Synchronization

// MARK: - What lies in the index

extension DiskTier {
    /// What one small write may add to the index: a path through each of its trees, and the list of free pages.
    static let indexGrowthBytes: Int64 = 32 * Ledger.blockBytes

    /// More never comes into the index at once: without so many pages in a row its file would grow far beyond its share.
    private var largestInIndexBytes: Int64 { indexShareBytes / 8 }

    /// Room for a value of this size in the index, evicted for if need be. Ends with ``hasGrown(_:)``.
    struct IndexRoom {
        fileprivate let bytes: Int64
        fileprivate let reservation: Reservation
    }

    func reserveInIndex(_ bytes: Int) throws(DiskTierError) -> IndexRoom {
        let bytes = Int64(bytes)
        guard bytes <= largestInIndexBytes else { throw .neverFits(bytes: bytes, ceilingBytes: ledger.ceilingBytes) }
        let reservation = try reserve(bytes + Self.indexGrowthBytes)
        incomingIndexBytes.add(bytes, ordering: .relaxed)
        // What cannot be evicted now is tried again with the next insert.
        while (try? evictSmallBeyondShare(limit: Evictor.leastSmall)) == true, bytes > Evictor.largeSmallBytes {}
        return IndexRoom(bytes: bytes, reservation: reservation)
    }

    /// The index has taken what it takes, and the reservation is given back.
    func hasGrown(_ room: IndexRoom) {
        incomingIndexBytes.subtract(room.bytes, ordering: .relaxed)
        indexHasGrown()
        room.reservation.release()
    }

    func indexHasGrown() {
        noteIndexSize()
        if mayShrinkIndex { background.press() }
    }

    var indexShareBytes: Int64 { configuration.indexShareBytes }

    func noteIndexSize() {
        let indexBytes = indexBytes
        ledger.update { $0.indexBytes = indexBytes }
    }

    /// Evicts some of what lies in the index, if that holds more than its share with what is about to come. False when there was nothing to take.
    func evictSmallBeyondShare(limit: Int) throws(DiskTierError) -> Bool {
        var hands = evictor.smallHands.withLock { $0 }
        // However many come at once, they do not drive out all that is there.
        let shareBytes = max(indexShareBytes / 2, indexShareBytes - incomingIndexBytes.load(ordering: .relaxed))
        let removed = try inIndex { () throws(LMDBError) in
            try index.evictSmall(&hands, beyond: shareBytes, limit: limit)
        }
        guard removed > 0 else { return false }
        evictor.smallHands.withLock { [hands] in $0 = hands }
        noteIndexSize()
        return true
    }
}

extension DiskTier.Configuration {
    /// What lies in the index itself may take so much.
    public var indexShareBytes: Int64 { min(ceilingBytes * indexSharePercent / 100, Int64(indexMapBytes) * 7 / 10) }
}

extension CacheIndex {
    /// Of what lies in the index, small layers and lists go before manifests and configs, and in each of the two what was not read since the
    /// hand last came by. Goes as far towards a size, in one transaction, as it surely is not passed by more than a fiftieth.
    ///
    /// - Returns: how many were evicted.
    func evictSmall(_ hands: inout [UInt64], beyond bytes: Int64, limit: Int) throws(LMDBError) -> Int {
        let excess = try Int64(liveBytes()) - bytes
        guard excess > 0 else { return 0 }
        let count = max(Evictor.leastSmall, min(limit, Int(excess / Evictor.largeSmallBytes)))
        let start = hands
        let (moved, removed) = try write { transaction throws(LMDBError) in
            var (hands, removed) = (start, 0)
            for rank in [SmallRank.first, .kept] where removed == 0 {
                removed = try self.evictSmall(
                    rank,
                    &hands[Int(rank.rawValue)],
                    count: count,
                    downTo: bytes - bytes / 50,
                    transaction
                )
            }
            return (hands, removed)
        }
        hands = moved
        return removed
    }

    /// How many were evicted.
    private func evictSmall(
        _ rank: SmallRank,
        _ hand: inout UInt64,
        count: Int,
        downTo bytes: Int64,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> Int {
        var removed = 0
        var ends = 0
        for _ in 0..<max(count, Evictor.looksPerTransaction) where removed < count && ends < 3 {
            guard let (sequence, entry) = try firstSmall(rank, from: hand, transaction) else {
                hand = 0
                ends += 1
                continue
            }
            hand = sequence + 1
            let key = Array(entry.dropFirst())
            let kind = entry.first.flatMap(SmallKind.init)
            // A manifest's key ends with a digest's.
            let hash =
                switch kind {
                case .blob: Key.hash(key)
                case .manifest: key.firstIndex(of: 0).map { Key.hash(Array(key[($0 + 1)...])) } ?? 0
                case .list, nil: UInt64(0)
                }
            if kind != .list, policy.visits.take(hash).count > 0 { continue }
            switch kind {
            case .blob: _ = try unlink(key, transaction)
            case .manifest: try removeManifest(key, transaction)
            case .list: try removeList(key, transaction)
            case nil: try transaction.delete(small, Key.small(rank, sequence))
            }
            removed += 1
            if try Int64(liveBytes(transaction)) <= bytes { break }
        }
        return removed
    }

    private func firstSmall(
        _ rank: SmallRank,
        from hand: UInt64,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> (sequence: UInt64, entry: [UInt8])? {
        var found: (sequence: UInt64, entry: [UInt8])?
        try transaction.forEach(small, from: Key.small(rank, hand)) { key, entry in
            if key.count == 9, key[0] == rank.rawValue { found = (bigEndianNumber(key, at: 1), [UInt8](entry)) }
            return false
        }
        return found
    }
}
