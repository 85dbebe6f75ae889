internal import HTTPServer
internal import Logging
internal import ObjectStorage
internal import Registry
internal import RegistryAPI
internal import Synchronization
internal import Threading

/// A node's contact with its origin. The first one tells whether it can be used at all, and which conditions on writes it honours; once it is
/// lost, it is sought until the origin is back, also when no client asks for anything. Now and then it is looked whether it is lost.
///
/// An origin that is away keeps no node from starting: what is cached is served, and contact is sought until there is one.
final class OriginContact: Sendable {
    /// How long it is waited for at the start by whoever needs it.
    private static let patience: Duration = .seconds(2)
    /// Between looks whether the origin is down, and attempts at one that is. The store itself sees to it that they are few.
    private static let interval: Duration = .seconds(1)
    /// Between questions to one that is there, so that its end is seen while all that clients want is cached.
    private static let checkInterval: Duration = .seconds(30)
    /// How long one that was away may take to answer.
    private static let silence: Duration = .seconds(10)
    /// Between attempts at one that refuses; it doubles.
    private static let pauses: ClosedRange<Duration> = .seconds(2) ... .seconds(30)

    private struct State {
        var outcome: Outcome?
        var isClosed = false
    }

    private enum Outcome {
        case made
        case away(StoreError)
        /// Nothing that waiting mends.
        case refused(StoreError)
    }

    private let registry: Registry
    private let log: Logger
    private let state = Monitor(State())
    private let deadline = Deadline.after(patience)
    private let isSettled = Atomic(false)

    init(_ registry: Registry, _ log: Logger) {
        self.registry = registry
        self.log = log
    }

    func begin() {
        spawnThread(name: "origin-contact") { [self] in
            seekFirst()
            keep()
        }
    }

    var hasSettled: Bool { isSettled.load(ordering: .relaxed) }

    /// Waits until there is contact, or it is clear that the origin is away for now.
    func settle() {
        guard !hasSettled else { return }
        _ = state.wait(until: deadline) { $0.outcome }
        isSettled.store(true, ordering: .relaxed)
    }

    /// The same, for who wants to know what it came to.
    func conclude() throws(StoreError) {
        settle()
        switch state.withLock({ $0.outcome }) {
        case .made: return
        case .refused(let error): throw error
        case .away(let error):
            log.warning(
                "the origin is away: only what is cached is served until it is back",
                metadata: ["error": "\(error)"]
            )
        case nil:
            log.warning("the origin has not answered yet: only what is cached is served until it does")
        }
    }

    func close() { state.update { $0.isClosed = true } }

    /// The store's own wish may be for an hour.
    private static func rest(after error: StoreError) -> Duration {
        min(max(interval, .seconds(error.retryAfterSeconds ?? 0)), pauses.upperBound)
    }

    /// False once it is closed.
    private func pause(_ duration: Duration) -> Bool {
        state.wait(until: .after(duration), for: { $0.isClosed ? true : nil }) == nil
    }

    private func seekFirst() {
        var (isNews, rest) = (true, Self.pauses.lowerBound)
        while true {
            let outcome = seek()
            state.update { $0.outcome = $0.outcome ?? outcome }
            switch outcome {
            case .made: return
            case .away(let error):
                (isNews, rest) = (true, Self.pauses.lowerBound)
                guard pause(Self.rest(after: error)) else { return }
            case .refused(let error):
                if isNews { log.error("the origin cannot be used", metadata: ["error": "\(error)"]) }
                isNews = false
                guard pause(rest) else { return }
                rest = min(rest * 2, Self.pauses.upperBound)
            }
        }
    }

    /// What an attempt finds out counts for all: the store says when it went down and when it is back.
    private func keep() {
        var (rest, due) = (Self.interval, Deadline.after(Self.checkInterval))
        while pause(rest) {
            rest = Self.interval
            let (isDown, deadline) = (registry.store.availability.isDown, Deadline.after(Self.silence))
            guard isDown || due.hasPassed else { continue }
            do throws(StoreError) {
                try registry.store.check(isCancelled: { isDown && deadline.hasPassed })
                due = .after(Self.checkInterval)
            } catch {
                // The next question comes as soon as that: one that fails tells little.
                rest = Self.rest(after: error)
            }
        }
    }

    private func seek() -> Outcome {
        do throws(StoreError) {
            try registry.store.check()
        } catch {
            if error.isRetryable { return .away(error) }
            guard error.kind.isDenial else { return .refused(error) }
            // A public bucket may let everybody read and nobody list.
            log.warning("the origin cannot be listed: lists and deletes will fail", metadata: ["error": "\(error)"])
        }
        return probe()
    }

    /// A bucket that may only be read cannot be probed, and serves pulls all the same.
    private func probe() -> Outcome {
        do throws(RegistryError) {
            let found = try registry.probe()
            log.info(
                "probed the origin",
                metadata: [
                    "if-none-match": "\(found.ifAbsent)", "if-match": "\(found.ifMatch)",
                    "etag-is-content-hash": "\(found.etagIsContentHash)",
                ]
            )
        } catch {
            if case .store(let error) = error, error.isRetryable { return .away(error) }
            log.warning("the origin cannot be written", metadata: ["error": "\(error)"])
        }
        return .made
    }
}

/// Answers what is here at once. Whatever else waits until the first contact with the origin has settled how it is done.
struct ContactedHandler: RequestHandler {
    let handler: RegistryHandler
    let contact: OriginContact

    func handle(_ request: Request) -> Reply {
        if !contact.hasSettled, handler.needsOrigin(request) { contact.settle() }
        return handler.handle(request)
    }

    func answerAtOnce(_ request: Request) -> ReadyAnswer? { handler.answerAtOnce(request) }

    func refusal(of request: Request, status: Int, reason: String) -> Response {
        handler.refusal(of: request, status: status, reason: reason)
    }

    func ended(_ request: Request, _ end: ExchangeEnd) { handler.ended(request, end) }
}
