import HTTPServer
import Hashing
import OCI
import Synchronization

/// A registry in memory that misbehaves as it is told.
final class FakeRegistry: Sendable {
    enum Access: Sendable {
        case open
        case basic(String)
        /// A token from a realm of its own, given for these credentials; `nil` to anybody.
        case token(for: String?)
    }

    struct Behaviour: Sendable {
        var access = Access.open
        var refusesDeletes = false
        /// A session that has taken bytes is not deleted at its old place: 404 with `BLOB_UPLOAD_INVALID`, as docker-registry answers.
        var sessionsMove = false
        /// Such a session tells its new place.
        var sessionsTellWhere = false
        /// Of the session with this number; `nil` leaves the header out.
        var sessionLocation: @Sendable (Int) -> String? = { "/v2/x/blobs/uploads/\($0)?state=1" }
        /// The version check is answered with a redirect to this place.
        var rootRedirect: String?
        var ignoresRanges = false
        /// Of each part of a blob, whatever bytes come; empty leaves the header out.
        var contentRange: String?
        /// The n-th blob GET from the first on comes with its last byte changed.
        var damagedPull: Int?
        /// The n-th blob GET from the first on comes without its last byte.
        var shortPull: Int?
        /// Pulls are answered with a redirect to this place.
        var pullRedirect: String?
        /// The status of every blob GET.
        var pullStatus: Int?
        /// Of so many blob GETs, one is answered with 500.
        var failsOneOf: Int?
        /// The status of every blob PUT.
        var pushStatus: Int?
        /// Each blob PUT is answered with a redirect to itself first, once its body has come.
        var redirectsPushes = false
        /// Blobs that are longer are answered with 413.
        var blobLimit: Int?
        /// Of a method, so many requests for content are answered with a status first: 429 with `Retry-After: 0`.
        var firstAnswers: [String: (count: Int, status: Int)] = [:]
        /// Of each token of the realm; `nil` is any number.
        var tokenUses: Int?
        /// Called when the whole body of a blob is there, before it is kept.
        var onPush: (@Sendable () -> Void)?
        /// Called with each request.
        var onRequest: (@Sendable (String) -> Void)?
    }

    struct Contents: Sendable {
        var blobs: [String: [UInt8]] = [:]
        var manifests: [String: [UInt8]] = [:]
        /// Open uploads, with how much they have taken.
        var sessions: [String: Int] = [:]
        /// `GET /v2/…` and the Authorization header, in the order of arrival.
        var requests: [(line: String, authorization: String?)] = []
        var pulls = 0
        /// Tokens with the uses that are left.
        var tokens: [String: Int] = [:]
        var answered: [String: Int] = [:]
    }

    static let token = "token-of-the-realm"

    private let handler: Handler
    private let server: Server

    init(_ behaviour: Behaviour = Behaviour()) throws {
        handler = Handler(behaviour)
        server = try Server(ServerConfiguration(host: "127.0.0.1", port: 0), handler: handler)
        handler.port.store(Int(server.port), ordering: .relaxed)
    }

    deinit { _ = server.stop(drain: .seconds(10)) }

    var url: String { "http://127.0.0.1:\(server.port)" }
    var contents: Contents { handler.contents.withLock { $0 } }
    var isEmpty: Bool { contents.blobs.isEmpty && contents.manifests.isEmpty && contents.sessions.isEmpty }
    func add(blob: [UInt8], digest: String) { handler.contents.withLock { $0.blobs[digest] = blob } }
}

private final class Handler: RequestHandler {
    let behaviour: FakeRegistry.Behaviour
    let contents = Mutex(FakeRegistry.Contents())
    let port = Atomic<Int>(0)

    init(_ behaviour: FakeRegistry.Behaviour) { self.behaviour = behaviour }

    func refusal(of request: Request, status: Int, reason: String) -> Response { Response(status: status) }

