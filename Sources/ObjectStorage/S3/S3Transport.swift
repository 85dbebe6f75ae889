package import HTTPClient
internal import Hashing
internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// A request to a bucket, not yet signed.
package struct S3Request: Sendable {
    package var operation: StoreError.Operation
    package var method: String
    /// `nil`: the bucket.
    package var key: ObjectKey?
    package var query: [(name: String, value: String)] = []
    package var headers: [(name: String, value: String)] = []
    package var body = S3Payload.none
    /// How long the store may think about it, where the client's own limit is too short.
    package var stallSeconds: Int?
    /// Nobody waits for the answer any more.
    var isCancelled: @Sendable () -> Bool = { false }
    /// The region that it was signed for.
    var region: String?
    /// Shared by all copies: what judges an answer has another one than what was signed.
    fileprivate let secrets = RequestSecrets()

    package init(
        _ operation: StoreError.Operation,
        _ method: String,
        _ key: ObjectKey? = nil,
        query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = [],
        body: S3Payload = .none,
        stallSeconds: Int? = nil
    ) {
        self.operation = operation
        self.method = method
        self.key = key
        self.query = query
        self.headers = headers
        self.body = body
        self.stallSeconds = stallSeconds
    }
}

extension S3Request {
    var isSigned: Bool { !secrets.all.isEmpty }

    /// What a server has said, which may be what it was sent.
    func hidingSecrets(_ text: String) -> String { secrets.all.hidden(in: text) }
}

/// What a request was signed with last, and the signature: no message of a server may show them.
private final class RequestSecrets: Sendable {
    private let list = Mutex<[Secret]>([])

    var all: [Secret] { list.withLock { $0 } }

    func replace(with secrets: [Secret]) { list.withLock { $0 = secrets } }
}

/// A body with what is signed of it.
package struct S3Payload: Sendable {
    let body: Body
    /// The SHA-256 in hexadecimal, or `UNSIGNED-PAYLOAD`.
    let hash: String

    var isInMemory: Bool { if case .source = body { false } else { true } }

    static let unsigned = "UNSIGNED-PAYLOAD"

    package static let none = S3Payload(body: .none, hash: Digest(of: []).hex)

    package static func bytes(_ bytes: [UInt8]) -> S3Payload {
        S3Payload(body: .bytes(bytes), hash: Digest(of: bytes).hex)
    }
}

