internal import HTTPClient
internal import System
internal import Threading

extension S3Store {
    public var multipart: MultipartTraits {
        MultipartTraits(
            thresholdBytes: configuration.multipartThresholdBytes,
            partBytes: configuration.partBytes,
            partsInFlight: configuration.partsInFlight,
            movesCheaply: moving.isCheap(now: transport.time.monotonicNanoseconds())
        )
    }

    public func beginUpload(_ key: ObjectKey, contentType: String?) throws(StoreError) -> MultipartUpload {
        MultipartUpload(key: key, id: try createUpload(key, contentType: contentType))
    }

    public func putPart(
        _ number: Int,
        at offset: Int64,
        of upload: MultipartUpload,
        _ body: ObjectBody
    ) throws(StoreError) -> UploadedPart {
        let start = transport.time.monotonicNanoseconds()
        let etag = try doubtingLoss(of: upload) { () throws(StoreError) in
            try uploadPart(upload.key, upload.id, number: number, body)
        }
        moving.sent(body.length, in: transport.time.monotonicNanoseconds() - start)
        return UploadedPart(number: number, etag: etag, length: body.length)
    }

    /// An upload is bound to its key; under another one the object is copied by the store.
    public func completeUpload(
        _ upload: MultipartUpload,
        _ parts: [UploadedPart],
        as key: ObjectKey
    ) throws(StoreError) {
        let length = parts.reduce(0) { $0 + $1.length }
        do throws(StoreError) {
            try doubtingLoss(of: upload) { () throws(StoreError) in
                try completeUpload(upload.key, upload.id, parts.map(\.etag), length: length, mayBeDone: true)
            }
        } catch {
            // Ceph fails with 500 when the upload has gone.
            guard case .serverFailure = error.kind, try !exists(upload) else { throw error }
            guard try head(upload.key)?.size == length else {
                let request = S3Request(.put, "POST", upload.key)
                throw transport.failure(of: request, .noSuchUpload, "it was aborted")
            }
        }
        let info = try confirm(upload.key, length: length)
        guard upload.key != key else { return }
        let start = transport.time.monotonicNanoseconds()
        do throws(StoreError) {
            try copy(upload.key, to: key, length: length, contentType: info.contentType)
        } catch {
            if !error.isRetryable { moving.refused(now: transport.time.monotonicNanoseconds()) }
            throw error
        }
        let end = transport.time.monotonicNanoseconds()
        let streams = configuration.partsInFlight
        moving.copied(length, of: parts.count, in: end - start, streams: streams, now: end)
        try confirm(key, length: length)
        // What stays behind is removed with the abandoned uploads.
        try? delete(upload.key)
    }

    /// The parts of an upload may be nowhere else, so whoever says once that there is none is asked again, in another way.
    private func doubtingLoss<Answer>(
        of upload: MultipartUpload,
        _ body: () throws(StoreError) -> Answer
    ) throws(StoreError) -> Answer {
        do throws(StoreError) {
            return try body()
        } catch {
            guard case .noSuchUpload = error.kind, try exists(upload) else { throw error }
            let request = S3Request(.put, "PUT", upload.key)
            let message = "the store denied an upload that it lists"
            throw transport.failure(of: request, .conflict, message, isRetryable: true)
        }
    }

    /// Amazon S3 API Reference, "ListParts".
    private func exists(_ upload: MultipartUpload) throws(StoreError) -> Bool {
        let query = [("max-parts", "1"), ("uploadId", upload.id)]
        let request = S3Request(.list, "GET", upload.key, query: query)
        return try transport.retrying { () throws(StoreError) in try finds(request) }
    }

    public func abortUpload(_ upload: MultipartUpload) throws(StoreError) {
        try abortUpload(upload.key, upload.id)
    }

    /// Amazon S3 API Reference, "ListMultipartUploads".
    public func pendingUploads(prefix: String, continuation: String?) throws(StoreError) -> PendingUploadPage {
        var request = S3Request(.list, "GET")
        request.query = [
            ("uploads", ""), ("prefix", prefix), ("encoding-type", "url"), ("max-uploads", "\(S3Limits.keysPerPage)"),
        ]
        if let markers = continuation?.split(separator: "\n", omittingEmptySubsequences: false), markers.count == 2 {
            request.query += [("key-marker", String(markers[0])), ("upload-id-marker", String(markers[1]))]
        }
        let (response, body) = try transport.exchange(request, bodyLimitBytes: S3Limits.answerBytes)
        guard let page = PendingUploadPage(try transport.document(body, request, response), prefix: prefix) else {
            throw transport.failure(of: request, .invalidResponse, "not a listing of uploads", response)
        }
        return page
    }
}

