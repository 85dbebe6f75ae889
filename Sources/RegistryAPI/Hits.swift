internal import EdgeCache
public import HTTPServer
internal import OCI
internal import Synchronization
internal import System

extension RegistryHandler {
    /// A blob or manifest that this node has ready; everything else waits for something, or is rare.
    public func answerAtOnce(_ request: Request) -> ReadyAnswer? {
        guard request.method == "GET" || request.method == "HEAD" else { return nil }
        do throws(Route.Failure) {
            let route = try Route(path: request.path)
            observer.began(request)
            guard let answer = ready(route, request) else { return nil }
            request.note = RequestNote(route.label, .hit).number
            return answer
        } catch {
            return nil
        }
    }

    private func ready(_ route: Route, _ request: Request) -> ReadyAnswer? {
        switch route {
        case .blob(_, let digest): blobAtOnce(digest, request)
        case .manifest(let name, let reference): manifestAtOnce(name, reference, request)
        default: nil
        }
    }

    private func blobAtOnce(_ digest: Digest, _ request: Request) -> ReadyAnswer? {
        var ready: ReadyAnswer?
        _ = edge.blobHit(digest) { number, bytes in
            ready =
                canBePrepared(request, bytes.count)
                ? prepared(number, blobHeaders(digest), bytes) : answerAtOnce(digest, .bytes([UInt8](bytes)), request)
        } file: { file, size in
            ready = answerAtOnce(digest, .file(file, size: size), request)
        }
        return ready
    }

    private func answerAtOnce(_ digest: Digest, _ content: BlobContent, _ request: Request) -> ReadyAnswer? {
        do throws(APIError) {
            return .response(finished(try answer(digest, content, request)).named(request.id))
        } catch {
            return nil
        }
    }

    private func manifestAtOnce(_ name: RepositoryName, _ reference: Reference, _ request: Request) -> ReadyAnswer? {
        var ready: ReadyAnswer?
        _ = edge.manifestHit(name, reference) { digest, number, mediaType, bytes in
            guard canBePrepared(request, bytes.count) else {
                let headers = manifestHeaders(digest, MediaType(mediaType))
                ready = .response(finished(answer(digest, headers, [UInt8](bytes), request)).named(request.id))
                return
            }
            ready = prepared(number, manifestHeaders(digest, MediaType(mediaType)), bytes)
        }
        return ready
    }

    /// Neither a part nor a condition, and no name that the answer has to bear, as every request has with an access log.
    private func canBePrepared(_ request: Request, _ count: Int) -> Bool {
        count <= PreparedAnswers.maximumBytes && request.id.isEmpty && !request.hasHeader("Range")
            && !request.hasHeader("If-None-Match")
    }

    private func prepared(
        _ number: UInt64,
        _ headers: @autoclosure () -> [(name: String, value: String)],
        _ bytes: Span<UInt8>
    ) -> ReadyAnswer? {
        let found = preparedAnswers.find(number) {
            let response = finished(Response(status: 200, headers: headers()))
            return PreparedResponse(status: 200, headers: response.headers, bytes: [UInt8](bytes))
        }
        return found.map { .prepared($0) }
    }
}

/// Answers that were made before, by the number of the index record that they were made of. A record's content never changes, so its answer
/// never does; whether the record is still there is looked up each time. A new answer takes the place of an older one.
final class PreparedAnswers: Sendable {
    /// Of a body; larger ones gain nothing.
    static let maximumBytes = 16 << 10
    /// With the largest bodies they take 16 MiB.
    private static let places: UInt64 = 1024

    private struct Entry {
        let number: UInt64
        let response: PreparedResponse
    }

    private let entries = InlineArray<1024, Mutex<Entry?>> { _ in Mutex(nil) }

    func find(_ number: UInt64, _ make: () -> PreparedResponse?) -> PreparedResponse? {
        let place = Int(number % Self.places)
        let found: PreparedResponse? = entries[place].withLock { $0?.number == number ? $0?.response : nil }
        if let found { return found }
        guard let response = make() else { return nil }
        entries[place].withLock { $0 = Entry(number: number, response: response) }
        return response
    }
}

extension MediaType {
    fileprivate init(_ bytes: Span<UInt8>) {
        self.init(rawValue: String(decoding: [UInt8](bytes), as: UTF8.self))
    }
}
