internal import DiskTier
internal import EdgeCache
public import HTTPServer
internal import OCI
internal import Synchronization
internal import System
internal import Threading

extension RegistryHandler {
    /// A blob or manifest that this node has ready; everything else waits for something, or is rare.
    public func answerAtOnce(_ request: Request) -> ReadyAnswer? {
        guard request.method == "GET" || request.method == "HEAD" else { return nil }
        observer.began(request)
        let asked = Asked(request, isOriginDown: edge.isOriginDown, preparedAnswers(for: request))
        if let kept = asked.kept, edge.stillHolds(kept.sighting) {
            request.note = kept.note
            tell(asked, kept.content)
            return .prepared(kept.response)
        }
        do throws(Route.Failure) {
            let route = try Route(path: request.path)
            request.note = RequestNote(route.label, .hit).number
            if let answer = ready(route, asked) { return answer }
            request.note = RequestNote(route.label).number
            return nil
        } catch {
            return nil
        }
    }

    private func ready(_ route: Route, _ asked: Asked) -> ReadyAnswer? {
        switch route {
        case .blob(_, let digest): blobAtOnce(digest, asked)
        case .manifest(let name, let reference): manifestAtOnce(name, reference, asked)
        default: nil
        }
    }

    private func blobAtOnce(_ digest: Digest, _ asked: Asked) -> ReadyAnswer? {
        var ready: ReadyAnswer?
        _ = edge.blobHit(digest) { sighting, bytes in
            ready =
                prepared(asked, sighting, Content(digest: digest), blobHeaders(digest), bytes)
                ?? answerAtOnce(digest, .bytes([UInt8](bytes)), asked)
        } file: { file, status in
            ready = answerAtOnce(digest, .file(file, status), asked)
        }
        if ready != nil { tell(asked, Content(digest: digest)) }
        return ready
    }

    private func answerAtOnce(_ digest: Digest, _ content: BlobContent, _ asked: Asked) -> ReadyAnswer? {
        let request = asked.request
        do throws(APIError) {
            let response = try answer(digest, content, request).marked(isOriginDown: asked.isOriginDown)
            return .response(finished(response).named(request.id))
        } catch {
            // A range that is none of the blob's. It is counted as a hit already.
            return .response(failed(error, "\(request.method) \(request.path)").named(request.id))
        }
    }

    private func manifestAtOnce(_ name: RepositoryName, _ reference: Reference, _ asked: Asked) -> ReadyAnswer? {
        var ready: ReadyAnswer?
        _ = edge.manifestHit(name, reference) { digest, sighting, mediaType, bytes in
            let content = Content(digest: digest, repository: name)
            tell(asked, content)
            ready = prepared(asked, sighting, content, manifestHeaders(digest, MediaType(mediaType)), bytes)
            guard ready == nil else { return }
            let headers = manifestHeaders(digest, MediaType(mediaType))
            let response = answer(digest, headers, [UInt8](bytes), asked.request)
            ready = .response(finished(response.marked(isOriginDown: asked.isOriginDown)).named(asked.request.id))
        }
        return ready
    }

    /// A client that only asks whether this is here may leave it out of its push.
    private func tell(_ asked: Asked, _ content: Content) {
        if asked.request.method == "HEAD" { edge.hasTold(content.digest, in: content.repository) }
    }

    /// `nil` where it must be made for this request alone.
    private func prepared(
        _ asked: Asked,
        _ sighting: DiskTier.Sighting,
        _ content: Content,
        _ headers: @autoclosure () -> [(name: String, value: String)],
        _ bytes: Span<UInt8>
    ) -> ReadyAnswer? {
        guard let place = asked.place, bytes.count <= PreparedAnswers.maximumBytes else { return nil }
        let known = asked.kept.flatMap { $0.sighting.number == sighting.number ? $0.response : nil }
        guard let response = known ?? prepared(headers(), asked.isOriginDown, bytes) else { return nil }
        preparedAnswers(for: asked.request).offer(place) {
            PreparedAnswer(place, sighting, content, asked.request.note, isOfOutage: asked.isOriginDown, response)
        }
        return .prepared(response)
    }

