internal import LMDB
internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// Where eviction stands, and what it has done.
final class Evictor: Sendable {
    /// Records looked at in one transaction.
    static let recordsPerPass = 1000

    struct Turn: Sendable {
        /// The sequence number that SIEVE's hand points at.
        var hand: UInt64 = 0
        var isTaken = false
    }

    /// One thread evicts at a time; the others wait for their turn.
    let turn = Monitor(Turn())
    let evictedBytes = Atomic<Int64>(0)
    let evictedBlobs = Atomic<Int64>(0)
}

extension DiskTier {
    /// Reserves bytes, evicting until they fit.
    ///
    /// - Parameter held: what the same reservation has already, for telling "never" from "not now".
    func makeRoom(_ bytes: Int64, beside held: Int64) throws(DiskTierError) {
        guard bytes + held + ledger.current.indexBytes <= ledger.ceilingBytes else {
            throw .neverFits(bytes: bytes + held, ceilingBytes: ledger.ceilingBytes)
        }
        observeVolume()
        while !ledger.reserve(bytes) {
            if settlement.isPending, settlement.wait(Self.settlementWait) { continue }
            if ledger.hasStranded {
                guard retryRemovals() else { throw noRoom(for: bytes) }
                continue
            }
            let step = ledger.ceilingBytes * configuration.evictionStepPercent / 100
            let missing = ledger.missing(for: bytes)
            if dropLeftFills(atLeast: missing) { continue }
            // What is not counted yet is probably little: nothing goes for it beyond need.
            guard try evict(atLeast: settlement.isPending ? missing : max(missing, step), for: bytes) else {
                let reason = noRoom(for: bytes)
                note(reason)
                throw reason
            }
        }
    }

    /// SIEVE over the queue of files: the hand goes from the oldest to the newest and round again, spares what was read since it last
    /// passed, and takes the rest. False when there is nothing to take.
    ///
    /// The index forgets first, then the file goes: a reader that has it open reads on.
    ///
    /// - Parameters:
    ///   - bytes: how much to take at once, so that not every reservation has to evict.
    ///   - wanted: what the caller is to reserve; when that fits meanwhile, nothing is taken.
    func evictFiles(atLeast bytes: Int64, for wanted: Int64) throws(DiskTierError) -> Bool {
        let start: UInt64? = evictor.turn.wait { turn in
            guard !turn.isTaken else { return nil }
            turn.isTaken = true
            return turn.hand
        }
        guard var hand = start else { preconditionFailure("waiting without a deadline ended") }
        defer {
            evictor.turn.update { turn in
                turn.hand = hand
                turn.isTaken = false
            }
        }
        // Somebody else may have made the room while this thread waited.
        guard ledger.missing(for: wanted) > 0 else { return true }
        var freed: Int64 = 0
        var passes = 0
        while freed < bytes, passes < 3, !ledger.hasStranded {
            let pass = try sieve(from: hand, wanted: bytes - freed)
            hand = pass.hand
            freed += pass.freed
            if pass.isRoundDone { passes += 1 }
        }
        return freed > 0
    }

    private struct Pass: Sendable {
        var hand: UInt64
        var freed: Int64 = 0
        var isRoundDone = false
        var victims: [(digest: Digest, bytes: Int64)] = []
    }

    private func sieve(from hand: UInt64, wanted: Int64) throws(DiskTierError) -> Pass {
        let (index, visited) = (index, visited)
        var pass = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                var pass = Pass(hand: hand)
                var seen: [(sequence: UInt64, key: [UInt8])] = []
                try transaction.forEach(index.files, from: Key.sequence(hand)) { sequence, key in
                    seen.append((bigEndianNumber(sequence, at: 0), [UInt8](key)))
                    return seen.count < Evictor.recordsPerPass
                }
                for entry in seen where pass.freed < wanted {
                    pass.hand = entry.sequence + 1
                    guard let digest = Digest(key: entry.key), !visited.clear(digest) else { continue }
                    if try index.isPinned(Key.item(.blob(digest)), transaction) { continue }
                    let freed = try index.unlink(entry.key, transaction)
                    pass.freed += freed
                    pass.victims.append((digest, freed))
                }
                if pass.freed < wanted, seen.count < Evictor.recordsPerPass {
                    pass.isRoundDone = true
                    pass.hand = 0
                }
                return pass
            }
        }
        let forgotten = pass.freed
        for victim in pass.victims where !discard(path(of: victim.digest), bytes: victim.bytes) {
            pass.freed -= victim.bytes
        }
        ledger.update { $0.committedBytes -= forgotten }
        noteIndexSize()
        evictor.evictedBytes.wrappingAdd(pass.freed, ordering: .relaxed)
        evictor.evictedBlobs.wrappingAdd(Int64(pass.victims.count), ordering: .relaxed)
        return pass
    }
}

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

    private func evictSmall(count: Int) throws(DiskTierError) {
        let index = index
        try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                var oldest: [[UInt8]] = []
                try transaction.forEach(index.small) { _, value in
                    oldest.append([UInt8](value))
                    return oldest.count < count
                }
                for entry in oldest where try !index.isPinned(entry, transaction) {
                    switch entry.first.flatMap(SmallKind.init) {
                    case .blob: _ = try index.unlink(Array(entry.dropFirst()), transaction)
                    case .manifest: try index.removeManifest(Array(entry.dropFirst()), transaction)
                    case .list: try index.removeList(Array(entry.dropFirst()), transaction)
                    case nil: break
                    }
                }
            }
        }
    }
}
