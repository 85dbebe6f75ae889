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
        let isOriginDown = edge.isOriginDown
        if canBePrepared(request), let answer = preparedAnswers[request.path], answer.isOfOutage == isOriginDown,
            edge.stillHolds(answer.sighting)
        {
            request.note = answer.note
            return .prepared(answer.response)
        }
        do throws(Route.Failure) {
            let route = try Route(path: request.path)
            request.note = RequestNote(route.label, .hit).number
            if let answer = ready(route, request, isOriginDown) { return answer }
            request.note = RequestNote(route.label).number
            return nil
        } catch {
            return nil
        }
    }

    private func ready(_ route: Route, _ request: Request, _ isOriginDown: Bool) -> ReadyAnswer? {
        switch route {
        case .blob(_, let digest): blobAtOnce(digest, request, isOriginDown)
        case .manifest(let name, let reference): manifestAtOnce(name, reference, request, isOriginDown)
        default: nil
        }
    }

    private func blobAtOnce(_ digest: Digest, _ request: Request, _ isOriginDown: Bool) -> ReadyAnswer? {
        var ready: ReadyAnswer?
        _ = edge.blobHit(digest) { sighting, bytes in
            ready =
                canBePrepared(request) && bytes.count <= PreparedAnswers.maximumBytes
                ? prepared(request, sighting, isOriginDown, blobHeaders(digest), bytes)
                : answerAtOnce(digest, .bytes([UInt8](bytes)), request, isOriginDown)
        } file: { file, size in
            ready = answerAtOnce(digest, .file(file, size: size), request, isOriginDown)
        }
        return ready
    }

    private func answerAtOnce(
        _ digest: Digest,
        _ content: BlobContent,
        _ request: Request,
        _ isOriginDown: Bool
    ) -> ReadyAnswer? {
        do throws(APIError) {
            let response = try answer(digest, content, request).marked(isOriginDown: isOriginDown)
            return .response(finished(response).named(request.id))
        } catch {
            // A range that is none of the blob's. It is counted as a hit already.
            return .response(failed(error, "\(request.method) \(request.path)").named(request.id))
        }
    }

    private func manifestAtOnce(
        _ name: RepositoryName,
        _ reference: Reference,
        _ request: Request,
        _ isOriginDown: Bool
    ) -> ReadyAnswer? {
        var ready: ReadyAnswer?
        _ = edge.manifestHit(name, reference) { digest, sighting, mediaType, bytes in
            guard canBePrepared(request), bytes.count <= PreparedAnswers.maximumBytes else {
                let headers = manifestHeaders(digest, MediaType(mediaType))
                let response = answer(digest, headers, [UInt8](bytes), request).marked(isOriginDown: isOriginDown)
                ready = .response(finished(response).named(request.id))
                return
            }
            ready = prepared(request, sighting, isOriginDown, manifestHeaders(digest, MediaType(mediaType)), bytes)
        }
        return ready
    }

    /// The whole content, and no name that the answer has to bear, as every request has with an access log.
    private func canBePrepared(_ request: Request) -> Bool { request.isForWhole && request.id.isEmpty }

    private func prepared(
        _ request: Request,
        _ sighting: DiskTier.Sighting,
        _ isOriginDown: Bool,
        _ headers: @autoclosure () -> [(name: String, value: String)],
        _ bytes: Span<UInt8>
    ) -> ReadyAnswer? {
        let known = preparedAnswers[request.path].flatMap { answer in
            answer.sighting.number == sighting.number && answer.isOfOutage == isOriginDown ? answer.response : nil
        }
        let response =
            known
            ?? PreparedResponse(
                status: 200,
                headers: finished(Response(status: 200, headers: headers()).marked(isOriginDown: isOriginDown)).headers,
                bytes: bytes
            )
        guard let response else { return nil }
        preparedAnswers.offer(request.path) {
            PreparedAnswer(request.path, sighting, request.note, isOfOutage: isOriginDown, response)
        }
        return .prepared(response)
    }
}

/// An answer that was made before. A record's content never changes, so its answer never does; whether it is still the record that the path
/// leads to is asked each time.
final class PreparedAnswer: Sendable {
    let path: String
    let sighting: DiskTier.Sighting
    /// The request's.
    let note: UInt64
    /// It says that the origin is down.
    let isOfOutage: Bool
    let response: PreparedResponse

    init(
        _ path: String,
        _ sighting: DiskTier.Sighting,
        _ note: UInt64,
        isOfOutage: Bool,
        _ response: PreparedResponse
    ) {
        self.path = path
        self.sighting = sighting
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
    /// With the largest bodies they take 16 MiB.
    private static let places = 1024

    private let answers = InlineArray<1024, Mutex<PreparedAnswer?>> { _ in Mutex(nil) }
    /// The hash of the path whose answer was made last.
    private let candidates = AtomicArray(count: places)

    subscript(path: String) -> PreparedAnswer? {
        let place = path.hashValue & (Self.places - 1)
        guard let answer = answers[place].withLock({ $0 }), answer.path == path else { return nil }
        return answer
    }

    /// Keeps the answer when its path is asked for a second time.
    func offer(_ path: String, _ answer: () -> PreparedAnswer) {
        let hash = path.hashValue
        let (place, mark) = (hash & (Self.places - 1), UInt64(bitPattern: Int64(hash)))
        guard candidates.loadRelaxed(place) == mark else { return candidates.storeRelaxed(mark, at: place) }
        let answer = answer()
        answers[place].withLock { $0 = answer }
    }
}

extension MediaType {
    fileprivate init(_ bytes: Span<UInt8>) {
        self.init(rawValue: String(decoding: [UInt8](bytes), as: UTF8.self))
    }
}
