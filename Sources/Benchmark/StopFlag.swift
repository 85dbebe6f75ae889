internal import Synchronization

/// Tells a run to end.
public final class StopFlag: Sendable {
    private let flag = Atomic(false)
    private let moment = Mutex<ContinuousClock.Instant?>(nil)

    public init() {}

    public var isSet: Bool { flag.load(ordering: .relaxed) }

    public func set() {
        moment.withLock { $0 = $0 ?? .now }
        flag.store(true, ordering: .relaxed)
    }

    func hasBeenSet(for duration: Duration) -> Bool {
        moment.withLock { moment in moment.map { .now - $0 >= duration } ?? false }
    }
}
