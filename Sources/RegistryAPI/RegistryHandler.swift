public import EdgeCache
public import HTTPServer
public import Logging
internal import OCI
internal import Threading

/// Answers the requests of the OCI distribution protocol from an ``EdgeCache``.
public struct RegistryHandler: RequestHandler {
    public struct Configuration: Sendable {
        /// Manifests larger than this are refused with 413.
        public var manifestLimitBytes = 16 << 20

        /// Without it, deletes are refused with 405.
        public var allowsDeletes = true

        public init() {}
    }

    let edge: EdgeCache
    let configuration: Configuration
    let observer: RequestObserver
    let log: Logger
    private let preparedAnswers = (0..<PreparedAnswers.tables).map { _ in PreparedAnswers() }

    public init(
        _ edge: EdgeCache,
        configuration: Configuration = Configuration(),
        observer: RequestObserver = RequestObserver(),
        log: Logger
    ) {
        self.edge = edge
        self.configuration = configuration
        self.observer = observer
        self.log = log
    }

    /// Those of the request's loop.
    func preparedAnswers(for request: Request) -> PreparedAnswers {
        preparedAnswers[request.loop % PreparedAnswers.tables]
    }

    public func handle(_ request: Request) -> Reply {
        observer.began(request)
        guard let trace = TraceContext(of: request) else { return named(request.id, nil, reply(to: request)) }
        return TraceContext.$current.withValue(trace) { named(request.id, trace, reply(to: request)) }
    }

    /// False for what is answered from here, or is no request of the protocol.
    public func needsOrigin(_ request: Request) -> Bool {
        guard let route = try? Route(path: request.path) else { return false }
        guard request.method == "GET" || request.method == "HEAD" else { return true }
        switch route {
        case .support: return false
        case .blob(_, let digest): return !edge.holds(digest)
        default: return true
        }
    }

    public func ended(_ request: Request, _ end: ExchangeEnd) {
        observer.ended(request, end)
        guard end.isBroken else { return }
        // What is no route was no blob either.
        if case .blob(_, let digest)? = try? Route(path: request.path) { edge.answerBroke(digest) }
    }

    private func reply(to request: Request) -> Reply {
        do throws(APIError) {
            return try route(request)
        } catch {
            return refuse(request, error)
        }
    }

    public func refusal(of request: Request, status: Int, reason: String) -> Response {
        observer.began(request)
        var error = APIError(status: status, code: .unsupported, message: reason)
        if status == 503 {
            error = APIError(status: 503, code: .tooManyRequests, message: reason, headers: [("Retry-After", "1")])
        }
        return finished(error.response).named(request.id)
    }

    private func route(_ request: Request) throws(APIError) -> Reply {
        let route: Route
        do throws(Route.Failure) {
            route = try Route(path: request.path)
        } catch {
            switch error {
            case .unknownRoute:
                throw APIError(
                    status: 404,
                    code: .nameUnknown,
                    message: "no such endpoint; see the endpoints below /v2/"
                )
            case .invalid(let name):
                throw invalidName(name, request)
            }
        }
        request.note = RequestNote(route.label).number
        if request.method == "DELETE", route.isContent, !configuration.allowsDeletes {
            throw APIError(
                status: 405,
                code: .unsupported,
                message: "deletes are switched off here",
                headers: [("Allow", route.methods.replacing(", DELETE", with: ""))]
            )
        }
        let isRead = request.method == "GET" || request.method == "HEAD"
        switch (route, request.method) {
        case (.support, _) where isRead: return respond(Response(json: "{}"))
        case (.catalog, _) where isRead: return respond(try catalog(request))
        case (.tags(let name), _) where isRead: return respond(try tags(name, request))
        case (.referrers(let name, let digest), _) where isRead:
            return respond(try referrers(name, digest, request))
        case (.manifest(let name, let reference), _) where isRead:
            return respond(try manifest(name, reference, request))
        case (.manifest(let name, let reference), "PUT"): return try putManifest(name, reference, request)
        case (.manifest(let name, let reference), "DELETE"): return respond(try deleteManifest(name, reference))
        case (.blob(_, let digest), _) where isRead: return respond(try blob(digest, request))
        case (.blob(_, let digest), "DELETE"): return respond(try deleteBlob(digest))
        case (.uploads(let name), "POST"): return try postUpload(name, request)
        case (.upload(let name, let id), "GET"): return respond(try uploadStatus(name, id))
        case (.upload(let name, let id), "PATCH"): return try patchUpload(name, id, request)
        case (.upload(let name, let id), "PUT"): return try putUpload(name, id, request)
        case (.upload(let name, let id), "DELETE"): return respond(try cancelUpload(name, id))
        default:
            throw APIError(
                status: 405,
                code: .unsupported,
                message: "\(request.method) is not supported here",
                headers: [("Allow", route.methods)]
            )
        }
    }

