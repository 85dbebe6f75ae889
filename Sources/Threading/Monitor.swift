internal import Glibc

/// State behind a lock that threads can wait on: a mutex with one condition variable (`pthread_mutex_t`, `pthread_cond_t`).
///
/// The lock covers decisions, never I/O.
///
/// Sendable because `state` is only reached with `mutex` held.
public final class Monitor<State: ~Copyable>: @unchecked Sendable {
    private var state: State
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    public init(_ state: consuming sending State) {
        self.state = state
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` with the lock held and wakes nobody.
    public func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state)
    }

    /// Runs `body` with the lock held, then wakes every waiting thread.
    public func update<Result: ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer {
            // In this order: whoever is woken finds the lock free.
            pthread_mutex_unlock(mutex)
            pthread_cond_broadcast(condition)
        }
        return try body(&state)
    }

    /// Calls `body` with the lock held, again after each ``update(_:)``, until it returns a value.
    ///
    /// `nil` when `deadline` passes first.
    public func wait<Result, Failure: Error>(
        until deadline: Deadline = .never,
        for body: (inout State) throws(Failure) -> sending Result?
    ) throws(Failure) -> sending Result? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = try body(&state) { return result }
            guard let nanoseconds = deadline.monotonicNanoseconds else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            var time = timespec(
                tv_sec: Int(nanoseconds / 1_000_000_000),
                tv_nsec: Int(nanoseconds % 1_000_000_000)
            )
            if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { return try body(&state) }
        }
    }
}

/// The moment when waiting ends, on the monotonic clock.
public struct Deadline: Sendable {
    let monotonicNanoseconds: UInt64?

    public static let never = Deadline(monotonicNanoseconds: nil)

    public static func after(_ duration: Duration) -> Deadline {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        let nanoseconds =
            max(0, duration.components.seconds) * 1_000_000_000
            + max(0, duration.components.attoseconds / 1_000_000_000)
        return Deadline(
            monotonicNanoseconds: UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec) + UInt64(nanoseconds)
        )
    }

    public var hasPassed: Bool {
        guard let monotonicNanoseconds else { return false }
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec) >= monotonicNanoseconds
    }
}

/// Lets the calling thread wait.
public func pauseThread(_ duration: Duration) {
    _ = Monitor(()).wait(until: .after(duration)) { _ -> Bool? in nil }
}
