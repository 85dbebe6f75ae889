public import DiskTier
public import ObjectStorage
internal import Synchronization
internal import System
internal import Threading

/// Whether a node can do its work, and if not, why.
public final class Readiness: Sendable {
    /// One thing that the work needs.
    struct Check: Sendable {
        let name: String
        let condition: Condition
    }

    enum Condition: Sendable {
        case well
        /// Clients are served all the same, if less well.
        case degraded(String)
        case failed(String)

        var isWell: Bool { if case .well = self { true } else { false } }
        var isFailed: Bool { if case .failed = self { true } else { false } }
    }

    private let tier: DiskTier
    private let origin: OriginCheck
    private let isStopping = Atomic(false)

    public init(tier: DiskTier, origin: any ObjectStore) {
        self.tier = tier
        self.origin = OriginCheck(origin)
    }

    /// From now on the node takes nothing new.
    public func stop() { isStopping.store(true, ordering: .relaxed) }

    func checks() -> [Check] {
        [
            Check(name: "server", condition: isStopping.load(ordering: .relaxed) ? .failed("it is stopping") : .well),
            Check(name: "index", condition: tier.indexCondition),
            Check(name: "origin", condition: origin.condition()),
        ]
    }
}

extension DiskTier {
    /// What an index does not take goes past the disk, and each client gets it.
    var indexCondition: Readiness.Condition {
        do throws(DiskTierError) {
            let totals = try inventoryTotals()
            if let failure = indexWriteFailure { return .degraded("\(failure)") }
            return totals.indexLiveBytes < totals.indexMapBytes / 100 * 95 ? .well : .degraded("its map is full")
        } catch {
            return .failed("\(error)")
        }
    }
}

extension Readiness.Condition {
    /// What asking the origin for a list came to.
    fileprivate init(_ error: StoreError) {
        self =
            switch error.kind {
            // A public bucket lets everybody read and nobody list.
            case .anonymous: .well
            // As a policy may that names no more than objects.
            case .denied: .degraded("it does not let this node list, and may deny reads too: \(error)")
            default: .failed("\(error)")
            }
    }
}

/// Asks the origin now and then, however often it is wanted, and waits no longer than a prober does.
private final class OriginCheck: Sendable {
    private static let waitLimit: Duration = .seconds(2)
    /// After so long without an answer it is asked anew: it may be back, and the connection lost.
    private static let patience: Duration = .seconds(3)

    private struct State {
        var condition = Readiness.Condition.well
        var checkedAt: ContinuousClock.Instant?
        var isRunning = false

        /// It answered last time, and has yet to take too long.
        var lastCondition: Readiness.Condition? { checkedAt != nil && !condition.isFailed ? condition : nil }

        /// Trouble is believed for a moment only, so that its end is seen soon.
        func isBelieved(at now: ContinuousClock.Instant) -> Bool {
            guard let checkedAt else { return false }
            return now - checkedAt < (condition.isFailed ? .seconds(1) : .seconds(5))
        }
    }

    private let origin: any ObjectStore
    private let state = Monitor(State())

    init(_ origin: any ObjectStore) {
        self.origin = origin
    }

    func condition() -> Readiness.Condition {
        let start = ContinuousClock.now
        let begins = state.withLock { state in
            if state.isBelieved(at: start) { return false }
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if begins { spawnThread(name: "origin-check") { [self] in check() } }
        let answer = state.wait(until: .after(Self.waitLimit)) { state in
            state.isBelieved(at: start) ? state.condition : nil
        }
        return answer ?? state.withLock { $0.lastCondition } ?? Self.silence
    }

    private static let silence = Readiness.Condition.failed("it does not answer")

    private func check() {
        let deadline = Deadline.after(Self.patience)
        var condition = Readiness.Condition.well
        do throws(StoreError) {
            try origin.check(isCancelled: { deadline.hasPassed })
        } catch {
            condition = deadline.hasPassed && !error.kind.isDenial ? Self.silence : Readiness.Condition(error)
        }
        state.update { state in
            state.condition = condition
            state.checkedAt = .now
            state.isRunning = false
        }
    }
}
