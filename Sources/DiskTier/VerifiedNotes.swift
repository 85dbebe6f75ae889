internal import LMDB
internal import OCI

/// A blob's bytes are right as they were when they were hashed.
struct VerifiedNote: Sendable {
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

/// Those of one walk, which share a commit. Of one thread.
final class VerifiedNotes {
    private static let limit = 256
    private static let limitNanoseconds: UInt64 = 1_000_000_000

    private var notes: [VerifiedNote] = []
    /// When the first one may wait no longer.
    private var due: UInt64?

    func add(_ note: VerifiedNote) { notes.append(note) }

    /// Told after each blob.
    func isDue(at now: UInt64) -> Bool {
        guard !notes.isEmpty else { return false }
        let due = due ?? now + Self.limitNanoseconds
        self.due = due
        return notes.count >= Self.limit || now >= due
    }

    func take() -> [VerifiedNote] {
        defer { (notes, due) = ([], nil) }
        return notes
    }
}

extension DiskTier {
    func note(_ note: VerifiedNote, in notes: VerifiedNotes?) {
        if let notes { notes.add(note) } else { markVerified([note]) }
    }

    /// Writes them down, in one transaction. What is not noted is hashed again the next time, no worse.
    func markVerified(_ notes: [VerifiedNote]) {
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
        _ note: VerifiedNote,
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