    private func prepared(
        _ headers: [(name: String, value: String)],
        _ isOriginDown: Bool,
        _ bytes: Span<UInt8>
    ) -> PreparedResponse? {
        let response = finished(Response(status: 200, headers: headers).marked(isOriginDown: isOriginDown))
        return PreparedResponse(status: response.status, headers: response.headers, bytes: bytes)
    }
}

/// What is asked for, and what is kept of it.
private struct Asked {
    let request: Request
    let isOriginDown: Bool
    /// `nil` for a part or a condition, and for an answer that has to bear a name, as all have with an access log.
    let place: PreparedAnswers.Place?
    /// The answer that was given there before, as the origin is now.
    let kept: PreparedAnswer?

    init(_ request: Request, isOriginDown: Bool, _ answers: PreparedAnswers) {
        self.request = request
        self.isOriginDown = isOriginDown
        place = request.isForWhole && request.id.isEmpty ? PreparedAnswers.Place(request) : nil
        kept = place.flatMap { answers[$0] }.flatMap { $0.isOfOutage == isOriginDown ? $0 : nil }
    }
}

/// A blob, or a manifest of a repository.
struct Content {
    let digest: Digest
    var repository: RepositoryName?
}

/// An answer that was made before. A record's content never changes, so its answer never does; whether it is still the record that the path
/// leads to is asked each time.
final class PreparedAnswer: Sendable {
    let place: PreparedAnswers.Place
    let sighting: DiskTier.Sighting
    let content: Content
    /// The request's.
    let note: UInt64
    /// It says that the origin is down.
    let isOfOutage: Bool
    let response: PreparedResponse

    init(
        _ place: PreparedAnswers.Place,
        _ sighting: DiskTier.Sighting,
        _ content: Content,
        _ note: UInt64,
        isOfOutage: Bool,
        _ response: PreparedResponse
    ) {
        self.place = place
        self.sighting = sighting
        self.content = content
        self.note = note
        self.isOfOutage = isOfOutage
        self.response = response
    }
}

/// The answers that were asked for again before another path of the same place was. Keeping each would cost more than it saves where all
/// of a large tier is read: what is driven out has long left the processor's caches when it is freed.
final class PreparedAnswers: Sendable {
    /// Of a body; larger ones gain nothing.
    static let maximumBytes = 16 << 10
    /// One for each loop, unless there are more: what two processors count references to goes to and fro between them.
    static let tables = 8
    /// With the largest bodies those of a table take 8 MiB.
    private static let places = 512

    private let answers = InlineArray<512, Mutex<PreparedAnswer?>> { _ in Mutex(nil) }
    /// The hashes of their paths: most answers that are not here are not looked for.
    private let kept = AtomicArray(count: places)
    /// The hash of the path whose answer was made last.
    private let candidates = AtomicArray(count: places)

    /// A path, and where its answer goes.
    struct Place: Equatable {
        private let path: String
        fileprivate let hash: UInt64

        init(_ request: Request) {
            path = request.path
            hash = request.pathMark
        }

        fileprivate var index: Int { Int(hash & UInt64(places - 1)) }

        static func == (a: Place, b: Place) -> Bool { a.hash == b.hash && a.path == b.path }
    }

    subscript(place: Place) -> PreparedAnswer? {
        guard kept.loadRelaxed(place.index) == place.hash, let answer = answers[place.index].withLock({ $0 }),
            answer.place == place
        else { return nil }
        return answer
    }

    /// Keeps the answer when its path is asked for a second time.
    func offer(_ place: Place, _ answer: () -> PreparedAnswer) {
        guard candidates.loadRelaxed(place.index) == place.hash else {
            return candidates.storeRelaxed(place.hash, at: place.index)
        }
        let answer = answer()
        answers[place.index].withLock { $0 = answer }
        kept.storeRelaxed(place.hash, at: place.index)
    }
}

extension MediaType {
    fileprivate init(_ bytes: Span<UInt8>) {
        self.init(rawValue: String(decoding: [UInt8](bytes), as: UTF8.self))
    }
}
