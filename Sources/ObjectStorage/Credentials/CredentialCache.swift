public import System
internal import Threading

/// Keeps a chain's credentials, and has them renewed before they end: by one thread at a time, while those that are still valid are used.
public final class CredentialCache: Sendable {
    /// Renewal begins so long before the end, or after half of the time that they are valid.
    private static let marginSeconds: Int64 = 300
    /// Renewal begins up to so much earlier, so that nodes which started together do not ask together.
    private static let jitterSeconds: Int64 = 60
    /// Where nothing was found, the chain is asked again after this: a metadata service may be late.
    private static let nothingSeconds: Int64 = 60
    private static let longestPauseSeconds: Int64 = 60
    /// Asked to renew what the store refuses, it does so at most this often.
    private static let refusalSeconds: Int64 = 10
    /// How long requests without credentials wait for a renewal. Those that come later do not: its source is silent.
    private let patience: Duration

    private struct State {
        var issued: IssuedCredentials?
        /// When the next renewal is due, or allowed after one that failed.
        var dueAt = WallTime(seconds: .min)
        var failure: String?
        var failures = 0
        var isRunning = false
        /// Until when it is worth waiting for the one that runs.
        var patience = Deadline.never
        /// When a refusal last had them renewed, and when others came.
        var renewedAt = WallTime(seconds: .min)
        var changedAt = WallTime(seconds: .min)

        mutating func begin(_ patience: Duration) {
            isRunning = true
            self.patience = .after(patience)
        }
    }

    private enum Turn {
        case use(Credentials?)
        case wait
        case fail(String)
    }

    private let state = Monitor(State())
    private let issue: @Sendable () throws(CredentialFailure) -> IssuedCredentials
    private let time: any TimeSource
    private let random: any RandomSource
    private let report: @Sendable (StoreEvent) -> Void

    /// - Parameter report: told which source won, and when one fails.
    public convenience init(
        _ chain: CredentialChain,
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(),
        report: @escaping @Sendable (StoreEvent) -> Void
    ) {
        self.init(time: time, random: random, report: report) { () throws(CredentialFailure) in try chain.issue() }
    }

    init(
        time: any TimeSource,
        random: any RandomSource,
        patience: Duration = .seconds(10),
        report: @escaping @Sendable (StoreEvent) -> Void,
        issue: @escaping @Sendable () throws(CredentialFailure) -> IssuedCredentials
    ) {
        self.patience = patience
        self.issue = issue
        self.time = time
        self.random = random
        self.report = report
    }

    public var provider: CredentialProvider {
        CredentialProvider(
            { () throws(StoreError) in try self.current() },
            renew: { self.renew(afterRefusal: $0) }
        )
    }

    private func current() throws(StoreError) -> Credentials? {
        while true {
            switch turn() {
            case .use(let credentials): return credentials
            case .fail(let reason): throw Self.failure(reason)
            case .wait:
                if !waitForRenewal() { throw Self.failure("their source does not answer") }
            }
        }
    }

    /// False when the renewal takes too long.
    private func waitForRenewal() -> Bool {
        let deadline = state.withLock { $0.patience }
        return state.wait(until: deadline) { $0.isRunning ? nil : true } ?? false
    }

    private static func failure(_ reason: String) -> StoreError {
        StoreError(.sign, in: "the chain of credentials", .noCredentials, reason)
    }

    /// What to do now; begins a renewal that is due.
    private func turn() -> Turn {
        let now = time.wallTime()
        let (turn, isMine): (Turn, Bool) = state.update { state in
            let isMine = !state.isRunning && now >= state.dueAt
            if isMine { state.begin(patience) }
            if let issued = state.issued, issued.outlastsItsEnd || !issued.hasEnded(at: now) {
                return (.use(issued.credentials), isMine)
            }
            if state.isRunning { return (.wait, isMine) }
            return (.fail(state.failure ?? state.issued?.expiry ?? ""), false)
        }
        if isMine { beginRenewal() }
        return turn
    }

    private func beginRenewal() {
        spawnThread(name: "credentials") { [self] in
            let result = Result { () throws(CredentialFailure) in try issue() }
            finish(result)
        }
    }

