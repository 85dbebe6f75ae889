internal import LMDB
internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// Whose turn it is to evict, and what was evicted.
final class Evictor: Sendable {
    /// Entries looked at in one transaction: others write in between.
    static let looksPerTransaction = 256
    /// The same as long as there is no room for anything: the fewer transactions, the sooner there is.
    static let looksAboveCeiling = 2048
    /// Of what lies in the index, so many go at once.
    static let leastSmall = 20
    /// Few of them take more of the index.
    static let largeSmallBytes: Int64 = 20 << 10

    /// One thread evicts at a time; the others wait for their turn, in the order in which they came.
    private let turns = Monitor((last: 0, current: 1))
    let evictedBytes = Atomic<Int64>(0)
    let evictedBlobs = Atomic<Int64>(0)
    /// Where the hand stands in each rank of what lies in the index.
    let smallHands = Mutex<[UInt64]>([0, 0])

    func takeTurn() {
        let turn = turns.withLock { turns in
            turns.last += 1
            return turns.last
        }
        _ = turns.wait { $0.current == turn ? true : nil }
    }

    func giveTurn() { turns.update { $0.current += 1 } }
}

extension DiskTier {
    /// Reserves bytes, evicting until they fit. Under a ceiling that was lowered, or on a volume that others have filled, that is left to the
    /// background after a moment: meanwhile there is no room.
    ///
    /// - Parameter held: what the same reservation has already, for telling "never" from "not now".
    func makeRoom(_ bytes: Int64, beside held: Int64) throws(DiskTierError) {
        try requireFits(bytes + held)
        observeVolume()
        if ledger.missing(for: bytes) > 0 { settlement.waitForGrace() }
        let patience = Deadline.after(configuration.excessPatience)
        var pauses = 0
        while !ledger.reserve(bytes) {
            if isExcessive(since: patience) {
                background.press()
                throw noRoom(for: bytes)
            }
            if ledger.hasStranded {
                guard retryRemovals() else { throw noRoom(for: bytes) }
                continue
            }
            if dropLeftFills(atLeast: ledger.missing(for: bytes)) { continue }
            if try evict({ isExcessive(since: patience) ? 0 : ledger.missing(for: bytes) }) { continue }
            // What is not counted yet may be all that there is.
            if settlement.isPending, pauses < Self.settlementPauses {
                pauses += 1
                settlement.wait(Self.settlementPause)
                continue
            }
            let reason = noRoom(for: bytes)
            note(reason)
            throw reason
        }
        if excess(over: configuration.highWatermarkPercent) > 0 { background.press() }
    }

    /// There is no room for anything still, and that is known for sure.
    private func isExcessive(since patience: Deadline) -> Bool {
        patience.hasPassed && isAboveCeiling && !settlement.isPending
    }

    private var isAboveCeiling: Bool { ledger.missing(for: 0) > 0 }

    private func requireFits(_ bytes: Int64) throws(DiskTierError) {
        let (indexBytes, ceiling) = (ledger.current.indexBytes, ledger.ceilingBytes)
        let besideIndex = bytes + ledger.slackBytes
        guard besideIndex + indexBytes > ceiling else { return }
        if indexBytes > indexShareBytes, besideIndex + indexShareBytes <= ceiling {
            throw .indexTooLarge(bytes: bytes, indexBytes: indexBytes, ceilingBytes: ceiling)
        }
        throw .neverFits(bytes: bytes, ceilingBytes: ceiling)
    }

    /// How much has to go until only so much is used of what the tier may use: its ceiling, or what its volume has for it.
    private func excess(over percent: Int64) -> Int64 {
        ledger.missing(for: min(ledger.ceilingBytes, ledger.current.volumeLimitBytes) / 100 * (100 - percent))
    }

    /// Evicts in the background whenever the tier is above its high watermark, so that a reservation seldom has to.
    func startEviction() {
        _ = background.start("evict", self) { tier in
            while tier.background.waitForPressure() { tier.evictInBackground() }
        }
    }

    /// What was entered without room is made room for in the background, as far as that goes.
    public func restoreCeiling() { background.press() }

    private func evictInBackground() {
        // Until it is known what there is, the tier seems full.
        guard !settlement.isPending else { return }
        observeVolume()
        if excess(over: configuration.highWatermarkPercent) > 0 {
            dropLeftFills(atLeast: excess(over: configuration.lowWatermarkPercent))
            evictInSteps { () throws(DiskTierError) in
                guard excess(over: configuration.lowWatermarkPercent) > 0, !ledger.hasStranded else { return false }
                let looks = isAboveCeiling ? Evictor.looksAboveCeiling : Evictor.looksPerTransaction
                return try evictFiles(transactions: 1, looks) { excess(over: configuration.lowWatermarkPercent) }
            }
        }
        evictInSteps { () throws(DiskTierError) in try evictSmallBeyondShare(limit: Evictor.looksPerTransaction) }
        shrinkIndex()
        // What is broken off tells nothing of what must stay.
        if !background.isStopping { tellExcess() }
    }

