internal import CMicroHTTPD
internal import System
internal import Threading

/// All exchanges of a server: who answers them, and how many there are.
final class Exchanges: Sendable {
    private struct State {
        var inFlight = 0
        var isDraining = false
    }

    let handler: any RequestHandler
    let headerLimitBytes: Int
    private let state = Monitor(State())

    init(handler: any RequestHandler, headerLimitBytes: Int) {
        self.handler = handler
        self.headerLimitBytes = headerLimitBytes
    }

    var inFlight: Int { state.withLock { $0.inFlight } }
    var isDraining: Bool { state.withLock { $0.isDraining } }

    func began() { state.withLock { $0.inFlight += 1 } }

    func ended() {
        state.update { $0.inFlight -= 1 }
    }

    /// From now on answers close their connections. False when some are still under way at the deadline.
    func drain(_ deadline: Deadline) -> Bool {
        state.update { $0.isDraining = true }
        return state.wait(until: deadline) { $0.inFlight == 0 ? true : nil } ?? false
    }
}

/// One request and its answer, from the request line until libmicrohttpd says that it is over.
final class Exchange {
    private enum Phase {
        case headersPending
        /// No body; answered when libmicrohttpd comes back, since an answer at its first call closes the connection.
        case ready(Request)
        case receiving(any BodyReceiver)
        case answered
    }

    private let exchanges: Exchanges
    private let target: String
    private let startedAt = SystemTime().monotonicNanoseconds()
    private var phase = Phase.headersPending
    private var request: Request?
    private var status = 499
    private var length: Int64 = 0
    /// Set where the body's length is not announced.
    var stream: Stream?

    init(_ exchanges: Exchanges, target: String) {
        self.exchanges = exchanges
        self.target = target
        exchanges.began()
    }

    /// Its headers were not looked at yet.
    var needsBegin: Bool {
        if case .headersPending = phase { true } else { false }
    }

    /// The header section is in. A response is an answer that ends the connection.
    func begin(_ connection: OpaquePointer, method: String, version: String) -> Response? {
        let request = Request(connection, method: method, target: target)
        self.request = request
        do throws(Framing.Refusal) {
            let body = try Framing.check(request, version: version, headerLimitBytes: exchanges.headerLimitBytes)
            request.contentLength = body.contentLength
            request.hasBody = body.isChunked || (body.contentLength ?? 0) > 0
        } catch {
            phase = .answered
            return exchanges.handler.refusal(status: 400, reason: error.reason)
        }
        guard request.hasBody else {
            phase = .ready(request)
            return nil
        }
        switch exchanges.handler.handle(request) {
        case .respond(let response):
            phase = .answered
            return response
        case .receive(let receiver):
            phase = .receiving(receiver)
            return nil
        }
    }

    func receive(_ bytes: Span<UInt8>) {
        if case .receiving(let receiver) = phase { receiver.receive(bytes) }
    }

    /// The request is complete.
    func finish() -> Response {
        defer { phase = .answered }
        switch phase {
        case .ready(let request):
            switch exchanges.handler.handle(request) {
            case .respond(let response): return response
            case .receive(let receiver): return receiver.finish()
            }
        case .receiving(let receiver):
            return receiver.finish()
        case .headersPending, .answered:
            preconditionFailure("a request is answered once, after its headers")
        }
    }

    /// This answer is on its way.
    func isAnswered(_ response: Response) {
        status = response.status
        length =
            switch response.body {
            case .bytes(let bytes): Int64(bytes.count)
            case .file(_, _, let length), .stream(let length, _): length
            case .empty, .withheld, .chunked: 0
            }
    }

    /// libmicrohttpd is through with the request, whatever became of it.
    func end(isComplete: Bool) {
        if case .receiving(let receiver) = phase { receiver.abandon() }
        phase = .answered
        if let request {
            let end = ExchangeEnd(
                status: status,
                bodyBytes: stream?.produced ?? length,
                nanoseconds: SystemTime().monotonicNanoseconds() - startedAt,
                isComplete: isComplete && status != 499
            )
            exchanges.handler.ended(request, end)
        }
        exchanges.ended()
    }
}