    private func finish(_ result: Result<IssuedCredentials, CredentialFailure>) {
        let now = time.wallTime()
        let draw = random.next()
        let event: StoreEvent? = state.update { state in
            state.isRunning = false
            switch result {
            // What had credentials does not lose them because their source cannot be reached.
            case .success(let issued) where issued.credentials == nil && state.issued?.credentials != nil:
                return fail(
                    "credentials: \(state.issued?.source ?? "the source") gives none any more",
                    &state,
                    now,
                    draw
                )
            case .success(let issued) where issued.hasEnded(at: now):
                return take(expired: issued, &state, now, draw)
            case .success(let issued):
                let isNews = issued.source != state.issued?.source || state.failures > 0
                keep(issued, &state, now)
                state.failure = nil
                state.failures = 0
                state.dueAt = max(Self.dueAt(issued, now, draw), Self.pauseEnd(after: 0, now, draw))
                return isNews ? Self.news(of: issued) : nil
            case .failure(let error):
                return fail(error.description, &state, now, draw)
            }
        }
        if let event { report(event) }
    }

    private static func news(of issued: IssuedCredentials) -> StoreEvent {
        // Somebody may have meant requests to be signed.
        issued.isRefusal
            ? .credentialsFailed(reason: "credentials from \(issued.source)")
            : .credentials(source: issued.source, until: issued.end)
    }

    private func keep(_ issued: IssuedCredentials, _ state: inout State, _ now: WallTime) {
        if issued.credentials != state.issued?.credentials { state.changedAt = now }
        state.issued = issued
    }

    /// A source in trouble, or a clock that is wrong. They are worth nothing, but for an instance's where there are no better ones.
    private func take(
        expired issued: IssuedCredentials,
        _ state: inout State,
        _ now: WallTime,
        _ draw: UInt64
    ) -> StoreEvent? {
        let hasBetter = state.issued.map { $0.credentials != nil && !$0.hasEnded(at: now) } ?? false
        guard issued.outlastsItsEnd, !hasBetter else {
            return fail("\(issued.expiry); check their source and this machine's clock", &state, now, draw)
        }
        keep(issued, &state, now)
        return fail("\(issued.expiry) and used until there are newer ones", &state, now, draw)
    }

    /// The first of several failures is told.
    private func fail(_ reason: String, _ state: inout State, _ now: WallTime, _ draw: UInt64) -> StoreEvent? {
        state.failure = reason
        state.dueAt = Self.pauseEnd(after: state.failures, now, draw)
        state.failures += 1
        return state.failures == 1 ? .credentialsFailed(reason: reason) : nil
    }

    /// No source is asked again before that, whatever it gave.
    private static func pauseEnd(after failures: Int, _ now: WallTime, _ draw: UInt64) -> WallTime {
        let ceiling = min(longestPauseSeconds, 1 << min(failures, 10))
        return WallTime(seconds: now.seconds + 1 + Int64(draw % UInt64(ceiling)))
    }

    private static func dueAt(_ issued: IssuedCredentials, _ now: WallTime, _ draw: UInt64) -> WallTime {
        guard let end = issued.endHere else {
            // Keys that do not end are asked for once, but for nobody's.
            return WallTime(seconds: issued.credentials == nil ? now.seconds + nothingSeconds : .max)
        }
        let lifetime = max(0, end.seconds - now.seconds)
        let margin = min(marginSeconds, lifetime / 2)
        let jitter = Int64(draw % UInt64(min(jitterSeconds, lifetime / 10) + 1))
        return WallTime(seconds: end.seconds - margin - jitter)
    }

    /// What new credentials may mend; the last one where a secret was changed and its name was not.
    private static let mendable = [
        "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    ]

    /// The store says that they have ended before their time, or a file that held them may hold others now.
    private func renew(afterRefusal code: String) -> Bool {
        guard Self.mendable.contains(code) else { return false }
        let now = time.wallTime()
        func isLately(_ moment: WallTime) -> Bool { now.seconds < moment.seconds + Self.refusalSeconds }
        let (before, isMine): (Credentials?, Bool) = state.update { state in
            // What was refused may have been those before them.
            let before = isLately(state.changedAt) ? nil : state.issued?.credentials
            if state.isRunning || isLately(state.renewedAt) { return (before, false) }
            state.renewedAt = now
            state.begin(patience)
            return (before, true)
        }
        if isMine { beginRenewal() }
        _ = waitForRenewal()
        return state.withLock { $0.issued?.credentials != before && $0.issued?.credentials != nil }
    }
}
