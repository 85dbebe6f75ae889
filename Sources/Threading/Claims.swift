/// Keeps apart what must not happen to one thing at the same time: any number of sharers, or one owner.
///
/// For work that blocks, where a lock would be held across I/O. A waiting owner goes before sharers that come later.
public final class Claims<Key: Hashable & Sendable>: Sendable {
    private struct Holders {
        var sharers = 0
        var isOwned = false
        var waitingOwners = 0

        var isUnused: Bool { sharers == 0 && !isOwned && waitingOwners == 0 }
    }

    private let claims = Monitor<[Key: Holders]>([:])

    public init() {}

    public func share<Answer, Failure: Error>(
        _ key: Key,
        _ body: () throws(Failure) -> Answer
    ) throws(Failure) -> Answer {
        _ = claims.wait { claims -> Bool? in
            let holders = claims[key, default: Holders()]
            guard !holders.isOwned, holders.waitingOwners == 0 else { return nil }
            claims[key, default: Holders()].sharers += 1
            return true
        }
        defer { change(key) { $0.sharers -= 1 } }
        return try body()
    }

    public func own<Answer, Failure: Error>(
        _ key: Key,
        _ body: () throws(Failure) -> Answer
    ) throws(Failure) -> Answer {
        change(key) { $0.waitingOwners += 1 }
        _ = claims.wait { claims -> Bool? in
            guard var holders = claims[key], !holders.isOwned, holders.sharers == 0 else { return nil }
            holders.waitingOwners -= 1
            holders.isOwned = true
            claims[key] = holders
            return true
        }
        defer { change(key) { $0.isOwned = false } }
        return try body()
    }

    /// Whether somebody waits to own it.
    public func hasWaitingOwner(_ key: Key) -> Bool { claims.withLock { ($0[key]?.waitingOwners ?? 0) > 0 } }

    private func change(_ key: Key, _ body: (inout Holders) -> Void) {
        claims.update { claims in
            var holders = claims[key, default: Holders()]
            body(&holders)
            claims[key] = holders.isUnused ? nil : holders
        }
    }
}