/// Signs, sends and repeats requests, and makes errors of what goes wrong.
package final class S3Transport: Sendable {
    /// What the store has told about itself.
    private struct Bearings {
        var endpoint: S3Endpoint
        /// The store's clock is so much ahead of this machine's.
        var clockOffsetSeconds: Int64 = 0
    }

    /// What is wrong on this side and can be set right.
    private enum Correction {
        case region, clock, credentials
    }

    /// What was set right for one request: each thing once, but the clock again where the store's `Date` has become another one.
    private struct Corrections {
        private var made: Set<Correction> = []
        private var date: WallTime?
        private var hasOtherDate = false

        mutating func add(_ correction: Correction, _ error: StoreError) -> Bool {
            defer { date = error.serverTime }
            if made.insert(correction).inserted { return true }
            guard correction == .clock, !hasOtherDate, let date, let now = error.serverTime else { return false }
            hasOtherDate = abs(now.seconds - date.seconds) > S3Limits.clockToleranceSeconds
            return hasOtherDate
        }
    }

    let configuration: S3Configuration
    let client: Client
    let time: any TimeSource
    let circuit: CircuitBreaker
    private let random: any RandomSource
    private let sleep: @Sendable (Duration) -> Void
    private let budget: RetryBudget
    private let bearings: Mutex<Bearings>
    /// On the monotonic clock: until then it is no news that the store throttles.
    private let throttlingIsKnownUntil = Atomic<UInt64>(0)

    init(
        configuration: S3Configuration,
        client: Client,
        time: any TimeSource,
        random: any RandomSource,
        sleep: @escaping @Sendable (Duration) -> Void
    ) {
        self.configuration = configuration
        self.client = client
        self.time = time
        self.random = random
        self.sleep = sleep
        circuit = CircuitBreaker(configuration.circuit, time: time, random: random, report: configuration.report)
        budget = RetryBudget(configuration.retries, time: time)
        bearings = Mutex(Bearings(endpoint: configuration.endpoint))
    }

    /// Where requests go now.
    var endpoint: S3Endpoint { bearings.withLock { $0.endpoint } }

    var clockOffsetSeconds: Int64 { bearings.withLock { $0.clockOffsetSeconds } }

    var health: StoreHealth {
        var health = StoreHealth()
        circuit.fill(&health)
        budget.fill(&health)
        return health
    }

    /// Sends `request`, again if that may help, and returns an answer with its body, if its status is 2xx or in `accepted`.
    package func exchange(
        _ request: S3Request,
        accepted: [Int] = [],
        bodyLimitBytes: Int = S3Limits.errorBodyBytes
    ) throws(StoreError) -> (response: Response, body: [UInt8]) {
        try retrying { () throws(StoreError) in
            try once(request, accepted: accepted, bodyLimitBytes: bodyLimitBytes)
        }
    }

    /// ``exchange(_:accepted:bodyLimitBytes:)`` in a single attempt.
    func once(
        _ request: S3Request,
        accepted: [Int] = [],
        bodyLimitBytes: Int = S3Limits.errorBodyBytes
    ) throws(StoreError) -> (response: Response, body: [UInt8]) {
        var request = request
        let attempt = try circuit.admit(request, in: endpoint.description)
        var signed = try sign(&request)
        let limit = configuration.limit(bytes: request.body.body.length) + .seconds(request.stallSeconds ?? 0)
        signed.totalTimeoutMilliseconds = Int(limit.components.seconds) * 1_000
        let answer: (response: Response, body: [UInt8])
        do throws(TransferError) {
            let isCancelled = request.isCancelled
            answer = try client.perform(signed, bodyLimitBytes: bodyLimitBytes) {
                attempt.isHopeless() || isCancelled()
            }
        } catch {
            throw attempt.ended(countedFailure(of: request, error))
        }
        configuration.requested(request.operation, "\(answer.response.status)")
        let status = answer.response.status
        guard (200..<300).contains(status) && !isErrorDocument(answer.body) || accepted.contains(status) else {
            throw attempt.ended(failure(of: request, answer.response, answer.body))
        }
        attempt.answered()
        return answer
    }

    /// Counts a request that did not come to its end, unless nothing was begun.
    func countedFailure(of request: S3Request, _ error: TransferError) -> StoreError {
        let failure = failure(of: request, error)
        return error.wasTried ? counted(failure, request) : failure
    }

    /// Counts a request that ended in this error.
    func counted(_ error: StoreError, _ request: S3Request) -> StoreError {
        configuration.requested(request.operation, error.outcome)
        return error
    }

    /// Some errors come with status 200, where the store had begun to answer before it knew.
    private func isErrorDocument(_ body: [UInt8]) -> Bool {
        guard (1...S3Limits.errorBodyBytes).contains(body.count) else { return false }
        // What is no document is judged by whoever expects one.
        return (try? XMLReader.read(body))?.name == "Error"
    }

    /// An answer's body, which must be XML.
    func document(
        _ body: [UInt8],
        _ request: S3Request,
        _ response: Response
    ) throws(StoreError) -> XMLElement {
        do throws(XMLFailure) {
            return try XMLReader.read(body)
        } catch {
            // What was cut or changed on the way may come whole the next time.
            throw failure(of: request, .invalidResponse, "\(error)", response, isRetryable: true)
        }
    }

    /// Calls `attempt` until it succeeds, fails for good or has been called often enough. What one attempt may have done, the
    /// error of a later one does not deny.
    func retrying<Result>(_ attempt: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        var course = RetryCourse(configuration.retries)
        var corrections = Corrections()
        var earlier: StoreError?
        while true {
            do throws(StoreError) {
                let result = try attempt()
                budget.succeeded()
                return result
            } catch {
                if case .unavailable = error.kind, let earlier { throw error.mayBeDone ? earlier.afterChange : earlier }
                let error = earlier?.mayBeDone == true ? error.afterChange : error
                if let correction = correction(for: error), corrections.add(correction, error) { continue }
                guard course.mayGoOn(after: error), !circuit.isOpen, budget.take() else {
                    if case .throttled = error.kind { tellThrottling(error) }
                    throw error
                }
                earlier = error
                sleep(configuration.retries.pause(after: course.count, error, random))
            }
        }
    }

    private func tellThrottling(_ error: StoreError) {
        let now = time.monotonicNanoseconds()
        let known = throttlingIsKnownUntil.load(ordering: .relaxed)
        let next = now + S3Limits.throttlingNewsNanoseconds
        guard now >= known,
            throttlingIsKnownUntil.compareExchange(expected: known, desired: next, ordering: .relaxed).exchanged
        else { return }
        configuration.report(.throttles(error))
    }

    /// The request for the wire. Signed anew for each attempt, because a signature ages.
    func sign(_ request: inout S3Request) throws(StoreError) -> Request {
        let (endpoint, offset) = bearings.withLock { ($0.endpoint, $0.clockOffsetSeconds) }
        request.region = endpoint.region
        let path = endpoint.path(of: request.key)
        let query = RequestSigner.canonicalQuery(request.query)
        var headers = request.headers
        if let credentials = try configuration.credentials.current() {
            var now = time.wallTime()
            now.seconds += offset
            headers += [("x-amz-date", now.iso8601Basic), ("x-amz-content-sha256", request.body.hash)]
            if let token = credentials.sessionToken { headers.append(("x-amz-security-token", token.reveal())) }
            let input = RequestSigner.Input(
                method: request.method,
                path: path,
                query: query,
                headers: headers + [("host", endpoint.host)],
                payloadHash: request.body.hash
            )
            let signer = RequestSigner(region: endpoint.region)
            let authorization = signer.authorization(input, at: now, with: credentials)
            headers.append(("Authorization", authorization))
            request.secrets.replace(with: credentials.secrets(in: authorization))
        }
        // Not signed: whoever is between may make a span of its own of it.
        if let trace = TraceContext.current {
            headers.append(("traceparent", trace.parent))
            if !trace.state.isEmpty { headers.append(("tracestate", trace.state)) }
        }
        var signed = Request(
            request.method,
            endpoint.url(path: path, query: query),
            headers: headers,
            body: request.body.body
        )
        signed.stallSeconds = request.stallSeconds
        return signed
    }
}

