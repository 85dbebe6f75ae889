internal import HTTPClient
internal import Synchronization
internal import Threading

/// How a body is cut: equal parts, the last one perhaps smaller.
struct PartPlan: Equatable {
    let length: Int64
    let partBytes: Int64

    /// Parts of `wanted` bytes, or of as many MiB more as keep their number within S3's limit.
    init(length: Int64, wanted: Int64) {
        let unit: Int64 = 1 << 20
        let parts = Int64(S3Limits.parts)
        let needed = (length + parts - 1) / parts
        self.length = length
        partBytes = needed <= wanted ? wanted : (needed + unit - 1) / unit * unit
    }

    var count: Int { Int((length + partBytes - 1) / partBytes) }

    func range(of index: Int) -> Range<Int64> {
        let start = Int64(index) * partBytes
        return start..<min(length, start + partBytes)
    }
}

extension S3Store {
    /// Uploads a large body in parallel parts; on failure nothing is left behind, as far as the store can still be reached.
    ///
    /// - Returns: the object's ETag.
    func upload(_ key: ObjectKey, _ body: ObjectBody, contentType: String?) throws(StoreError) -> String? {
        let id = try createUpload(key, contentType: contentType)
        do throws(StoreError) {
            let parts = try uploadParts(key, id, body)
            try completeUpload(key, id, parts, length: body.length)
        } catch {
            // The first error is the one to report; the store ends forgotten uploads by its own rules.
            try? abortUpload(key, id)
            throw error
        }
        return try confirm(key, length: body.length).etag
    }

    /// What was just stored. The answer's ETag may be empty or of another form: what HEAD says is what readers will see.
    @discardableResult
    func confirm(_ key: ObjectKey, length: Int64) throws(StoreError) -> ObjectInfo {
        let stored = try head(key)
        guard let stored, stored.size == length else {
            let message = "stored \(length) bytes, found \(stored.map { "\($0.size)" } ?? "nothing")"
            throw transport.failure(of: S3Request(.put, "HEAD", key), .damagedBody, message)
        }
        return stored
    }

    func createUpload(_ key: ObjectKey, contentType: String?) throws(StoreError) -> String {
        var request = S3Request(.put, "POST", key, query: [("uploads", "")], body: .bytes([]))
        request.headers = configuration.objectOptions.headers
        if let contentType { request.headers.append(("Content-Type", contentType)) }
        // One that was begun twice, since the first answer was no good, is aborted with the abandoned ones.
        return try transport.retrying { () throws(StoreError) in
            let (response, body) = try transport.once(request)
            guard let id = try transport.document(body, request, response).text(of: "UploadId"), !id.isEmpty else {
                throw transport.failure(of: request, .invalidResponse, "no upload id", response, isRetryable: true)
            }
            return id
        }
    }

    private func uploadParts(_ key: ObjectKey, _ id: String, _ body: ObjectBody) throws(StoreError) -> [String] {
        let plan = PartPlan(length: body.length, wanted: configuration.partBytes)
        let progress = UploadProgress(parts: plan.count)
        pool.forEach(below: plan.count, width: configuration.partsInFlight) { index in
            guard !progress.hasFailed else { return }
            do throws(StoreError) {
                let part = body.part(plan.range(of: index))
                progress.finish(index, etag: try self.uploadPart(key, id, number: index + 1, part))
            } catch {
                progress.fail(error)
            }
        }
        return try progress.etags()
    }

    func uploadPart(
        _ key: ObjectKey,
        _ id: String,
        number: Int,
        _ body: ObjectBody
    ) throws(StoreError) -> String {
        var request = S3Request(.put, "PUT", key, query: [("partNumber", "\(number)"), ("uploadId", id)])
        request.body = try payload(body, request)
        return try transport.retrying { () throws(StoreError) in
            let response = try transport.once(request).response
            let etag = try requireETag(request, response)
            // A part of a file can be sent again should the store not take it in the end. What is in memory is nowhere else by then.
            guard request.body.isInMemory, lists(number, etag, body.length, of: key, id) == false else { return etag }
            let message = "the store lists another part than it said that it has"
            throw transport.failure(of: request, .damagedBody, message, response, isRetryable: true)
        }
    }

