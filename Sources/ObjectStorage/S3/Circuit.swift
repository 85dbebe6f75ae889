internal import HTTPClient
internal import Synchronization
internal import System

/// When a store counts as down, and how it is tried again.
public struct CircuitPolicy: Sendable {
    /// So many attempts in a row must have failed for want of an answer, or with a status of 500 and more that is no throttling; of those
    /// answers, one counts for each object…
    public var failures = 5
    /// …over at least this time, or all at once where attempts for as many objects were given up that had waited for it. A store that restarts
    /// at once, and breaks off all that it has in hand, is no outage.
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
///
/// An object that the store cannot read fails as often as it is asked for, and on a quiet node no other request shows that the store is
/// well. So an answer of 500 and more counts once for each object: where the store is down others fail soon, and until then it does answer.
/// Requests for no object, such as listings, tell of the store itself, as silence does: they count each time.
///
/// What fails at one moment may be a store that restarts, or one that has been silent for a minute: then it is the attempts that have taken
/// the time, and nothing but the time has ended them. One object that hangs has many of them, so here each object counts once.
struct Circuit {
    /// What an attempt told about the store.
    enum Evidence {
        case answered
        /// Nobody has answered.
        case unanswered
        /// The answer is that the store has trouble of its own.
        case failed
        /// It ended for reasons of its own.
        case none
    }

    struct Attempt {
        /// What it was for; `nil`: no object.
        let key: ObjectKey?
        let isProbe: Bool
        /// Since when it has waited for an answer; `nil`: something else has ended it.
        var start: UInt64?
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

    /// Before the next try, after so many that failed.
    private struct Pause {
        var until: UInt64
        var tries: Int
    }

    private struct Outage {
        var pause: Pause
        /// For what has failed before: that it fails again tells little, so the others do not wait longer for it.
        var pauseOfSuspects: Pause
    }

    /// Failures with no answer between them.
    private struct Row {
        /// Of those that count.
        var count = 0
        /// When the first came.
        var since: UInt64 = 0
        /// What those were for that had waited, each object once; no more of it than decides.
        var targets: [ObjectKey?] = []
        /// When the first of these began to.
        var start = UInt64.max

        mutating func add(_ key: ObjectKey?, waitingSince start: UInt64, upTo most: Int) {
            if targets.count < most, key == nil || !targets.contains(key) { targets.append(key) }
            self.start = min(self.start, start)
        }
    }

    private enum Phase {
        case closed(Row)
        case open(Outage)
        case probing(Outage, since: UInt64)
    }

    /// A probe that has said nothing for so long keeps nobody else from trying: the store may be back, and its connection lost.
    private static let probeNanoseconds: UInt64 = 5_000_000_000

    /// Of more, the oldest are forgotten and count as news again.
    private static let mostSuspects = 64

    private let policy: CircuitPolicy
    private var phase = Phase.closed(Row())
    /// When the store last did its work.
    private var answeredAt: UInt64 = 0
    /// For what the store has answered with failures since it last did its work; `nil`: for requests without an object.
    private var suspects: [ObjectKey?] = []

    init(_ policy: CircuitPolicy) { self.policy = policy }

    /// - Parameters:
    ///   - key: whose object is asked for.
    ///   - now: nanoseconds on the monotonic clock.
    mutating func admit(_ key: ObjectKey?, now: UInt64) -> Admission {
        switch phase {
        case .closed: return .pass
        case .probing(let outage, let since):
            guard now >= since + Self.probeNanoseconds else { return .refused(retryAfterSeconds: 1) }
            phase = .probing(outage, since: now)
            return .probe
        case .open(let outage):
            let until = max(outage.pause.until, suspects.contains(key) ? outage.pauseOfSuspects.until : 0)
            guard now >= until else { return .refused(retryAfterSeconds: Self.seconds(until - now)) }
            phase = .probing(outage, since: now)
            return .probe
        }
    }