extension PendingUploadPage {
    /// `nil` when the document is no result of ListMultipartUploads.
    fileprivate init?(_ result: XMLElement, prefix: String) {
        guard result.name == "ListMultipartUploadsResult" else { return nil }
        let isEncoded = result.text(of: "EncodingType") == "url"
        func decoded(_ text: String) -> String? { isEncoded ? percentDecoded(text) : text }
        self.init()
        for entry in result.children(named: "Upload") {
            guard let name = entry.text(of: "Key").flatMap(decoded), let id = entry.text(of: "UploadId") else {
                return nil
            }
            // Other programs' names are none of our keys; and some stores do not heed the prefix.
            guard let key = try? ObjectKey(name), starts(name, with: prefix) else { continue }
            let started = entry.text(of: "Initiated").flatMap { WallTime(rfc3339: $0) }
            uploads.append(PendingUpload(MultipartUpload(key: key, id: id), started: started))
        }
        guard result.text(of: "IsTruncated") == "true" else { return }
        guard let key = result.text(of: "NextKeyMarker").flatMap(decoded),
            let id = result.text(of: "NextUploadIdMarker")
        else { return nil }
        continuation = "\(key)\n\(id)"
    }
}

// MARK: - Copies

extension S3Store {
    /// Lets the store copy an object: in one request, or in parallel parts where it is larger than one may copy.
    func copy(_ source: ObjectKey, to key: ObjectKey, length: Int64, contentType: String?) throws(StoreError) {
        guard length > configuration.largestCopyBytes else {
            let request = S3Request(
                .put,
                "PUT",
                key,
                headers: configuration.objectOptions.headers + [("x-amz-copy-source", copySource(source))],
                stallSeconds: configuration.completionStallSeconds
            )
            _ = try copyResult(request, "CopyObjectResult")
            return
        }
        let id = try createUpload(key, contentType: contentType)
        do throws(StoreError) {
            let plan = PartPlan(length: length, wanted: configuration.largestCopyBytes)
            let progress = UploadProgress(parts: plan.count)
            pool.forEach(below: plan.count, width: configuration.partsInFlight) { index in
                guard !progress.hasFailed else { return }
                do throws(StoreError) {
                    progress.finish(
                        index,
                        etag: try self.copyPart(source, plan.range(of: index), key, id, number: index + 1)
                    )
                } catch {
                    progress.fail(error)
                }
            }
            try completeUpload(key, id, try progress.etags(), length: length)
        } catch {
            // The first error is the one to report; what stays is aborted with the abandoned uploads.
            try? abortUpload(key, id)
            throw error
        }
    }

    /// Amazon S3 API Reference, "UploadPartCopy".
    private func copyPart(
        _ source: ObjectKey,
        _ range: Range<Int64>,
        _ key: ObjectKey,
        _ id: String,
        number: Int
    ) throws(StoreError) -> String {
        let request = S3Request(
            .put,
            "PUT",
            key,
            query: [("partNumber", "\(number)"), ("uploadId", id)],
            headers: [
                ("x-amz-copy-source", copySource(source)),
                ("x-amz-copy-source-range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)"),
            ],
            stallSeconds: configuration.completionStallSeconds
        )
        guard let etag = try copyResult(request, "CopyPartResult").text(of: "ETag").flatMap(unquotedETag) else {
            throw transport.failure(of: request, .invalidResponse, "a part without an ETag")
        }
        return etag
    }

    /// The answer may be 200 before the store knows whether it will succeed; an error then comes in the body.
    private func copyResult(_ request: S3Request, _ name: String) throws(StoreError) -> XMLElement {
        try transport.retrying { () throws(StoreError) in
            let (response, body) = try transport.once(request)
            let result = try transport.document(body, request, response)
            guard result.name == name else { throw transport.failure(of: request, response, body) }
            return result
        }
    }

    private func copySource(_ key: ObjectKey) -> String {
        "/\(percentEncoded(configuration.endpoint.bucket))/\(percentEncoded(key.description, keepingSlash: true))"
    }
}
