internal import HTTPClient
internal import OCI
internal import Synchronization
internal import System

/// One repository of a registry, by the distribution protocol. Any number of threads may use it.
final class RegistryClient: Sendable {
    private static let redirectLimit = 5

    let target: Target
    let repository: String
    private let client: Client
    private let authorizer: Authorizer
    private let stop: StopFlag

    init(_ target: Target, repository: String, credentials: BenchCredentials?, client: Client, stop: StopFlag) {
        self.target = target
        self.repository = repository
        self.client = client
        authorizer = Authorizer(target, credentials, client)
        self.stop = stop
    }

    private var path: String { "\(target)/v2/\(repository)" }
    func blobURL(_ digest: Digest) -> String { "\(path)/blobs/\(digest)" }
    func manifestURL(_ reference: String) -> String { "\(path)/manifests/\(reference)" }

    /// The version check: a registry is there, and lets us in.
    func check() throws(Failure) {
        let (response, body) = try exchange(Request("GET", "\(target)/v2/"))
        guard response.status == 200 else { throw Failure("GET \(target)/v2/", status: response.status, body: body) }
    }

    /// In one session and one request.
    func push(_ content: Content, meter: Meter) throws(Failure) {
        let start = Request("POST", "\(path)/blobs/uploads/")
        let (opened, text) = try exchange(start)
        guard opened.status == 202, let location = opened.header("Location") else {
            throw Failure("POST \(path)/blobs/uploads/", status: opened.status, body: text)
        }
        let session = target.resolve(location)
        let upload = Request(
            "PUT",
            session + (session.contains("?") ? "&" : "?") + "digest=\(percentEncoded(content.digest.description))",
            headers: [("Content-Type", "application/octet-stream")],
            body: .source(MeteredSource(content: content, meter: meter))
        )
        do throws(Failure) {
            let (response, body) = try exchange(upload)
            guard response.status == 201 else {
                throw Failure("push of \(content.digest)", status: response.status, body: body)
            }
        } catch {
            // What was begun is taken back; a registry that cannot forgets it by itself.
            _ = try? exchange(Request("DELETE", session), mayBeStopped: false)
            throw error
        }
    }

    func push(manifest: [UInt8], as reference: String) throws(Failure) {
        let request = Request(
            "PUT",
            manifestURL(reference),
            headers: [("Content-Type", MediaType.imageManifest.rawValue)],
            body: .bytes(manifest)
        )
        let (response, body) = try exchange(request)
        guard response.status == 201 else {
            throw Failure("push of manifest \(reference)", status: response.status, body: body)
        }
    }

    /// The whole manifest, which must be `expected` unless that is `nil`.
    func pull(manifest reference: String, expecting expected: [UInt8]?, meter: Meter) throws(Failure) {
        let (response, body) = try exchange(manifestRequest("GET", reference))
        guard response.status == 200 else {
            throw Failure("GET of manifest \(reference)", status: response.status, body: body)
        }
        meter.add(bytes: body.count)
        if let expected, expected != body { throw Failure.wrongBytes("manifest \(reference)") }
    }

    func checkManifest(_ reference: String) throws(Failure) {
        let (response, _) = try exchange(manifestRequest("HEAD", reference))
        guard response.status == 200 else { throw Failure("HEAD of manifest \(reference)", status: response.status) }
    }

    private func manifestRequest(_ method: String, _ reference: String) -> Request {
        let accept = [MediaType.imageManifest, .imageIndex, .dockerManifest, .dockerManifestList].map(\.rawValue)
        return Request(method, manifestURL(reference), headers: [("Accept", accept.joined(separator: ", "))])
    }

    /// A blob, or a part of it. The bytes are compared with those pushed when `isVerified`.
    func pull(
        _ content: Content,
        range: Range<Int64>? = nil,
        isVerified: Bool,
        meter: Meter
    ) throws(Failure) {
        let digest = content.digest
        var request = Request("GET", blobURL(digest))
        let wanted = range ?? 0..<content.length
        if range != nil {
            request.headers.append(("Range", "bytes=\(wanted.lowerBound)-\(wanted.upperBound - 1)"))
        }
        let status = range == nil ? 200 : 206
        var offset = wanted.lowerBound
        let response = try follow(request) { response, piece throws(Failure) in
            guard response.status == status else { return }
            guard offset + Int64(piece.count) <= wanted.upperBound else {
                throw Failure("too long", "GET of \(digest): more than \(wanted.count) bytes")
            }
            if isVerified, !content.matches(piece, at: offset) { throw Failure.wrongBytes("blob \(digest)") }
            offset += Int64(piece.count)
            meter.add(bytes: piece.count)
        }
        guard response.status == status else {
            if response.status == 200 { throw Failure("range ignored", "GET of \(digest): a range came as the whole") }
            throw Failure("GET of \(digest)", status: response.status)
        }
        guard offset == wanted.upperBound else {
            throw Failure("cut short", "GET of \(digest): \(offset - wanted.lowerBound) of \(wanted.count) bytes")
        }
    }

