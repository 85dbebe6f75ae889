internal import LMDB
public import OCI
internal import System

/// Hashes one piece of content after the other, and puts together what it notes: a commit for many. Of one thread. What is not noted yet is when the
/// value goes.
public final class Verification {
    /// A blob's bytes are right as they were when they were hashed.
    struct Note: Sendable {
        let key: [UInt8]
        /// Of the record that was looked at.
        let sequence: UInt64
        /// Of the file that was hashed; `nil` for what lies in the index.
        let facts: BlobRecord.FileFacts?

        init(_ digest: Digest, _ record: BlobRecord, facts: BlobRecord.FileFacts?) {
            key = Key.digest(digest)
            sequence = record.sequence
            self.facts = facts
        }
    }

    final class Notes {
        var all: [Note] = []
    }

    private static let noteLimit = 256
    private static let noteLimitNanoseconds: UInt64 = 1_000_000_000

    private let tier: DiskTier
    private let pacer: Pacer
    private let notes = Notes()
    /// When the first note was met; it waits no longer than for so long, and for the blob after it.
    private var since: UInt64?

    init(_ tier: DiskTier, _ pacer: Pacer) {
        self.tier = tier
        self.pacer = pacer
    }

    deinit { tier.markVerified(notes.all) }

    /// Hashes a blob, whatever is believed of it. Damage goes into quarantine.
    public func verify(_ digest: Digest) throws(DiskTierError) -> Verdict {
        let verdict = try tier.verify(digest, pacer, notes)
        guard !notes.all.isEmpty else { return verdict }
        let now = tier.time.monotonicNanoseconds()
        let since = since ?? now
        self.since = since
        if notes.all.count >= Self.noteLimit || now - since >= Self.noteLimitNanoseconds {
            tier.markVerified(notes.all)
            (notes.all, self.since) = ([], nil)
        }
        return verdict
    }
}

extension DiskTier {
    /// For many pieces of content, as fast as it goes.
    public func verification() -> Verification { verification(Pacer(bytesPerSecond: nil)) }

    func verification(_ pacer: Pacer) -> Verification { Verification(self, pacer) }

    func note(_ note: Verification.Note, in notes: Verification.Notes?) {
        if let notes { notes.all.append(note) } else { markVerified([note]) }
    }

    /// Writes them down, in one transaction. What is not noted is hashed again the next time, no worse.
    func markVerified(_ notes: [Verification.Note]) {
        guard !notes.isEmpty else { return }
        let (index, run) = (index, run.number)
        do throws(DiskTierError) {
            // No reservation: the records are as long as before, and the first answers after a crash must not wait for room.
            defer { noteIndexSize() }
            let change = try inIndex { () throws(LMDBError) in
                try index.write { transaction throws(LMDBError) in
                    var change: Int64 = 0
                    for note in notes { change += try index.markVerified(note, run: run, transaction) }
                    return change
                }
            }
            ledger.update { $0.committedBytes += change }
        } catch {
            self.note(error)
        }
    }
}

extension CacheIndex {
    /// By how much the blocks of the record's file change. A record that came meanwhile says nothing of what was hashed.
    fileprivate func markVerified(
        _ note: Verification.Note,
        run: UInt64,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> Int64 {
        guard let current = try transaction.get(blobs, note.key), var record = BlobRecord(current.span),
            record.sequence == note.sequence
        else { return 0 }
        // Another one may have noted it since, with other blocks.
        let change = (note.facts?.allocated ?? 0) - (record.place.facts?.allocated ?? 0)
        record.run = run
        if let facts = note.facts { record.place = .file(facts) }
        try transaction.put(blobs, note.key, record.encoded)
        if change != 0 { try addBytes(change, record.standing.place.segment, transaction) }
        return change
    }
}
