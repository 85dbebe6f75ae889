internal import System

/// How often, and after which pauses, a request is sent again: exponential backoff with full jitter.
public struct RetryPolicy: Sendable {
    /// The first one included.
    public var attempts = 4
    /// The longest pause before the second attempt; it doubles with each further one.
    public var firstPauseMilliseconds = 100
    public var longestPauseMilliseconds = 5_000
    /// How much of a store's own wish (`Retry-After`) is granted.
    public var longestRetryAfterSeconds = 20

    public init() {}

    func check() {
        precondition(attempts > 0 && firstPauseMilliseconds > 0 && longestRetryAfterSeconds >= 0)
        precondition(longestPauseMilliseconds >= firstPauseMilliseconds)
    }

    /// The pause after `attempt`, the first of which is 1.
    func pause(after attempt: Int, _ error: StoreError, _ random: any RandomSource) -> Duration {
        let ceiling = min(longestPauseMilliseconds, firstPauseMilliseconds << min(attempt - 1, 20))
        let jitter = Int(random.next() % UInt64(ceiling + 1))
        let wish = min(error.retryAfterSeconds ?? 0, longestRetryAfterSeconds) * 1_000
        return .milliseconds(wish + jitter)
    }
}