    func handle(_ request: Request) -> Reply {
        let line = "\(request.method) \(request.path)"
        let authorization = request.header("Authorization")
        let number = contents.withLock { contents in
            contents.requests.append((line, authorization))
            return contents.requests.count
        }
        behaviour.onRequest?(line)
        if request.path == "/v2/", let place = behaviour.rootRedirect {
            return .respond(Response(status: 301, headers: [("Location", place)]))
        }
        if request.path == "/realm" { return .respond(token(request, authorization)) }
        if let challenge = challenge(authorization) {
            return .respond(Response(status: 401, headers: [("WWW-Authenticate", challenge)]))
        }
        if let first = firstAnswer(request) { return .respond(first) }
        let name = String(request.path.split(separator: "/").last ?? "")
        let isManifest = request.path.contains("/manifests/")
        switch request.method {
        case "GET" where request.path == "/v2/": return .respond(Response(status: 200))
        case "POST": return .respond(openSession(number))
        case "GET" where request.path.contains("/uploads/"): return .respond(session(name))
        case "DELETE" where request.path.contains("/uploads/"): return .respond(endSession(name, request))
        case "PUT" where !isManifest && behaviour.redirectsPushes && request.parameter("again") == nil:
            let again = "\(request.path)?again=1&digest=\(request.parameter("digest") ?? "")"
            return .receive(Receiver { _ in Response(status: 307, headers: [("Location", again)]) })
        case "PUT" where !isManifest && behaviour.pushStatus != nil:
            return .receive(
                Receiver { [self] body in
                    contents.withLock { $0.sessions[name]? += body.count }
                    return Response(status: behaviour.pushStatus ?? 0)
                }
            )
        case "PUT":
            return .receive(Receiver { [self] body in keep(body, name, isManifest, request.parameter("digest")) })
        case "HEAD", "GET": return .respond(pull(name, isManifest, request))
        case "DELETE": return .respond(delete(name, isManifest))
        default: return .respond(Response(status: 405))
        }
    }

    private func openSession(_ number: Int) -> Response {
        contents.withLock { $0.sessions[String(number)] = 0 }
        return Response(status: 202, headers: behaviour.sessionLocation(number).map { [("Location", $0)] } ?? [])
    }

    private func session(_ name: String) -> Response {
        guard behaviour.sessionsTellWhere, contents.withLock({ $0.sessions[name] }) != nil else {
            return error(404, "BLOB_UPLOAD_INVALID")
        }
        return Response(status: 204, headers: [("Location", "\(name)?state=2")])
    }

    private func endSession(_ name: String, _ request: Request) -> Response {
        guard !behaviour.refusesDeletes else { return Response(status: 405) }
        return contents.withLock { contents in
            guard let taken = contents.sessions[name] else { return error(404, "BLOB_UPLOAD_UNKNOWN") }
            if behaviour.sessionsMove, taken > 0, request.parameter("state") != "2" {
                return error(404, "BLOB_UPLOAD_INVALID")
            }
            contents.sessions[name] = nil
            return Response(status: 204)
        }
    }

    private func error(_ status: Int, _ code: String) -> Response {
        Response(status: status, body: .bytes(Array("{\"errors\":[{\"code\":\"\(code)\"}]}".utf8)))
    }

    private func firstAnswer(_ request: Request) -> Response? {
        guard request.path != "/v2/", let first = behaviour.firstAnswers[request.method] else { return nil }
        let number = contents.withLock { contents in
            contents.answered[request.method, default: 0] += 1
            return contents.answered[request.method, default: 0]
        }
        guard number <= first.count else { return nil }
        return Response(status: first.status, headers: first.status == 429 ? [("Retry-After", "0")] : [])
    }

    private func challenge(_ authorization: String?) -> String? {
        switch behaviour.access {
        case .open: return nil
        case .basic(let expected): return authorization == expected ? nil : "Basic realm=\"here\""
        case .token:
            if authorization == "Bearer \(FakeRegistry.token)" || isUseLeft(of: authorization) { return nil }
            let realm = "http://127.0.0.1:\(port.load(ordering: .relaxed))/realm"
            return "Bearer realm=\"\(realm)\",service=\"a b\",scope=\"repository:x:pull,push\""
        }
    }