    /// A tag that cannot exist is unknown to a reader, and invalid for a writer.
    private func invalidName(_ name: NameError, _ request: Request) -> APIError {
        if name.kind == .tag, request.method == "PUT" {
            return APIError(status: 400, code: .manifestInvalid, message: name.description)
        }
        return APIError(name)
    }
}

// MARK: - Answers

extension RegistryHandler {
    /// The answer with the request's name, wherever it is made.
    private func named(_ id: String, _ trace: TraceContext?, _ reply: Reply) -> Reply {
        guard !id.isEmpty || trace != nil else { return reply }
        switch reply {
        case .respond(let response): return .respond(response.named(id))
        case .receive(let receiver): return .receive(NamedBody(receiver, id, trace))
        }
    }

    func respond(_ response: Response) -> Reply { .respond(finished(response)) }

    /// What every answer carries.
    func finished(_ response: Response) -> Response {
        var response = response
        response.headers.append(("Docker-Distribution-API-Version", "registry/2.0"))
        return response
    }

    func failed(_ error: APIError, _ what: String) -> Response {
        if error.status >= 500 {
            let reason = error.reason ?? error.message
            log.log(
                level: error.isKnown ? .debug : .error,
                "request failed",
                metadata: ["request": "\(what)", "status": "\(error.status)", "error": "\(reason)"]
            )
        }
        return finished(error.response)
    }

    /// Refuses a request. A body that is small enough is read to its end first, so that the client sees the answer and keeps its connection.
    private func refuse(_ request: Request, _ error: APIError) -> Reply {
        let response = failed(error, "\(request.method) \(request.path)")
        guard let length = request.contentLength, length > 0, length <= DiscardedBody.limitBytes,
            !request.expectsContinue
        else { return .respond(response) }
        return .receive(DiscardedBody(then: response))
    }

    func edge<Answer>(_ body: () throws(EdgeError) -> Answer) throws(APIError) -> Answer {
        do throws(EdgeError) {
            return try body()
        } catch {
            throw APIError(error)
        }
    }
}

extension Response {
    /// The answer to a request that has a name.
    func named(_ id: String) -> Response {
        guard !id.isEmpty else { return self }
        var response = self
        response.headers.append(("X-Request-Id", id))
        return response
    }

    init(json: String, status: Int = 200, headers: [(name: String, value: String)] = []) {
        self.init(
            status: status,
            headers: headers + [("Content-Type", "application/json")],
            body: .bytes(Array(json.utf8))
        )
    }
}

/// Takes a body in for a request that has a name or belongs to a trace.
private final class NamedBody: BodyReceiver {
    private let receiver: any BodyReceiver
    private let id: String
    private let trace: TraceContext?

    init(_ receiver: any BodyReceiver, _ id: String, _ trace: TraceContext?) {
        self.receiver = receiver
        self.id = id
        self.trace = trace
    }

    func receive(_ bytes: Span<UInt8>) { TraceContext.$current.withValue(trace) { receiver.receive(bytes) } }
    func finish() -> Response { TraceContext.$current.withValue(trace) { receiver.finish().named(id) } }
    func abandon() { TraceContext.$current.withValue(trace) { receiver.abandon() } }
}

/// Reads a refused body to its end.
private final class DiscardedBody: BodyReceiver {
    /// Above this it is cheaper to close the connection.
    static let limitBytes: Int64 = 32 << 20

    private let response: Response

    init(then response: Response) { self.response = response }

    func receive(_ bytes: Span<UInt8>) {}
    func finish() -> Response { response }
    func abandon() {}
}
