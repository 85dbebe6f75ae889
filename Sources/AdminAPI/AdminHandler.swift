public import HTTPServer
public import Logging
internal import Synchronization
internal import System
internal import Threading

/// Answers on the admin socket: `POST /cache/<operation>` with a ``CacheRequest`` as JSON. The answer is ``CacheEvent``s, a line each, as they
/// happen; a client that goes away ends the work.
public final class AdminHandler: RequestHandler {
    /// Requests at work at once.
    private static let jobLimit = 16
    /// Of a request's body: some 50,000 digests.
    private static let requestLimitBytes = 4 << 20
    private static let prefix = "/cache/"

    private let administration: CacheAdministration
    private let health: HealthHandler?
    private let log: Logger
    private let jobs = Monitor(0)
    private let isClosing = Atomic(false)

    /// - Parameter health: answers what monitoring asks, here too.
    public init(_ administration: CacheAdministration, health: HealthHandler? = nil, log: Logger) {
        self.administration = administration
        self.health = health
        self.log = log
    }

    /// Ends what is under way; nothing begins any more. False when something has not ended at the limit.
    @discardableResult
    public func close(within limit: Duration = .seconds(30)) -> Bool {
        isClosing.store(true, ordering: .relaxed)
        return waitUntilIdle(within: limit)
    }

    /// Waits until nothing is under way; false at the limit.
    public func waitUntilIdle(within limit: Duration) -> Bool {
        jobs.wait(until: .after(limit)) { $0 == 0 ? true : nil } ?? false
    }

    public func handle(_ request: Request) -> Reply {
        if let response = health?.answer(request) { return .respond(response) }
        guard request.path.hasPrefix(Self.prefix),
            let operation = CacheRequest.Operation(rawValue: String(request.path.dropFirst(Self.prefix.count)))
        else { return .respond(refusal(status: 404, reason: "no such endpoint: POST /cache/<operation>")) }
        guard request.method == "POST" else {
            return .respond(refusal(status: 405, reason: "\(request.method) is not supported here: use POST"))
        }
        return .receive(CollectedBody(limitBytes: Self.requestLimitBytes) { [self] body in answer(operation, body) })
    }

    public func refusal(of request: Request, status: Int, reason: String) -> Response {
        refusal(status: status, reason: reason)
    }

    /// What monitoring asks counts here, too; work on the cache has its own line in the log.
    public func ended(_ request: Request, _ end: ExchangeEnd) {
        if request.note != 0 { health?.ended(request, end) }
    }

    private func refusal(status: Int, reason: String) -> Response {
        let failure = CacheFailure(status == 503 ? .unavailable : .invalid, reason)
        return Response(
            status: status,
            headers: [("Content-Type", "application/x-ndjson")],
            body: .bytes(CacheEvent.error(failure).line)
        )
    }

    private func answer(_ operation: CacheRequest.Operation, _ body: [UInt8]?) -> Response {
        guard let body else {
            return refusal(status: 413, reason: "a request has at most \(Self.requestLimitBytes) bytes")
        }
        let request: ParsedRequest
        do throws(CacheFailure) {
            var raw = body.isEmpty ? CacheRequest(operation) : try CacheRequest(json: body)
            raw.operation = operation
            request = try ParsedRequest(raw)
        } catch {
            return refusal(status: 400, reason: error.message)
        }
        let isAdmitted = jobs.withLock { jobs in
            guard jobs < Self.jobLimit, !isClosing.load(ordering: .relaxed) else { return false }
            jobs += 1
            return true
        }
        guard isAdmitted else {
            return refusal(
                status: 503,
                reason: "too many requests are at work, or the server is stopping; try again later"
            )
        }
        log.info(
            "cache request",
            metadata: ["operation": "\(operation.rawValue)", "targets": "\(request.targets.count)"]
        )
        let pipe = EventPipe()
        spawnThread(name: "admin") { [self] in
            work(request, pipe)
            jobs.update { $0 -= 1 }
        }
        return Response(
            status: 200,
            headers: [("Content-Type", "application/x-ndjson")],
            body: .chunked(EventBody(pipe))
        )
    }

    private func work(_ request: ParsedRequest, _ pipe: EventPipe) {
        do throws(CacheFailure) {
            try administration.run(request) { event in
                !isClosing.load(ordering: .relaxed) && pipe.put(event.line)
            }
        } catch {
            let isStopping = error.kind == .cancelled && isClosing.load(ordering: .relaxed)
            let failure = isStopping ? CacheFailure(.unavailable, "the server is stopping") : error
            _ = pipe.put(CacheEvent.error(failure).line)
        }
        pipe.finish()
    }
}
