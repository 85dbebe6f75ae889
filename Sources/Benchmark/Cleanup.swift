internal import OCI
internal import Synchronization
internal import Threading

/// What a run has put into registries, noted before it is sent: an upload that was cut off may be there all the same.
final class Ledger: Sendable {
    enum Kind: String, CaseIterable, Sendable {
        /// In the order of deletion, since a registry may refuse to delete blobs that a manifest refers to.
        case manifest
        case blob
        /// Came by being pulled: a cache that cannot be told to drop it lets it age.
        case copy = "cached blob"
        case session = "upload session"
    }

    fileprivate struct Entry: Sendable {
        let kind: Kind
        let url: String
        let registry: RegistryClient
    }

    private let entries = Mutex<[String: Entry]>([:])
    private let unanswered = Mutex<[String: Int]>([:])

    /// False when it was noted before.
    @discardableResult
    func note(_ kind: Kind, _ url: String, in registry: RegistryClient) -> Bool {
        entries.withLock { entries in
            guard entries[url] == nil else { return false }
            entries[url] = Entry(kind: kind, url: url, registry: registry)
            return true
        }
    }

    /// It has turned out not to be there.
    func forget(_ url: String) { entries.withLock { _ = $0.removeValue(forKey: url) } }

    /// A session may have been opened that nobody knows.
    func noteUnansweredSession(in registry: RegistryClient) {
        unanswered.withLock { $0[registry.place, default: 0] += 1 }
    }

    /// What is still there, or may be.
    struct Remains {
        /// Copies do not count.
        var count = 0
        var notes: [String] = []
    }

    /// Deletes all that is of these kinds.
    func clean(_ kinds: [Kind] = Kind.allCases, progress: (String) -> Void) -> Remains {
        let noted = entries.withLock { $0 }.values
        let batches = kinds.map { kind in noted.filter { $0.kind == kind } }
        let total = batches.reduce(0) { $0 + $1.count }
        if total > 0 { progress("deleting \(total) objects") }
        let sweep = Sweep()
        for batch in batches where !batch.isEmpty {
            let pool = WorkerPool(name: "bench-clean", threads: 8, queueLimit: 8)
            pool.forEach(below: batch.count) { sweep.delete(batch[$0]) }
            pool.close()
        }
        return unanswered.withLock { $0 }.sorted { $0.key < $1.key }.reduce(into: sweep.remains) { remains, entry in
            remains.count += entry.value
            let what = counted(entry.value, Kind.session.rawValue)
            remains.notes.append("may be left in \(entry.key): \(what), whose start was not answered")
        }
    }
}

/// One pass over what is to be deleted.
private final class Sweep: Sendable {
    private struct Refusal: Hashable {
        let place: String
        let kind: Ledger.Kind
        let reason: String
    }

    private let refusals = Mutex<[Refusal: Int]>([:])
    private let silent = Mutex<[String: Failure]>([:])

    func delete(_ entry: Ledger.Entry) {
        let place = entry.registry.place
        do throws(Failure) {
            // One that has stopped answering is not waited for again and again.
            if let failure = silent.withLock({ $0[place] }) { throw failure }
            try insisting { () throws(Failure) in try entry.registry.delete(entry.url, isPatient: true) }
        } catch {
            if error.isSilence { silent.withLock { $0[place] = error } }
            let refusal = Refusal(place: place, kind: entry.kind, reason: error.kind)
            refusals.withLock { $0[refusal, default: 0] += 1 }
        }
    }

    var remains: Ledger.Remains {
        let refusals = refusals.withLock { $0 }
        return Ledger.Remains(
            count: refusals.reduce(0) { $0 + ($1.key.kind == .copy ? 0 : $1.value) },
            notes: refusals.map { refusal, count in
                "left in \(refusal.place): \(counted(count, refusal.kind.rawValue)), since a delete failed: \(refusal.reason)"
            }.sorted()
        )
    }
}

private func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
