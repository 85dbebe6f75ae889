internal import Synchronization

/// The policy of a tier. Deciding takes a lock for a moment; a hit only reads the clock.
final class SharedPolicy: Sendable {
    let visits = VisitTable()
    private let clock: Atomic<UInt64>
    private let visitLimit: Int
    private let policy: Mutex<any EvictionPolicy>

    init(_ policy: any EvictionPolicy) {
        clock = Atomic(policy.clock)
        visitLimit = policy.visitLimit
        self.policy = Mutex(policy)
    }

    func callAsFunction<Answer: Sendable>(_ decide: (inout any EvictionPolicy) -> Answer) -> Answer {
        policy.withLock { policy in
            defer { clock.store(policy.clock, ordering: .relaxed) }
            return decide(&policy)
        }
    }

    func visit(_ hash: UInt64) {
        visits.visit(hash, clock: clock.load(ordering: .relaxed), limit: visitLimit)
    }
}