    private func isUseLeft(of authorization: String?) -> Bool {
        contents.withLock { contents in
            guard let authorization, let left = contents.tokens[authorization], left > 0 else { return false }
            contents.tokens[authorization] = left - 1
            return true
        }
    }

    private func token(_ request: Request, _ authorization: String?) -> Response {
        guard case .token(let expected) = behaviour.access, expected == nil || authorization == expected,
            request.parameter("service") == "a b", request.parameter("scope") == "repository:x:pull,push"
        else { return Response(status: 403) }
        let token = contents.withLock { contents in
            guard let uses = behaviour.tokenUses else { return FakeRegistry.token }
            let token = "token-\(contents.tokens.count)"
            contents.tokens["Bearer \(token)"] = uses
            return token
        }
        return Response(status: 200, body: .bytes(Array("{\"token\":\"\(token)\"}".utf8)))
    }

    private func keep(_ body: [UInt8], _ name: String, _ isManifest: Bool, _ digest: String?) -> Response {
        if let limit = behaviour.blobLimit, body.count > limit { return Response(status: 413) }
        let actual = Digest(of: body).description
        if !isManifest { behaviour.onPush?() }
        guard isManifest || digest == actual else { return Response(status: 400) }
        contents.withLock { contents in
            if isManifest {
                contents.manifests[name] = body
                contents.manifests[actual] = body
            } else {
                contents.blobs[actual] = body
                contents.sessions[name] = nil
            }
        }
        return Response(status: 201, headers: [("Location", "/v2/x/blobs/\(actual)")])
    }

    private func pull(_ name: String, _ isManifest: Bool, _ request: Request) -> Response {
        if let place = behaviour.pullRedirect {
            return Response(status: 307, headers: [("Location", place + request.path)])
        }
        return isManifest ? manifest(name) : blob(name, request)
    }

    private func manifest(_ name: String) -> Response {
        guard let bytes = contents.withLock({ $0.manifests[name] }) else { return Response(status: 404) }
        return Response(status: 200, body: .bytes(bytes))
    }

    private func blob(_ name: String, _ request: Request) -> Response {
        if let status = behaviour.pullStatus { return error(status, "DENIED") }
        let (found, number) = contents.withLock { contents in
            contents.pulls += 1
            return (contents.blobs[name], contents.pulls)
        }
        if let count = behaviour.failsOneOf, number % count == 0 { return Response(status: 500) }
        guard var bytes = found else { return Response(status: 404) }
        if number == behaviour.shortPull { bytes.removeLast() }
        if number == behaviour.damagedPull { bytes[bytes.count - 1] ^= 1 }
        let range = ByteRange.parse(request.header("Range"), size: Int64(bytes.count))
        guard case .partial(let part) = range, !behaviour.ignoresRanges else {
            return Response(status: 200, body: .bytes(bytes))
        }
        let what = behaviour.contentRange ?? "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(bytes.count)"
        return Response(
            status: 206,
            headers: what.isEmpty ? [] : [("Content-Range", what)],
            body: .bytes(Array(bytes[Int(part.lowerBound)..<Int(part.upperBound)]))
        )
    }

    private func delete(_ name: String, _ isManifest: Bool) -> Response {
        guard !behaviour.refusesDeletes else { return Response(status: 405) }
        let wasThere = contents.withLock { contents in
            guard isManifest else { return contents.blobs.removeValue(forKey: name) != nil }
            guard let bytes = contents.manifests[name] else { return false }
            contents.manifests = contents.manifests.filter { $0.value != bytes }
            return true
        }
        return Response(status: wasThere ? 202 : 404)
    }
}

private final class Receiver: BodyReceiver {
    private var body: [UInt8] = []
    private let end: ([UInt8]) -> Response

    init(_ end: @escaping ([UInt8]) -> Response) { self.end = end }

    func receive(_ bytes: Span<UInt8>) { bytes.withUnsafeBufferPointer { body.append(contentsOf: $0) } }
    func finish() -> Response { end(body) }
    func abandon() {}
}