    /// - Parameter random: decides how long a pause is within its bounds.
    mutating func learn(_ evidence: Evidence, from attempt: Attempt, now: UInt64, random: UInt64) -> Change? {
        switch evidence {
        case .answered:
            let wasClosed = if case .closed = phase { true } else { false }
            phase = .closed(Row())
            answeredAt = now
            suspects = []
            return wasClosed ? nil : .closed
        case .unanswered:
            return fail(attempt, counts: true, isSuspect: false, now, random)
        case .failed:
            let isSuspect = suspects.contains(attempt.key)
            if !isSuspect { suspects.append(attempt.key) }
            if suspects.count > Self.mostSuspects { suspects.removeFirst() }
            return fail(attempt, counts: attempt.key == nil || !isSuspect, isSuspect: isSuspect, now, random)
        case .none:
            // It told nothing: whoever comes next tries.
            if attempt.isProbe, case .probing(let outage, _) = phase { phase = .open(outage) }
            return nil
        }
    }

    private mutating func fail(
        _ attempt: Attempt,
        counts: Bool,
        isSuspect: Bool,
        _ now: UInt64,
        _ random: UInt64
    ) -> Change? {
        switch phase {
        case .closed(var row):
            if row.count == 0 { row.since = now }
            if counts { row.count += 1 }
            if let start = attempt.start {
                row.add(attempt.key, waitingSince: max(start, answeredAt), upTo: policy.failures)
            }
            guard isOutage(row, now) else {
                phase = .closed(row)
                return nil
            }
            let first = pause(tries: 0, now, random)
            phase = .open(Outage(pause: first, pauseOfSuspects: first))
            return .opened
        case .probing(var outage, _) where attempt.isProbe:
            if isSuspect {
                outage.pauseOfSuspects = pause(tries: outage.pauseOfSuspects.tries + 1, now, random)
            } else {
                outage.pause = pause(tries: outage.pause.tries + 1, now, random)
            }
            phase = .open(outage)
            return nil
        case .open, .probing:
            return nil
        }
    }

    private func isOutage(_ row: Row, _ now: UInt64) -> Bool {
        let least = UInt64(policy.leastMilliseconds) * 1_000_000
        return row.count >= policy.failures && now >= row.since + least
            || row.targets.count >= policy.failures && now >= row.start + least
    }

    func state(now: UInt64) -> StoreHealth.State {
        switch phase {
        case .closed: .up
        case .open(let outage):
            .down(retryAfterSeconds: outage.pause.until > now ? Self.seconds(outage.pause.until - now) : 0)
        case .probing: .probing
        }
    }

    private func pause(tries: Int, _ now: UInt64, _ random: UInt64) -> Pause {
        let ceiling = min(policy.longestPauseMilliseconds, policy.firstPauseMilliseconds << min(tries, 20))
        // At least half of it, so that the first try does not come while the last failure is still warm.
        let milliseconds = ceiling / 2 + Int(random % UInt64(ceiling / 2 + 1))
        return Pause(until: now + UInt64(milliseconds) * 1_000_000, tries: tries)
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
    private let openness = Atomic(false)
    /// Nobody is taken to be there who has never answered. Attempts at him are repeated like any other: the circuit is closed.
    let availability = StoreAvailability(isDown: true)
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
            (state.circuit.admit(request.key, now: now), state.cause?.kind.text ?? "")
        }
        if case .refused(let seconds) = admission {
            let message = cause.isEmpty ? "nothing was sent" : "nothing was sent; last error: \(cause)"
            throw .unavailable(request, in: store, retryAfterSeconds: seconds, message)
        }
        let attempt = Circuit.Attempt(key: request.key, isProbe: admission == .probe, start: now)
        return CircuitAttempt(self, attempt, request, in: store)
    }

