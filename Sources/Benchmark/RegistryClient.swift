internal import HTTPClient
internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// One repository of a registry, by the distribution protocol. Any number of threads may use it.
final class RegistryClient: Sendable {
    private static let redirectLimit = 5
    /// For what is answered at once by a registry that is there.
    static let promptMilliseconds = 15_000

    let target: Target
    let repository: String
    private let client: Client
    private let authorizer: Authorizer
    private let stop: StopFlag
    private let patience: Patience
    private let isPatient: Bool
    /// Of a request, unless it deletes.
    private let timeoutMilliseconds: Int?

    init(
        _ target: Target,
        repository: String,
        credentials: BenchCredentials?,
        client: Client,
        stop: StopFlag,
        timeoutMilliseconds: Int? = nil
    ) {
        self.target = target
        self.repository = repository
        self.client = client
        authorizer = Authorizer(target, credentials, client)
        self.stop = stop
        self.timeoutMilliseconds = timeoutMilliseconds
        patience = Patience()
        isPatient = false
    }

    /// The same registry, for what is not measured: it is waited for where it says that it is asked too often.
    convenience init(patient other: RegistryClient) {
        self.init(other, other.target, other.authorizer, isPatient: true)
    }

    /// At another place of the same host, with the same credentials.
    convenience init(_ other: RegistryClient, movedTo target: Target) {
        let authorizer = Authorizer(target, other.authorizer.credentials, other.client)
        self.init(other, target, authorizer, isPatient: other.isPatient)
    }

    /// Where `place` is, with its token.
    convenience init(_ other: RegistryClient, movedTo place: RegistryClient) {
        self.init(other, place.target, place.authorizer, isPatient: other.isPatient)
    }

    private init(_ other: RegistryClient, _ target: Target, _ authorizer: Authorizer, isPatient: Bool) {
        self.target = target
        self.authorizer = authorizer
        self.isPatient = isPatient
        repository = other.repository
        client = other.client
        stop = other.stop
        patience = other.patience
        timeoutMilliseconds = isPatient ? nil : other.timeoutMilliseconds
    }

    var place: String { "\(target)/\(repository)" }
    private var path: String { "\(target)/v2/\(repository)" }
    func blobURL(_ digest: Digest) -> String { "\(path)/blobs/\(digest)" }
    func manifestURL(_ reference: String) -> String { "\(path)/manifests/\(reference)" }

    /// The version check: a registry is there, and lets us in. Returns where it is, when that is another place of the same host.
    func check() throws(Failure) -> Target? {
        var request = Request("GET", "\(target)/v2/")
        request.totalTimeoutMilliseconds = Self.promptMilliseconds
        let answer = try exchange(request)
        if let moved = target.moved(to: answer.url) { return moved }
        guard answer.status == 200 else { throw refusal("GET \(request.url)", answer) }
        return nil
    }

    /// In one session and one request.
    func push(_ content: Content, passage: Passage, ledger: Ledger) throws(Failure) {
        let session = try openSession(ledger)
        let upload = Request(
            "PUT",
            session + (session.contains("?") ? "&" : "?") + "digest=\(percentEncoded(content.digest.description))",
            headers: [("Content-Type", "application/octet-stream")],
            body: .source(MeteredSource(content: content, passage: passage))
        )
        do throws(Failure) {
            try put(upload, "push of \(content.digest)", .blob, blobURL(content.digest), ledger, passage)
        } catch {
            // A registry that cannot take it back now is asked again at the end.
            let isEmpty = !passage.hasBegun
            if (try? endSession(session, isEmpty: isEmpty, isPatient: false)) == nil {
                ledger.note(.session, session, in: self, isEmpty: isEmpty)
            }
            throw error
        }
    }

    /// Where to. An interrupt waits a little for the answer: only it tells what there is to take back.
    private func openSession(_ ledger: Ledger) throws(Failure) -> String {
        guard !stop.isSet else { throw Failure.cancelled }
        let url = "\(path)/blobs/uploads/"
        do throws(Failure) {
            let answer = try exchange(Request("POST", url), onStop: .endSoon)
            guard answer.status == 202 else { throw refusal("POST \(url)", answer) }
            guard let session = answer.location else {
                ledger.noteLostSession(in: self, "whose place was not told")
                throw Failure("no Location", "POST \(url): status 202 with no Location in the answer")
            }
            return session
        } catch {
            if error.isUnanswered { ledger.noteLostSession(in: self, "whose start was not answered") }
            throw error
        }
    }

    /// Its manifest, under its tag.
    func push(_ image: Image, ledger: Ledger) throws(Failure) {
        let request = Request(
            "PUT",
            manifestURL(image.tag),
            headers: [("Content-Type", MediaType.imageManifest.rawValue)],
            body: .bytes(image.manifest)
        )
        try put(request, "push of manifest \(image.tag)", .manifest, manifestURL(image.digest.description), ledger)
    }

