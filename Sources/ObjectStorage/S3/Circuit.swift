internal import HTTPClient
internal import Synchronization
internal import System

/// When a store counts as down, and how it is tried again.
public struct CircuitPolicy: Sendable {
    /// So many attempts in a row must have failed for want of an answer, or with a status of 500 and more that is no throttling…
    public var failures = 5
    /// …over at least this time. A store that restarts at once is no outage.
    public var leastMilliseconds = 1_000
    /// Before the first try whether it is back, up to a random part; doubles with each that fails.
    public var firstPauseMilliseconds = 1_000
    public var longestPauseMilliseconds = 30_000

    public init() {}

    func check() {
        precondition(failures > 0 && leastMilliseconds >= 0 && firstPauseMilliseconds > 0)
        precondition(longestPauseMilliseconds >= firstPauseMilliseconds)
    }
}

/// Whether a store is worth asking. A value: what happens goes in, what follows from it comes out.
struct Circuit {
    /// What an attempt told about the store.
    enum Evidence {
        case answered
        case failed
        /// It ended for reasons of its own.
        case none
    }

    enum Admission: Equatable {
        case pass
        case probe
        case refused(retryAfterSeconds: Int)
    }

    enum Change {
        case opened
        case closed
    }

    private enum Phase {
        case closed(failures: Int, since: UInt64)
        case open(until: UInt64, pauses: Int)
        case probing(pauses: Int)
    }

    private let policy: CircuitPolicy
    private var phase = Phase.closed(failures: 0, since: 0)

    init(_ policy: CircuitPolicy) { self.policy = policy }

    /// - Parameter now: nanoseconds on the monotonic clock.
    mutating func admit(now: UInt64) -> Admission {
        switch phase {
        case .closed: return .pass
        case .probing: return .refused(retryAfterSeconds: 1)
        case .open(let until, let pauses):
            guard now >= until else { return .refused(retryAfterSeconds: Self.seconds(until - now)) }
            phase = .probing(pauses: pauses)
            return .probe
        }
    }

    /// - Parameter random: decides how long a pause is within its bounds.
    mutating func learn(_ evidence: Evidence, isProbe: Bool, now: UInt64, random: UInt64) -> Change? {
        switch (phase, evidence) {
        case (.closed, .answered):
            phase = .closed(failures: 0, since: 0)
        case (.closed(let failures, let since), .failed):
            let since = failures == 0 ? now : since
            let isLong = now - since >= UInt64(policy.leastMilliseconds) * 1_000_000
            guard failures + 1 >= policy.failures, isLong else {
                phase = .closed(failures: failures + 1, since: since)
                return nil
            }
            open(pauses: 0, now, random)
            return .opened
        case (.open, .answered), (.probing, .answered):
            phase = .closed(failures: 0, since: 0)
            return .closed
        case (.probing(let pauses), .failed) where isProbe:
            open(pauses: pauses + 1, now, random)
        case (.probing(let pauses), .none) where isProbe:
            // It told nothing: whoever comes next tries.
            phase = .open(until: now, pauses: pauses)
        default: break
        }
        return nil
    }

    func state(now: UInt64) -> StoreHealth.State {
        switch phase {
        case .closed: .up
        case .open(let until, _): .down(retryAfterSeconds: until > now ? Self.seconds(until - now) : 0)
        case .probing: .probing
        }
    }

    private mutating func open(pauses: Int, _ now: UInt64, _ random: UInt64) {
        let ceiling = min(policy.longestPauseMilliseconds, policy.firstPauseMilliseconds << min(pauses, 20))
        // At least half of it, so that the first try does not come while the last failure is still warm.
        let milliseconds = ceiling / 2 + Int(random % UInt64(ceiling / 2 + 1))
        phase = .open(until: now + UInt64(milliseconds) * 1_000_000, pauses: pauses)
    }

    private static func seconds(_ nanoseconds: UInt64) -> Int { Int((nanoseconds + 999_999_999) / 1_000_000_000) }
}

/// The circuit of a store, shared by all of its requests.
final class CircuitBreaker: Sendable {
    private struct State {
        var circuit: Circuit
        var cause: StoreError?
        var downSince: WallTime?
        var outages = 0
    }

    private let state: Mutex<State>
    private let time: any TimeSource
    private let random: any RandomSource
    private let report: @Sendable (StoreEvent) -> Void

    init(
        _ policy: CircuitPolicy,
        time: any TimeSource,
        random: any RandomSource,
        report: @escaping @Sendable (StoreEvent) -> Void
    ) {
        state = Mutex(State(circuit: Circuit(policy)))
        self.time = time
        self.random = random
        self.report = report
    }

