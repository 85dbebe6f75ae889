internal import Synchronization
internal import System

/// How often, and after which pauses, a request is sent again: exponential backoff with full jitter.
public struct RetryPolicy: Sendable {
    /// The first one included.
    public var attempts = 4
    /// The same where attempts end in timeouts, each of which has taken its time already.
    public var attemptsWithTimeouts = 2
    /// The longest pause before the second attempt; it doubles with each further one.
    public var firstPauseMilliseconds = 100
    public var longestPauseMilliseconds = 5_000
    /// A store's own wish (`Retry-After`) is granted up to this. Where it is for longer, the request fails at once, and whoever sent it hears of
    /// the wish: it is he who should wait.
    public var longestRetryAfterSeconds = 3
    /// Further attempts that all requests may make together. ``successesPerRetry`` and time give them back. So a store in trouble is never
    /// asked much more often than one that is well.
    public var budget = 100
    public var successesPerRetry = 10
    public var retriesPerSecond = 1

    public init() {}

    func check() {
        precondition(attempts > 0 && attemptsWithTimeouts > 0)
        precondition(firstPauseMilliseconds > 0 && longestRetryAfterSeconds >= 0)
        precondition(longestPauseMilliseconds >= firstPauseMilliseconds)
        precondition(budget >= 0 && successesPerRetry > 0 && retriesPerSecond >= 0)
    }

    /// The pause after `attempt`, the first of which is 1.
    func pause(after attempt: Int, _ error: StoreError, _ random: any RandomSource) -> Duration {
        let ceiling = min(longestPauseMilliseconds, firstPauseMilliseconds << min(attempt - 1, 20))
        let jitter = Int(random.next() % UInt64(ceiling + 1))
        return .milliseconds((error.retryAfterSeconds ?? 0) * 1_000 + jitter)
    }
}

/// The attempts of one request.
struct RetryCourse {
    let policy: RetryPolicy
    private(set) var count = 0
    private var timeouts = 0

    init(_ policy: RetryPolicy) { self.policy = policy }

    /// Whether another attempt may follow one that ended so, as far as this request is concerned.
    mutating func mayGoOn(after error: StoreError) -> Bool {
        count += 1
        switch error.kind {
        case .unavailable, .noCredentials: return false
        case .timeout: timeouts += 1
        default: break
        }
        return error.isRetryable && count < policy.attempts && timeouts < policy.attemptsWithTimeouts
            && error.retryAfterSeconds ?? 0 <= policy.longestRetryAfterSeconds
    }
}

/// The further attempts that all requests to a store share.
final class RetryBudget: Sendable {
    private struct State {
        /// In parts of which ``RetryPolicy/successesPerRetry`` make an attempt.
        var parts: Int
        /// Until when time has given its part, on the monotonic clock.
        var filledAt: UInt64
        var taken = 0
        var denied = 0
    }

    private let policy: RetryPolicy
    private let time: any TimeSource
    private let state: Mutex<State>

    init(_ policy: RetryPolicy, time: any TimeSource) {
        self.policy = policy
        self.time = time
        let now = time.monotonicNanoseconds()
        state = Mutex(State(parts: policy.budget * policy.successesPerRetry, filledAt: now))
    }

    func succeeded() { state.withLock { fill(&$0, 1) } }

    private func fill(_ state: inout State, _ parts: Int) {
        state.parts = min(state.parts + parts, policy.budget * policy.successesPerRetry)
    }

    /// False when it is used up.
    func take() -> Bool {
        let now = time.monotonicNanoseconds()
        return state.withLock { state in
            // Another thread may have read a later moment and come first.
            let seconds = now > state.filledAt ? (now - state.filledAt) / 1_000_000_000 : 0
            state.filledAt += seconds * 1_000_000_000
            fill(&state, min(Int(seconds), policy.budget) * policy.retriesPerSecond * policy.successesPerRetry)
            guard state.parts >= policy.successesPerRetry else {
                state.denied += 1
                return false
            }
            state.parts -= policy.successesPerRetry
            state.taken += 1
            return true
        }
    }

    func fill(_ health: inout StoreHealth) {
        state.withLock { state in
            health.retries = state.taken
            health.retriesDenied = state.denied
        }
    }
}