    /// Whether the store has this part as it told of it; `nil` when it does not say. (Amazon S3 API Reference, "ListParts")
    private func lists(_ number: Int, _ etag: String, _ length: Int64, of key: ObjectKey, _ id: String) -> Bool? {
        let query = [("max-parts", "1"), ("part-number-marker", "\(number - 1)"), ("uploadId", id)]
        let request = S3Request(.list, "GET", key, query: query)
        // Whatever is wrong with the question, the part was acknowledged.
        guard let (response, body) = try? transport.once(request),
            let result = try? transport.document(body, request, response), result.name == "ListPartsResult"
        else { return nil }
        guard let part = result.children(named: "Part").first(where: { $0.text(of: "PartNumber") == "\(number)" })
        else {
            // Where it is not begun behind the marker, it may come later.
            return result.text(of: "IsTruncated") == "true" ? nil : false
        }
        guard let listed = part.text(of: "ETag").flatMap(unquotedETag) else { return nil }
        return listed == etag && (part.text(of: "Size") ?? "\(length)") == "\(length)"
    }

    /// Joins the parts. The answer is 200 before the store knows whether it will succeed; an error then comes in the body.
    ///
    /// - Parameter mayBeDone: an earlier call may have succeeded without anybody knowing.
    func completeUpload(
        _ key: ObjectKey,
        _ id: String,
        _ etags: [String],
        length: Int64,
        mayBeDone: Bool = false
    ) throws(StoreError) {
        var document = "<CompleteMultipartUpload>"
        for (index, etag) in etags.enumerated() {
            document += "<Part><PartNumber>\(index + 1)</PartNumber><ETag>\"\(xmlEscaped(etag))\"</ETag></Part>"
        }
        document += "</CompleteMultipartUpload>"
        let request = S3Request(
            .put,
            "POST",
            key,
            query: [("uploadId", id)],
            headers: [("Content-Type", "application/xml")],
            body: .bytes(Array(document.utf8)),
            stallSeconds: configuration.completionStallSeconds
        )
        var attempts = 0
        try transport.retrying { () throws(StoreError) in
            attempts += 1
            let (response, body) = try transport.once(request, accepted: [404])
            if response.status != 404 {
                // The body says what became of the upload, so no document is no success.
                _ = try transport.document(body, request, response)
                return
            }
            let failure = transport.failure(of: request, response, body)
            // An answer got lost: the upload is gone because it was completed.
            if case .noSuchUpload = failure.kind, mayBeDone || attempts > 1, try head(key)?.size == length { return }
            throw failure
        }
    }

    func abortUpload(_ key: ObjectKey, _ id: String) throws(StoreError) {
        let request = S3Request(.put, "DELETE", key, query: [("uploadId", id)])
        _ = try transport.retrying { () throws(StoreError) in try finds(request) }
    }
}

/// What the threads that send parts tell each other.
final class UploadProgress: Sendable {
    private struct State {
        var etags: [String]
        var failure: StoreError?
    }

    private let state: Mutex<State>

    init(parts: Int) { state = Mutex(State(etags: Array(repeating: "", count: parts))) }

    var hasFailed: Bool { state.withLock { $0.failure != nil } }

    func finish(_ index: Int, etag: String) { state.withLock { $0.etags[index] = etag } }

    func fail(_ error: StoreError) { state.withLock { $0.failure = $0.failure ?? error } }

    func etags() throws(StoreError) -> [String] {
        let state = state.withLock { $0 }
        if let failure = state.failure { throw failure }
        return state.etags
    }
}

extension ObjectBody {
    /// The bytes in `range` alone.
    fileprivate func part(_ range: Range<Int64>) -> ObjectBody {
        switch self {
        case .bytes(let bytes):
            .bytes(Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        case .file(let file, let offset, _, _):
            .file(file, offset: offset + range.lowerBound, length: range.upperBound - range.lowerBound)
        }
    }
}