    /// Lets an attempt pass, or throws at once while the store is down.
    func admit(_ request: S3Request, in store: String) throws(StoreError) -> CircuitAttempt {
        let now = time.monotonicNanoseconds()
        let (admission, cause) = state.withLock { state in
            (state.circuit.admit(now: now), state.cause?.kind.text ?? "")
        }
        switch admission {
        case .pass: return CircuitAttempt(self, isProbe: false, request, in: store)
        case .probe: return CircuitAttempt(self, isProbe: true, request, in: store)
        case .refused(let seconds):
            throw .unavailable(request, in: store, retryAfterSeconds: seconds, cause: cause)
        }
    }

    fileprivate func learn(_ evidence: Circuit.Evidence, isProbe: Bool, _ error: StoreError?) {
        let (now, wallTime, draw) = (time.monotonicNanoseconds(), time.wallTime(), random.next())
        let event: StoreEvent? = state.withLock { state in
            let change = state.circuit.learn(evidence, isProbe: isProbe, now: now, random: draw)
            switch change {
            case .opened:
                state.outages += 1
                state.downSince = wallTime
                state.cause = error
                return error.map { .wentDown(cause: $0) }
            case .closed:
                let seconds = wallTime.seconds - (state.downSince ?? wallTime).seconds
                state.downSince = nil
                state.cause = nil
                return .cameBack(afterSeconds: max(0, seconds))
            case nil:
                return nil
            }
        }
        if let event { report(event) }
    }

    var isOpen: Bool {
        let now = time.monotonicNanoseconds()
        return state.withLock { $0.circuit.state(now: now) != .up }
    }

    func fill(_ health: inout StoreHealth) {
        let now = time.monotonicNanoseconds()
        state.withLock { state in
            health.state = state.circuit.state(now: now)
            health.downSince = state.downSince
            health.cause = state.cause?.description
            health.outages = state.outages
        }
    }
}

/// One attempt that the circuit let pass. What it told counts once; an attempt that ends without a word told nothing.
final class CircuitAttempt: Sendable {
    private let breaker: CircuitBreaker
    private let isProbe: Bool
    private let request: S3Request
    private let store: String
    private let isTold = Atomic(false)
    private let wasCancelled = Atomic(false)

    fileprivate init(_ breaker: CircuitBreaker, isProbe: Bool, _ request: S3Request, in store: String) {
        self.breaker = breaker
        self.isProbe = isProbe
        self.request = request
        self.store = store
    }

    deinit { tell(.none, nil) }

    /// The store has answered, whatever it said.
    func answered() { tell(.answered, nil) }

    /// What the attempt ended with; the error to go on with.
    func ended(_ error: StoreError) -> StoreError {
        guard !wasCancelled.load(ordering: .relaxed) else {
            return .unavailable(request, in: store, retryAfterSeconds: 1, cause: "")
        }
        tell(error.evidence, error)
        return error
    }

    /// True once the store went down while this attempt still waited for its first sign of life. A large body may be under way, so it
    /// is left to its own limits.
    func isHopeless() -> Bool {
        guard !isProbe, !isTold.load(ordering: .relaxed), request.body.body.length < S3Limits.bufferBytes,
            breaker.isOpen
        else { return false }
        wasCancelled.store(true, ordering: .relaxed)
        return true
    }

    private func tell(_ evidence: Circuit.Evidence, _ error: StoreError?) {
        guard !isTold.exchange(true, ordering: .relaxed) else { return }
        breaker.learn(evidence, isProbe: isProbe, error)
    }
}

extension StoreError {
    /// What it tells about the store: whether anybody is there who can do his work.
    fileprivate var evidence: Circuit.Evidence {
        switch (kind, status) {
        case (.serverFailure, let status?): status >= 500 ? .failed : .answered
        // A HEAD's 503 cannot say whether it means too many requests or none at all.
        case (.throttled, 503?) where code == nil: .none
        case (_, _?): .answered
        case (.unreachable, nil): .failed
        case (.timeout, nil): isRetryable ? .failed : .none
        default: .none
        }
    }

    fileprivate static func unavailable(
        _ request: S3Request,
        in store: String,
        retryAfterSeconds: Int,
        cause: String
    ) -> StoreError {
        StoreError(
            request.operation,
            in: store,
            key: request.key,
            .unavailable,
            cause.isEmpty ? "" : "last error: \(cause)",
            retryAfterSeconds: retryAfterSeconds
        )
    }
}