    /// Sends what is at `noted` then, and may be when the answer is lost; not when it is a refusal. Until the last byte of its body is out, as
    /// `passage` tells, an interrupt ends it at once; from then on the registry may take it in, which the answer tells.
    private func put(
        _ request: Request,
        _ name: String,
        _ kind: Ledger.Kind,
        _ noted: String,
        _ ledger: Ledger,
        _ passage: Passage? = nil
    ) throws(Failure) {
        let isNew = ledger.note(kind, noted, in: self)
        do throws(Failure) {
            let answer = try exchange(request, onStop: passage.map { .endSoonOnceSent($0) } ?? .endSoon)
            guard answer.status == 201 else { throw refusal(name, answer) }
        } catch {
            if isNew, error.isRefusal { ledger.forget(noted) }
            if error.isUnanswered, passage?.isSent ?? true { ledger.noteUnanswered(noted) }
            throw error
        }
    }

    /// The whole manifest, which must be `expected` unless that is `nil`.
    func pull(manifest reference: String, expecting expected: [UInt8]?, passage: Passage) throws(Failure) {
        let answer = try exchange(manifestRequest("GET", reference))
        guard answer.status == 200 else { throw refusal("GET of manifest \(reference)", answer) }
        passage.add(bytes: answer.body.count)
        if let expected, expected != answer.body { throw Failure.wrongBytes("manifest \(reference)") }
    }

    func checkManifest(_ reference: String) throws(Failure) {
        let answer = try exchange(manifestRequest("HEAD", reference))
        guard answer.status == 200 else { throw refusal("HEAD of manifest \(reference)", answer) }
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
        passage: Passage
    ) throws(Failure) {
        let digest = content.digest
        var request = Request("GET", blobURL(digest))
        let wanted = range ?? 0..<content.length
        if range != nil {
            request.headers.append(("Range", "bytes=\(wanted.lowerBound)-\(wanted.upperBound - 1)"))
        }
        let status = range == nil ? 200 : 206
        var offset = wanted.lowerBound
        var words: [UInt8] = []
        var answer = try follow(request, .end, isPatient) { response, piece throws(Failure) in
            guard response.status == status else {
                if words.count < Failure.wordsLimit { words.append(piece) }
                return
            }
            guard offset + Int64(piece.count) <= wanted.upperBound else {
                throw Failure("too long", "GET of \(digest): more than \(wanted.count) bytes")
            }
            if isVerified, !content.matches(piece, at: offset) { throw Failure.wrongBytes("blob \(digest)") }
            offset += Int64(piece.count)
            passage.add(bytes: piece.count)
        }
        answer.body = words
        guard answer.status == status else {
            if answer.status == 200 { throw Failure("range ignored", "GET of \(digest): a range came as the whole") }
            throw refusal("GET of \(digest)", answer)
        }
        if range != nil { try check(answer.response.header("Content-Range"), wanted, of: content) }
        guard offset == wanted.upperBound else {
            throw Failure("cut short", "GET of \(digest): \(offset - wanted.lowerBound) of \(wanted.count) bytes")
        }
    }

    /// RFC 9110, section 14.4.
    private func check(_ header: String?, _ wanted: Range<Int64>, of content: Content) throws(Failure) {
        let part = "bytes \(wanted.lowerBound)-\(wanted.upperBound - 1)/"
        guard let header, [part + String(content.length), part + "*"].contains(header.lowercased()) else {
            let found = header.map { "'\($0)'" } ?? "none"
            throw Failure(
                "wrong range",
                "GET of \(content.digest): Content-Range is \(found), not \(part)\(content.length)"
            )
        }
    }

    /// False when it was not there, and need not be deleted.
    func delete(_ url: String, isPatient: Bool) throws(Failure) -> Bool {
        let answer = try cleanUp("DELETE", url, isPatient)
        if [404, 410].contains(answer.status) { return false }
        guard 200..<300 ~= answer.status else { throw refusal("DELETE", answer) }
        return true
    }

    /// Ends an upload, where it is now when that changes with what it has taken in. False when the registry does not know it.
    @discardableResult
    func endSession(_ url: String, isEmpty: Bool, isPatient: Bool) throws(Failure) -> Bool {
        let first = try cleanUp("DELETE", url, isPatient)
        if let wasThere = wasSession(first, isEmpty) { return wasThere }
        guard first.status == 404, let place = try cleanUp("GET", url, isPatient).location else {
            throw refusal("DELETE of an upload session", first)
        }
        let second = try cleanUp("DELETE", place, isPatient)
        guard let wasThere = wasSession(second, isEmpty) else { throw refusal("DELETE of an upload session", second) }
        return wasThere
    }

    /// What the answer to a session's DELETE tells; `nil` when it may be there still. 404 is no word on that where its reason is another:
    /// docker-registry gives it for a session that holds more than its URL says.
    private func wasSession(_ answer: Answer, _ isEmpty: Bool) -> Bool? {
        switch answer.status {
        case 200..<300: return true
        case 410: return false
        case 404:
            let code = errorCode(in: answer.body)
            return code == ErrorCode.blobUploadUnknown.rawValue || code == nil && isEmpty ? false : nil
        default: return nil
        }
    }

