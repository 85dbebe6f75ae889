internal import OCI
internal import Synchronization
internal import Threading

/// What a run has put into registries, noted before it is sent: an upload that was cut off may be there all the same.
final class Ledger: Sendable {
    enum Kind: String, CaseIterable, Sendable {
        /// In the order of deletion: a registry may refuse to delete blobs that a manifest refers to, and a session may become a blob.
        case manifest
        case session = "upload session"
        case blob
        /// Came by being pulled: a cache that cannot be told to drop it lets it age.
        case copy = "cached object"
    }

    fileprivate struct Entry: Sendable {
        let kind: Kind
        let url: String
        let registry: RegistryClient
        var isUnanswered = false
        /// Of a session: nothing was sent to it.
        var isEmpty = false
    }

    /// A session that nobody knows: where it may be, and why.
    private struct Loss: Hashable {
        let place: String
        let reason: String
    }

    private let entries = Mutex<[String: Entry]>([:])
    private let losses = Mutex<[Loss: Int]>([:])

    /// False when it was noted before.
    @discardableResult
    func note(_ kind: Kind, _ url: String, in registry: RegistryClient, isEmpty: Bool = false) -> Bool {
        entries.withLock { entries in
            guard entries[url] == nil else { return false }
            entries[url] = Entry(kind: kind, url: url, registry: registry, isEmpty: isEmpty)
            return true
        }
    }

    /// It has turned out not to be there.
    func forget(_ url: String) { entries.withLock { _ = $0.removeValue(forKey: url) } }

    /// Its whole body went out, and no answer came: it may appear later.
    func noteUnanswered(_ url: String) { entries.withLock { $0[url]?.isUnanswered = true } }

    /// A session may have been opened that nobody knows.
    func noteLostSession(in registry: RegistryClient, _ reason: String) {
        losses.withLock { $0[Loss(place: registry.place, reason: reason), default: 0] += 1 }
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
        let sweep = Sweep()
        for kind in kinds { sweep.delete(noted.filter { $0.kind == kind }, progress) }
        sweep.deleteLate(progress)
        var remains = sweep.remains
        let losses = losses.withLock { $0 }
        remains.count += losses.values.reduce(0, +)
        remains.notes += losses.map { loss, count in
            "may be left in \(loss.place): \(counted(count, Kind.session.rawValue)), \(loss.reason)"
        }.sorted()
        return remains
    }
}

/// One pass over what is to be deleted.
private final class Sweep: Sendable {
    private struct Refusal: Hashable {
        let place: String
        let kind: Ledger.Kind
        let reason: String

        init(_ entry: Ledger.Entry, _ failure: Failure) {
            (place, kind, reason) = (entry.registry.place, entry.kind, failure.reason)
        }
    }

    private let refusals = Mutex<[Refusal: Int]>([:])
    private let silent = Mutex<[String: Failure]>([:])
    /// Not there, and may appear.
    private let late = Mutex<[Ledger.Entry]>([])
    /// Sessions that may be found a little later, and what was said of them.
    private let hidden = Mutex<[(session: Ledger.Entry, failure: Failure)]>([])

    /// No interrupt ends it, since mostly one led here.
    func delete(_ entries: [Ledger.Entry], _ progress: (String) -> Void) {
        guard let kind = entries.first?.kind.rawValue else { return }
        let schedule = Schedule(clients: min(8, entries.count), loop: .closed, operations: entries.count)
        func show(_ done: Int) { progress("deleting \(kind)s: \(done) of \(entries.count)") }
        show(0)
        _ = Load.run(schedule, stop: StopFlag(), onSample: { show($0.operations) }) { index, _, _ in
            self.delete(entries[index])
        }
    }

    /// A registry may work on after a push was cut off: what it had whole is looked for a few times, and so are sessions.
    func deleteLate(_ progress: (String) -> Void) {
        for pause in [Duration.milliseconds(500), .seconds(1), .seconds(2)] {
            let entries = late.withLock { take(&$0) } + hidden.withLock { take(&$0) }.map(\.session)
            guard !entries.isEmpty else { return }
            pauseThread(pause)
            delete(entries, progress)
        }
    }

    private func delete(_ entry: Ledger.Entry) {
        let place = entry.registry.place
        do throws(Failure) {
            // One that has stopped answering is not waited for again and again.
            if let failure = silent.withLock({ $0[place] }) { throw failure }
            let isBusy = { (failure: Failure) in failure.isTransient || entry.kind == .session && failure.isConflict }
            let wasThere = try insisting(on: isBusy) { () throws(Failure) in
                entry.kind == .session
                    ? try entry.registry.endSession(entry.url, isEmpty: entry.isEmpty, isPatient: true)
                    : try entry.registry.delete(entry.url, isPatient: true)
            }
            if !wasThere, entry.isUnanswered { late.withLock { $0.append(entry) } }
        } catch {
            if error.isSilence { silent.withLock { $0[place] = error } }
            if entry.kind == .session, error.isNotFound {
                hidden.withLock { $0.append((entry, error)) }
            } else {
                refusals.withLock { $0[Refusal(entry, error), default: 0] += 1 }
            }
        }
    }

    var remains: Ledger.Remains {
        let hidden = hidden.withLock { $0.map { (Refusal($0.session, $0.failure), 1) } }
        let refusals = refusals.withLock { $0.merging(hidden, uniquingKeysWith: +) }
        var remains = Ledger.Remains(
            count: refusals.reduce(0) { $0 + ($1.key.kind == .copy ? 0 : $1.value) },
            notes: refusals.map { refusal, count in
                "left in \(refusal.place): \(counted(count, refusal.kind.rawValue)), since a delete failed: \(refusal.reason)"
            }.sorted()
        )
        for (place, entries) in Dictionary(grouping: late.withLock { $0 }, by: \.registry.place).sorted(by: {
            $0.key < $1.key
        }) {
            remains.count += entries.count
            remains.notes.append(
                "may be left in \(place): \(counted(entries.count, "object")), whose push was not answered"
            )
        }
        return remains
    }
}

private func take<Element>(_ elements: inout [Element]) -> [Element] {
    defer { elements = [] }
    return elements
}

private func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