    /// - Parameter step: false when nothing is left to do.
    private func evictInSteps(_ step: () throws(DiskTierError) -> Bool) {
        while true {
            let start = time.monotonicNanoseconds()
            do throws(DiskTierError) {
                guard try step() else { return }
            } catch {
                return note(error)
            }
            // As long as it takes, up to a moment: the disk and the index are for the others too. They find no room above the ceiling.
            let taken = isAboveCeiling ? 0 : min(50_000_000, time.monotonicNanoseconds() - start)
            guard background.pause(.nanoseconds(Int64(taken))) else { return }
        }
    }

    /// Once for each time that it comes about, and again when it has become worse by a quarter.
    private func tellExcess() {
        let entries = ledger.current
        let aboveCeiling = entries.usedBytes - ledger.ceilingBytes
        let excess = max(0, aboveCeiling, entries.knownBytes - entries.volumeLimitBytes)
        let isNews = toldExcess.withLock { told in
            let isNews = excess > told / 4 * 5
            if excess == 0 || isNews { told = excess }
            return isNews
        }
        guard isNews else { return }
        if aboveCeiling > 0 {
            report(.overCeiling(Excess(entries, ceilingBytes: ledger.ceilingBytes)))
        } else {
            note(noRoom(for: 0))
        }
    }

    /// Evicts files, as the policy says, for as long as some bytes are missing. False when there was nothing to take.
    ///
    /// The index forgets first, then the file goes.
    ///
    /// - Parameter looks: in one transaction.
    func evictFiles(
        transactions: Int = .max,
        _ looks: Int = Evictor.looksPerTransaction,
        missing: () -> Int64
    ) throws(DiskTierError) -> Bool {
        evictor.takeTurn()
        defer { evictor.giveTurn() }
        var sweep = Sweep(entries: try queuedFiles())
        var freed: Int64 = 0
        for _ in 0..<transactions {
            // Somebody else may have made the room while this thread waited.
            let wanted = missing()
            guard wanted > 0 else { return true }
            let pass = try evict(wanted, sweep, looks)
            sweep = pass.sweep
            freed += pass.freed
            if pass.isDone || ledger.hasStranded { return freed > 0 }
        }
        return true
    }

    private func queuedFiles() throws(DiskTierError) -> Int {
        let index = index
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in try transaction.count(index.files) }
        }
    }

    fileprivate struct Pass: Sendable {
        var sweep: Sweep
        var freed: Int64 = 0
        /// Nothing is left that may go.
        var isDone = false
        var victims: [(key: [UInt8], bytes: Int64)] = []
    }

    private func evict(_ wanted: Int64, _ sweep: Sweep, _ looks: Int) throws(DiskTierError) -> Pass {
        let (index, readers) = (index, readers)
        var pass = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                var pass = Pass(sweep: sweep)
                for _ in 0..<looks where pass.freed < wanted && !pass.isDone {
                    try index.look(&pass, readers, transaction)
                }
                try index.notePolicy(transaction)
                return pass
            }
        }
        for victim in pass.victims {
            guard let digest = Digest(key: victim.key) else { continue }
            if !discard(path(of: digest), bytes: victim.bytes) { pass.freed -= victim.bytes }
            readers.release(victim.bytes, Key.hash(victim.key))
        }
        noteIndexSize()
        evictor.evictedBytes.wrappingAdd(pass.freed, ordering: .relaxed)
        evictor.evictedBlobs.wrappingAdd(Int64(pass.victims.count), ordering: .relaxed)
        return pass
    }
}

extension CacheIndex {
    /// One look of the hand.
    fileprivate func look(
        _ pass: inout DiskTier.Pass,
        _ readers: Readers,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) {
        let bytes = try segmentBytes(transaction)
        var sweep = pass.sweep
        defer { pass.sweep = sweep }
        guard let place = policy({ sweep.next(bytes, $0) }) else {
            pass.isDone = true
            return
        }
        guard let found = try first(at: place, transaction) else {
            return policy { sweep.reachedEnd(of: place.segment, &$0) }
        }
        guard !found.key.isEmpty, let value = try transaction.get(blobs, found.key),
            let record = BlobRecord(value.span),
            let facts = record.place.facts, Key.queued(record.standing.place, record.sequence) == found.queueKey
        else {
            // The queue knows more than there is: nothing to evict.
            try transaction.delete(files, found.queueKey)
            return
        }
        let hash = Key.hash(found.key)
        guard !readers.isRead(hash) else { return sweep.pass(found.place) }
        let candidate = Candidate(
            hash: hash,
            standing: record.standing,
            bytes: facts.allocated,
            visits: policy.visits.take(hash)
        )
        let number = nextSequence()
        switch policy({ sweep.judge(candidate, number: number, &$0) }) {
        case .spare: break
        case .move(let standing): try move(record, found.key, to: standing, transaction)
        case .evict:
            pass.freed += try unlink(found.key, transaction)
            pass.victims.append((found.key, facts.allocated))
        }
    }
}