    /// Works on after the run was stopped.
    private func cleanUp(_ method: String, _ url: String, _ isPatient: Bool) throws(Failure) -> Answer {
        var request = Request(method, url)
        request.stallSeconds = 20
        return try exchange(request, onStop: .goOn, isPatient: isPatient)
    }

    /// The last answer to a request, and the URL that gave it.
    private struct Answer {
        let response: Response
        let url: String
        var body: [UInt8] = []

        var status: Int { response.status }
        /// What the answer names, if it does.
        var location: String? {
            response.header("Location").map { WebAddress(url)?.resolve($0) ?? $0 }
        }
    }

    /// A status that was not hoped for.
    private func refusal(_ operation: String, _ answer: Answer) -> Failure {
        let failure = Failure(operation, status: answer.status, body: answer.body)
        guard !target.holds(answer.url), let there = WebAddress(answer.url) else { return failure }
        let way = "\(target.root) led to \(there.scheme)://\(there.authority)"
        guard answer.status == 401 else { return failure.explained(way) }
        let reason = "\(way), but credentials go to \(target.root) only: if it is the same registry, use that URL"
        return failure.explained(reason, kind: "status 401 elsewhere")
    }

    /// What an interrupt does to a request.
    private enum OnStop {
        case end, endSoon
        /// At once until the body has gone out.
        case endSoonOnceSent(Passage)
        case goOn

        var canEnd: Bool {
            if case .goOn = self { false } else { true }
        }
    }

    /// Sends a request and keeps the answer's body, which is short.
    private func exchange(
        _ request: Request,
        onStop: OnStop = .end,
        isPatient: Bool? = nil
    ) throws(Failure) -> Answer {
        var body: [UInt8] = []
        var answer = try follow(request, onStop, isPatient ?? self.isPatient) { _, piece throws(Failure) in
            guard body.count + piece.count <= 8 << 20 else { throw Failure("bad response", "an answer above 8 MiB") }
            body.append(piece)
        }
        answer.body = body
        return answer
    }

    /// Follows redirects, answers challenges and waits where it should; `receive` sees the last answer only.
    private func follow(
        _ request: Request,
        _ onStop: OnStop,
        _ isPatient: Bool,
        receive: (Response, Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) -> Answer {
        var url = request.url
        var redirects = 0
        var authorization = authorizer.authorization
        while redirects <= Self.redirectLimit {
            let isOurs = target.holds(url)
            var attempt = request
            attempt.url = url
            if let timeoutMilliseconds, onStop.canEnd { attempt.totalTimeoutMilliseconds = timeoutMilliseconds }
            // Whoever a redirect leads to has no business with the credentials.
            if isOurs, let header = authorization.header { attempt.headers.append(("Authorization", header)) }
            let response = try send(attempt, onStop) { response, piece throws(Failure) in
                let isChallenge = response.status == 401 && isOurs
                let isThrottled = isPatient && response.asksForPatience
                if !isChallenge, !isThrottled, !response.isRedirect { try receive(response, piece) }
            }
            if response.status == 401, isOurs {
                try authorizer.answer(response.challenges, &authorization) { self.mustEnd(onStop) }
                continue
            }
            authorizer.share(&authorization)
            if isPatient, let pause = patience.pause(after: response) {
                try wait(pause, onStop)
            } else if response.isRedirect, let location = Answer(response: response, url: url).location {
                redirects += 1
                url = location
            } else {
                return Answer(response: response, url: url)
            }
        }
        throw Failure("too many redirects", "\(request.method) \(request.url.prefix { $0 != "?" }): too many redirects")
    }

    private func mustEnd(_ onStop: OnStop) -> Bool {
        switch onStop {
        case .end: stop.isSet
        case .endSoon: stop.hasBeenSet(for: .seconds(5))
        case .endSoonOnceSent(let passage): stop.isSet && (!passage.isSent || stop.hasBeenSet(for: .seconds(5)))
        case .goOn: false
        }
    }

    private func wait(_ pause: Duration, _ onStop: OnStop) throws(Failure) {
        let end = ContinuousClock.now + pause
        while end > .now {
            if stop.isSet, onStop.canEnd { throw Failure.cancelled }
            pauseThread(min(end - .now, .milliseconds(200)))
        }
    }

    private func send(
        _ request: Request,
        _ onStop: OnStop,
        _ receive: (Response, Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) -> Response {
        do throws(TransferError) {
            return try client.perform(request, isCancelled: { self.mustEnd(onStop) }, receive: receive)
        } catch {
            throw Failure(error)
        }
    }
}

extension Response {
    fileprivate var isRedirect: Bool { [301, 302, 303, 307, 308].contains(status) && header("Location") != nil }

    fileprivate var challenges: [String] {
        headers.filter { $0.name.lowercased() == "www-authenticate" }.map(\.value)
    }
}

extension Failure {
    fileprivate static func wrongBytes(_ what: String) -> Failure {
        Failure("wrong bytes", "\(what) came with other bytes than were pushed")
    }
}