    fileprivate func learn(_ evidence: Circuit.Evidence, from attempt: Circuit.Attempt, _ error: StoreError?) {
        let (now, wallTime, draw) = (time.monotonicNanoseconds(), time.wallTime(), random.next())
        var attempt = attempt
        if error?.isOfWaiting != true { attempt.start = nil }
        let event: StoreEvent? = state.withLock { state in
            let change = state.circuit.learn(evidence, from: attempt, now: now, random: draw)
            switch change {
            case .opened:
                openness.store(true, ordering: .relaxed)
                availability.set(isDown: true)
                state.outages += 1
                state.downSince = wallTime
                state.cause = error
                return error.map { .wentDown(cause: $0) }
            case .closed:
                openness.store(false, ordering: .relaxed)
                availability.set(isDown: false)
                let seconds = wallTime.seconds - (state.downSince ?? wallTime).seconds
                state.downSince = nil
                state.cause = nil
                return .cameBack(afterSeconds: max(0, seconds))
            case nil:
                if case .answered = evidence, availability.isDown { availability.set(isDown: false) }
                return nil
            }
        }
        if let event { report(event) }
    }

    var isOpen: Bool { openness.load(ordering: .relaxed) }

    /// What the store failed at when it went down, if that was an object.
    var lostKey: ObjectKey? { state.withLock { $0.cause?.key } }

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
    private let attempt: Circuit.Attempt
    private let request: S3Request
    private let store: String
    private let isTold = Atomic(false)
    private let wasCancelled = Atomic(false)

    fileprivate init(_ breaker: CircuitBreaker, _ attempt: Circuit.Attempt, _ request: S3Request, in store: String) {
        self.breaker = breaker
        self.attempt = attempt
        self.request = request
        self.store = store
    }

    deinit { tell(.none, nil) }

    /// The store has answered, whatever it said.
    func answered() { tell(.answered, nil) }

    /// What the attempt ended with; the error to go on with.
    func ended(_ error: StoreError) -> StoreError {
        guard !wasCancelled.load(ordering: .relaxed) else {
            let message = "its answer was not waited for"
            let failure = StoreError.unavailable(request, in: store, retryAfterSeconds: 1, wasTried: true, message)
            return error.mayBeDone ? failure.afterChange : failure
        }
        tell(error.evidence, error)
        return error
    }

    /// True once the store went down while this attempt still waited for its first sign of life. A large body may be under way, so it
    /// is left to its own limits.
    func isHopeless() -> Bool {
        let hasLargeBody = request.body.body.length >= S3Limits.bufferBytes
        guard !attempt.isProbe, !hasLargeBody, !isTold.load(ordering: .relaxed), breaker.isOpen else { return false }
        wasCancelled.store(true, ordering: .relaxed)
        return true
    }

    private func tell(_ evidence: Circuit.Evidence, _ error: StoreError?) {
        guard !isTold.exchange(true, ordering: .relaxed) else { return }
        breaker.learn(evidence, from: attempt, error)
    }
}

extension StoreError {
    /// What it tells about the store: whether anybody is there who can do his work.
    fileprivate var evidence: Circuit.Evidence {
        switch (kind, status) {
        case (.serverFailure, let status?): status >= 500 ? .failed : .answered
        // A HEAD's 503 cannot say whether it means too many requests or none at all; where all are refused, a pause is right for both.
        case (.throttled, 503?) where code == nil: .failed
        case (_, _?): .answered
        case (.unreachable, nil): .unanswered
        case (.timeout, nil): isRetryable ? .unanswered : .none
        default: .none
        }
    }

    /// Time ended it: ours, or a gateway's (504), which has waited for the store instead of us.
    fileprivate var isOfWaiting: Bool { if case .timeout = kind { true } else { status == 504 } }

    fileprivate static func unavailable(
        _ request: S3Request,
        in store: String,
        retryAfterSeconds: Int,
        wasTried: Bool = false,
        _ message: String
    ) -> StoreError {
        StoreError(
            request.operation,
            in: store,
            key: request.key,
            .unavailable,
            message,
            retryAfterSeconds: retryAfterSeconds,
            wasTried: wasTried
        )
    }
}
