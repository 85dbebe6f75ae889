internal import Hashing
internal import LMDB
public import OCI
internal import Synchronization
internal import System
internal import Threading

/// What became of one piece of content that was hashed again.
public enum Verdict: Sendable, Equatable {
    case verified
    /// Not what its name says: it is in quarantine, or removed when that has no room.
    case damaged
    /// The index knew a file that is not there, and has forgotten it now.
    case missing
    /// The tier does not have it.
    case unknown
}

/// How far a verification of everything has come.
public struct VerificationProgress: Sendable, Equatable {
    public var blobs = 0
    public var bytes: Int64 = 0
    public var damaged = 0
    public var missing = 0
    /// Could not be read this time, for reasons that are not the content's.
    public var unread = 0
}

// MARK: - On demand

extension DiskTier {
    /// Hashes one piece of content, whatever is believed of it. Damage goes into quarantine.
    public func verify(_ digest: Digest) throws(DiskTierError) -> Verdict {
        try verify(digest, Pacer(bytesPerSecond: nil))
    }

    /// Hashes everything in the index, in the order of the digests, beside whatever else is going on.
    ///
    /// - Parameters:
    ///   - bytesPerSecond: at most; `nil` for as fast as it goes.
    ///   - progress: told after each blob; false ends the work. What was verified until then stays verified.
    @discardableResult
    public func verifyAll(
        bytesPerSecond: Int64? = nil,
        progress: (VerificationProgress) -> Bool = { _ in true }
    ) throws(DiskTierError) -> VerificationProgress {
        let pacer = Pacer(bytesPerSecond: bytesPerSecond)
        return try verify(from: nil, pacer) { state, _, _ in progress(state) }
    }

    /// Looks at content whose reader could not be given all of it, on a thread of its own: damage is told and put aside before the next one asks.
    public func examine(_ digest: Digest) {
        guard examined.withLock({ $0.insert(digest).inserted }) else { return }
        let isStarted = background.start("examine", self) { tier in
            do throws(DiskTierError) {
                _ = try tier.lookup(digest)
            } catch {
                tier.note(error)
            }
            tier.examined.withLock { _ = $0.remove(digest) }
        }
        if !isStarted { examined.withLock { _ = $0.remove(digest) } }
    }

    /// - Parameter visit: told after each blob which it was, and how much was hashed for it; false ends the work.
    func verify(
        from start: Digest?,
        _ pacer: Pacer,
        _ visit: (VerificationProgress, Digest, Verdict) -> Bool
    ) throws(DiskTierError) -> VerificationProgress {
        var state = VerificationProgress()
        let verification = verification(pacer)
        var next = start.map { Key.digest($0) } ?? []
        while true {
            let batch = try digests(from: next)
            for (digest, size) in batch {
                var verdict = Verdict.unknown
                do throws(DiskTierError) {
                    verdict = try verification.verify(digest)
                } catch {
                    guard case .file = error else { throw error }
                    note(error)
                    state.unread += 1
                }
                state.blobs += 1
                state.bytes += size
                if verdict == .damaged { state.damaged += 1 }
                if verdict == .missing { state.missing += 1 }
                guard visit(state, digest, verdict) else { return state }
            }
            guard let last = batch.last else {
                index.releaseMemory()
                return state
            }
            // The least key above it.
            next = Key.digest(last.digest) + [0]
        }
    }

    private func digests(from key: [UInt8]) throws(DiskTierError) -> [(digest: Digest, size: Int64)] {
        let blobs = index.blobs
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                var batch: [(digest: Digest, size: Int64)] = []
                try transaction.forEach(blobs, from: key) { key, value in
                    if let digest = Digest(key: [UInt8](key)), let record = BlobRecord(value) {
                        batch.append((digest, record.size))
                    }
                    return batch.count < 256
                }
                return batch
            }
        }
    }

    /// - Parameter notes: takes up what proved right, which is noted at once without them.
    func verify(
        _ digest: Digest,
        _ pacer: Pacer,
        _ notes: Verification.Notes? = nil
    ) throws(DiskTierError) -> Verdict {
        guard let record = try record(of: digest) else { return .unknown }
        switch record.place {
        case .inline(let bytes):
            guard pacer.spend(Int64(bytes.count)) else { throw .cancelled }
            return try isVerified(digest, record, bytes, notes) ? .verified : .damaged
        case .file(let facts):
            switch try open(digest, record, facts) {
            case .missing: return .missing
            case .damaged: return .damaged
            case .file(let file, let status): return try check(digest, record, file, status, pacer, notes).verdict()
            }
        }
    }
}

