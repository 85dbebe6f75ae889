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
    /// Further attempts that all requests may make together before as many have succeeded as ``successesPerRetry`` asks for. So a store in
    /// trouble is never asked much more often than one that is well.
    public var budget = 100
    public var successesPerRetry = 10

    public init() {}

    func check() {
        precondition(attempts > 0 && attemptsWithTimeouts > 0)
        precondition(firstPauseMilliseconds > 0 && longestRetryAfterSeconds >= 0)
        precondition(longestPauseMilliseconds >= firstPauseMilliseconds)
        precondition(budget >= 0 && successesPerRetry > 0)
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
        var taken = 0
        var denied = 0
    }

    private let policy: RetryPolicy
    private let state: Mutex<State>

    init(_ policy: RetryPolicy) {
        self.policy = policy
        state = Mutex(State(parts: policy.budget * policy.successesPerRetry))
    }

    func succeeded() {
        state.withLock { $0.parts = min($0.parts + 1, policy.budget * policy.successesPerRetry) }
    }

    /// False when it is used up.
    func take() -> Bool {
        state.withLock { state in
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
