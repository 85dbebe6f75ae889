internal import ObjectStorage
internal import System
internal import Threading

/// One process at a time, over a store that has no conditional writes: Lamport's bakery, with objects for its registers.
///
/// It needs of the store only that a listing shows what a PUT before it has stored. Whoever comes takes a number greater than all it sees and
/// waits for the smaller ones. What a dead process left behind is taken away by those who have waited for it for ``leaseSeconds``.
struct BakeryLock: Sendable {
    static let leaseSeconds: UInt64 = 30
    private static let longestPauseMilliseconds: UInt64 = 60

    let store: any ObjectStore
    /// All its objects' keys begin with this.
    let folder: String
    let time: any TimeSource
    let random: any RandomSource

    private struct Entry: Hashable, Comparable {
        /// 0 while its owner still chooses one.
        let number: UInt64
        let owner: String

        static func < (a: Entry, b: Entry) -> Bool { (a.number, a.owner) < (b.number, b.owner) }
    }

    func callAsFunction<Answer>(
        _ body: () throws(RegistryError) -> Answer
    ) throws(RegistryError) -> Answer {
        let choosing = Entry(number: 0, owner: random.token())
        try put(choosing)
        let ticket: Entry
        do throws(RegistryError) {
            ticket = Entry(number: (try entries().map(\.number).max() ?? 0) + 1, owner: choosing.owner)
            try put(ticket)
        } catch {
            leave(choosing)
            throw error
        }
        defer { leave(ticket) }
        try ask { () throws(StoreError) in try store.delete(key(choosing)) }
        try waitForTurn(ticket)
        return try body()
    }

    private func waitForTurn(_ ticket: Entry) throws(RegistryError) {
        var firstSeen: [Entry: UInt64] = [:]
        while true {
            let ahead = try entries().filter { $0 < ticket && $0.owner != ticket.owner }
            guard !ahead.isEmpty else { return }
            let now = time.monotonicNanoseconds()
            for entry in ahead {
                let since = firstSeen[entry] ?? now
                firstSeen[entry] = since
                if now - since >= Self.leaseSeconds * 1_000_000_000 { leave(entry) }
            }
            pauseThread(.milliseconds(Int64(1 + random.next() % Self.longestPauseMilliseconds)))
        }
    }

    private func entries() throws(RegistryError) -> [Entry] {
        var entries: [Entry] = []
        try ask { () throws(StoreError) in
            try store.listAll(prefix: folder) { page in
                for object in page.objects {
                    let parts = object.key.description.dropFirst(folder.count).split(separator: "-")
                    guard parts.count == 2, let number = UInt64(parts[0]) else { continue }
                    entries.append(Entry(number: number, owner: String(parts[1])))
                }
            }
        }
        return entries
    }

    private func put(_ entry: Entry) throws(RegistryError) {
        _ = try ask { () throws(StoreError) in try store.put(key(entry), .bytes([])) }
    }

    /// One that cannot be removed now is removed by those who wait for it.
    private func leave(_ entry: Entry) {
        _ = try? store.delete(key(entry))
    }

    private func key(_ entry: Entry) -> ObjectKey {
        do {
            return try ObjectKey("\(folder)\(entry.number)-\(entry.owner)")
        } catch {
            preconditionFailure("\(error)")
        }
    }

    private func ask<Answer>(_ body: () throws(StoreError) -> Answer) throws(RegistryError) -> Answer {
        do throws(StoreError) {
            return try body()
        } catch {
            throw .store(error)
        }
    }
}
