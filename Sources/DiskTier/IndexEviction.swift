internal import LMDB
internal import OCI
internal import System
internal import Synchronization

// MARK: - What lies in the index

extension DiskTier {
    /// What one small write may add to the index: a path through each of its trees, and the list of free pages.
    static let indexGrowthBytes: Int64 = 32 * Ledger.blockBytes

    /// Room for the index to grow by a value of this size, evicted for if need be. Ends with ``indexHasGrown(_:)``.
    func reserveInIndex(_ bytes: Int) throws(DiskTierError) -> Reservation {
        try reserve(Int64(bytes) + Self.indexGrowthBytes)
    }

    /// The index takes what it takes, and the reservation is given back. Beyond its share, its oldest content goes.
    func indexHasGrown(_ reservation: Reservation) {
        let statistics = index.statistics
        noteIndexSize()
        reservation.release()
        let share = min(
            ledger.ceilingBytes * configuration.indexSharePercent / 100,
            Int64(statistics.mapBytes) * 7 / 10
        )
        // What cannot be evicted now is tried again with the next insert.
        if let live = try? index.liveBytes(), Int64(live) > share { try? evictSmall(count: 20) }
    }

    func noteIndexSize() {
        let indexBytes = indexBytes
        ledger.update { $0.indexBytes = indexBytes }
    }

    /// Of what lies in the index, small layers and lists go before manifests and configs, and in each of the two what was not read since the
    /// hand last came by.
    private func evictSmall(count: Int) throws(DiskTierError) {
        let index = index
        let hands = evictor.smallHands.withLock { $0 }
        let moved = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                var hands = hands
                for rank in [SmallRank.first, .kept] {
                    let removed = try index.evictSmall(rank, &hands[Int(rank.rawValue)], count: count, transaction)
                    if removed > 0 { break }
                }
                return hands
            }
        }
        evictor.smallHands.withLock { $0 = moved }
    }
}

extension CacheIndex {
    /// How many were evicted.
    fileprivate func evictSmall(
        _ rank: SmallRank,
        _ hand: inout UInt64,
        count: Int,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> Int {
        var removed = 0
        var ends = 0
        for _ in 0..<Evictor.looksPerTransaction where removed < count && ends < 3 {
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