    /// The status of the answer; works on after the run was stopped.
    func delete(_ url: String) throws(Failure) -> Int {
        try exchange(Request("DELETE", url), mayBeStopped: false).0.status
    }

    /// Sends a request and keeps the answer's body, which is short.
    private func exchange(_ request: Request, mayBeStopped: Bool = true) throws(Failure) -> (Response, [UInt8]) {
        var body: [UInt8] = []
        let response = try follow(request, mayBeStopped: mayBeStopped) { _, piece throws(Failure) in
            guard body.count + piece.count <= 8 << 20 else { throw Failure("bad response", "an answer above 8 MiB") }
            body.append(piece)
        }
        return (response, body)
    }

    /// Follows redirects and answers a challenge; `receive` sees the last answer only.
    private func follow(
        _ request: Request,
        mayBeStopped: Bool = true,
        receive: (Response, Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) -> Response {
        var url = request.url
        var wasChallenged = false
        for _ in 0...Self.redirectLimit {
            let isOurs = url == target.root || url.hasPrefix(target.root + "/")
            // Whoever a redirect leads to has no business with the credentials.
            let authorization = isOurs ? authorizer.header : nil
            var attempt = request
            attempt.url = url
            if let authorization { attempt.headers.append(("Authorization", authorization)) }
            let mayAnswer = isOurs && !wasChallenged
            let response = try send(attempt, mayBeStopped) { response, piece throws(Failure) in
                if response.status == 401 && mayAnswer || response.redirect != nil { return }
                try receive(response, piece)
            }
            if response.status == 401, isOurs {
                guard mayAnswer else { throw Failure("status 401", "the registry does not accept the credentials") }
                wasChallenged = true
                try authorizer.answer(response.challenges, refused: authorization)
            } else if let location = response.redirect {
                url = target.resolve(location)
            } else {
                return response
            }
        }
        throw Failure("too many redirects", "\(request.method) \(request.url.prefix { $0 != "?" }): too many redirects")
    }

    private func send(
        _ request: Request,
        _ mayBeStopped: Bool,
        _ receive: (Response, Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) -> Response {
        let stop = self.stop
        do throws(TransferError) {
            return try client.perform(request, isCancelled: { mayBeStopped && stop.isSet }, receive: receive)
        } catch {
            throw Failure(error)
        }
    }
}

extension Response {
    fileprivate var redirect: String? {
        [301, 302, 303, 307, 308].contains(status) ? header("Location") : nil
    }

    fileprivate var challenges: [String] {
        headers.filter { $0.name.lowercased() == "www-authenticate" }.map(\.value)
    }
}

extension Failure {
    fileprivate static func wrongBytes(_ what: String) -> Failure {
        Failure("wrong bytes", "\(what) came with other bytes than were pushed")
    }
}

/// Tells a run to end.
public final class StopFlag: Sendable {
    private let flag = Atomic(false)

    public init() {}

    public var isSet: Bool { flag.load(ordering: .relaxed) }
    public func set() { flag.store(true, ordering: .relaxed) }
}

/// Bytes of bodies as they pass, and operations as they end, well or not.
final class Meter: Sendable {
    private let bytesPassed = Atomic<Int64>(0)
    private let operationsDone = Atomic<Int>(0)
    private let operationsFailed = Atomic<Int>(0)

    func add(bytes: Int) { bytesPassed.wrappingAdd(Int64(bytes), ordering: .relaxed) }
    func addOperation() { operationsDone.wrappingAdd(1, ordering: .relaxed) }
    func addFailure() { operationsFailed.wrappingAdd(1, ordering: .relaxed) }

    var bytes: Int64 { bytesPassed.load(ordering: .relaxed) }
    var operations: Int { operationsDone.load(ordering: .relaxed) }
    var failures: Int { operationsFailed.load(ordering: .relaxed) }
}

private struct MeteredSource: BodySource {
    let content: Content
    let meter: Meter

    var length: Int64 { content.length }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) -> Int {
        let count = content.read(at: offset, into: &buffer)
        meter.add(bytes: count)
        return count
    }
}