// MARK: - Setting right what is wrong here

extension S3Transport {
    /// What has been set right after this error, so that the same request may succeed at once.
    private func correction(for error: StoreError) -> Correction? {
        switch error.kind {
        case .wrongRegion(let region?): follow(to: region) ? .region : nil
        case .clockSkew: setClock(by: error) ? .clock : nil
        case .badCredentials: configuration.credentials.renew(error.code ?? "") ? .credentials : nil
        default: nil
        }
    }

    private func follow(to region: String) -> Bool {
        let (from, to) = bearings.withLock { bearings in
            let from = bearings.endpoint
            // Another request may have been faster.
            guard from.region != region else { return (from, from) as (S3Endpoint, S3Endpoint?) }
            let to = from.moved(to: region)
            if let to { bearings.endpoint = to }
            return (from, to)
        }
        guard let to else { return false }
        if to != from { configuration.report(.moved(from: from, to: to)) }
        return true
    }

    private func setClock(by error: StoreError) -> Bool {
        guard let serverTime = error.serverTime else { return false }
        let difference = serverTime.seconds - time.wallTime().seconds
        let offset = abs(difference) > S3Limits.clockToleranceSeconds ? difference : 0
        let isNews = bearings.withLock { bearings in
            // Within what the network takes, it is the correction that another request has made.
            guard abs(offset - bearings.clockOffsetSeconds) > S3Limits.clockToleranceSeconds else { return false }
            bearings.clockOffsetSeconds = offset
            return true
        }
        if isNews { configuration.report(.clockCorrected(offsetSeconds: offset)) }
        return true
    }
}

extension TransferError {
    /// At least a connection was wanted.
    fileprivate var wasTried: Bool {
        switch kind {
        case .invalid, .closed, .cancelled, .timeout(.admission): reachedServer != false
        default: true
        }
    }
}