// MARK: - Before something is served

extension DiskTier {
    /// Nothing happened since the bytes were last known to be right, as far as the runs tell.
    func isTrusted(_ record: BlobRecord) -> Bool { record.run >= run.trustedSince }

    /// Hashes what lies in the index.
    func isVerified(
        _ digest: Digest,
        _ record: BlobRecord,
        _ bytes: [UInt8],
        _ notes: Verification.Notes? = nil
    ) throws(DiskTierError) -> Bool {
        guard Digest(of: bytes, digest.algorithm) == digest else {
            if try unlink(digest, record) { report(damage: digest, kept: nil) }
            return false
        }
        if !isTrusted(record) { note(Verification.Note(digest, record, facts: nil), in: notes) }
        return true
    }

    /// Hashes a file, together with everybody else who wants it hashed at this moment. Small ones on the calling thread.
    ///
    /// - Parameter pacer: of work that nobody waits for, which hashes on the calling thread even what was hashed before.
    func check(
        _ digest: Digest,
        _ record: BlobRecord,
        _ file: File,
        _ status: FileStatus,
        _ pacer: Pacer? = nil,
        _ notes: Verification.Notes? = nil
    ) -> FileCheck {
        let new = FileCheck(digest, file, status)
        let (check, isNew) = checks.withLock { checks in
            if let running = checks[new.key] { return (running, false) }
            checks[new.key] = new
            return (new, true)
        }
        guard isNew else {
            // A client does not wait at the pace of a scrub.
            if pacer == nil { check.hurry() }
            return check
        }
        let isInBackground =
            pacer == nil && status.size > configuration.verifiedAtOnceBytes
            && background.start("verify", self) { tier in tier.run(check, record, nil, nil) }
        if !isInBackground { run(check, record, pacer, notes) }
        return check
    }

    private func run(_ check: FileCheck, _ record: BlobRecord, _ pacer: Pacer?, _ notes: Verification.Notes?) {
        let outcome = outcome(of: check, record, pacer, notes)
        checks.update { _ = $0.removeValue(forKey: check.key) }
        check.end(outcome)
    }

    private func outcome(
        of check: FileCheck,
        _ record: BlobRecord,
        _ pacer: Pacer?,
        _ notes: Verification.Notes?
    ) -> FileCheck.Outcome {
        do throws(DiskTierError) {
            guard let current = try self.record(of: check.digest), current.sequence == record.sequence else {
                return .gone
            }
            let isNoted = isTrusted(current) && current.place.facts == check.facts
            // Another thread may have ended its check between this caller's look into the index and now.
            if isNoted, pacer == nil { return .good }
            guard try check.hash(fileSystem, pacer) == check.digest else {
                try quarantine(check.digest, current)
                return .damaged
            }
            if !isNoted { note(Verification.Note(check.digest, current, facts: check.facts), in: notes) }
            return .good
        } catch {
            guard case .file(let reason) = error, reason.isUnreadable else { return .failed(error) }
            // The disk cannot give the bytes back: no better than wrong ones.
            return quarantining(check.digest, record)
        }
    }

    private func quarantining(_ digest: Digest, _ record: BlobRecord) -> FileCheck.Outcome {
        do throws(DiskTierError) {
            try quarantine(digest, record)
            return .damaged
        } catch {
            return .failed(error)
        }
    }
}

extension BlobRecord {
    /// In bytes.
    var size: Int64 {
        switch place {
        case .inline(let bytes): Int64(bytes.count)
        case .file(let facts): facts.size
        }
    }
}

extension BlobRecord.Place {
    var facts: BlobRecord.FileFacts? {
        if case .file(let facts) = self { facts } else { nil }
    }
}
