public import HTTPServer
internal import Metrics
internal import RegistryAPI

/// Answers what monitoring asks: `/metrics`, `/healthz` and `/readyz`. It changes nothing.
public struct HealthHandler: RequestHandler {
    private let readiness: Readiness
    private let metrics: NodeMetrics

    public init(readiness: Readiness, metrics: NodeMetrics) {
        self.readiness = readiness
        self.metrics = metrics
    }

    public func handle(_ request: Request) -> Reply {
        .respond(
            answer(request) ?? refusal(status: 404, reason: "no such endpoint: see /metrics, /healthz and /readyz")
        )
    }

    public func refusal(of request: Request, status: Int, reason: String) -> Response {
        refusal(status: status, reason: reason)
    }

    public func ended(_ request: Request, _ end: ExchangeEnd) { metrics.ended(request, end) }

    private func refusal(status: Int, reason: String) -> Response { text(status, reason + "\n") }

    /// `nil` for all other paths.
    func answer(_ request: Request) -> Response? {
        // The longest of them has eight bytes; most requests are through here.
        guard request.path.utf8.count <= 8 else { return nil }
        let (label, response): (RouteLabel, () -> Response)
        switch request.path {
        case "/metrics": (label, response) = (.metrics, { text(200, metrics.page(), Exposition.contentType) })
        case "/healthz": (label, response) = (.healthz, { text(200, "ok\n") })
        case "/readyz": (label, response) = (.readyz, { ready(without: request.parameter("exclude")) })
        default: return nil
        }
        request.note = RequestNote(label).number
        guard request.method == "GET" || request.method == "HEAD" else {
            var response = refusal(status: 405, reason: "\(request.method) is not supported here: use GET")
            response.headers.append(("Allow", "GET, HEAD"))
            return response
        }
        var made = response()
        if request.method == "HEAD", case .bytes(let bytes) = made.body {
            made.body = .withheld(length: Int64(bytes.count))
        }
        return made
    }

    private func ready(without excluded: String?) -> Response {
        let checks = readiness.checks().filter { $0.name != excluded }
        let isReady = !checks.contains { $0.condition.isFailed }
        let lines = checks.map { "\"\($0.name)\":\(jsonString($0.condition.text))" }
        return text(
            isReady ? 200 : 503,
            "{\"ready\":\(isReady),\"checks\":{\(lines.joined(separator: ","))}}\n",
            "application/json"
        )
    }

    private func text(_ status: Int, _ body: String, _ type: String = "text/plain; charset=utf-8") -> Response {
        Response(
            status: status,
            headers: [("Content-Type", type), ("Cache-Control", "no-store")],
            body: .bytes(Array(body.utf8))
        )
    }
}

extension Readiness.Condition {
    fileprivate var text: String {
        switch self {
        case .well: "ok"
        case .degraded(let reason): "degraded: \(reason)"
        case .failed(let reason): reason
        }
    }
}

/// The registry with what monitoring asks on the same address.
public struct MonitoredHandler: RequestHandler {
    private let registry: any RequestHandler
    private let health: HealthHandler

    public init(_ registry: any RequestHandler, _ health: HealthHandler) {
        self.registry = registry
        self.health = health
    }

    public func handle(_ request: Request) -> Reply {
        if let response = health.answer(request) { return .respond(response) }
        return registry.handle(request)
    }

    public func answerAtOnce(_ request: Request) -> ReadyAnswer? { registry.answerAtOnce(request) }

    public func refusal(of request: Request, status: Int, reason: String) -> Response {
        registry.refusal(of: request, status: status, reason: reason)
    }

    public func ended(_ request: Request, _ end: ExchangeEnd) { registry.ended(request, end) }
}
