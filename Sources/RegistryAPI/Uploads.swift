internal import EdgeCache
internal import HTTPServer
internal import OCI

extension RegistryHandler {
    /// POST: opens a session, mounts, or takes a whole blob. (distribution-spec, "Pushing blobs")
    func postUpload(_ name: RepositoryName, _ request: Request) throws(APIError) -> Reply {
        if let text = request.parameter("digest") {
            let digest = try parsedDigest(text)
            if let response = try known(name, digest, request) { return respond(response) }
            let chunk = try edge { () throws(EdgeError) in
                try edge.openBlob(name, as: digest, length: request.contentLength)
            }
            return .receive(UploadBody(chunk) { finishUpload(name, $0, as: digest) })
        }
        if let text = request.parameter("mount"), let response = try mount(name, try parsedDigest(text)) {
            return respond(response)
        }
        let algorithm = try requestedAlgorithm(request)
        let status = try edge { () throws(EdgeError) in try edge.beginUpload(name, algorithm: algorithm) }
        guard request.hasBody else { return respond(accepted(name, status)) }
        return try receiveChunk(name, status.id, request)
    }

    /// PATCH: one chunk, or a stream.
    func patchUpload(_ name: RepositoryName, _ id: String, _ request: Request) throws(APIError) -> Reply {
        try receiveChunk(name, id, request)
    }

    /// PUT: the last chunk, if any, and the digest of the whole.
    func putUpload(_ name: RepositoryName, _ id: String, _ request: Request) throws(APIError) -> Reply {
        guard let text = request.parameter("digest") else {
            throw APIError(status: 400, code: .digestInvalid, message: "the closing PUT needs a digest parameter")
        }
        let digest = try parsedDigest(text)
        if let response = try known(name, digest, request, closing: id) {
            try edge { () throws(EdgeError) in try edge.cancelUpload(name, id) }
            return respond(response)
        }
        let chunk = try openChunk(name, id, request, closing: digest)
        return .receive(UploadBody(chunk) { finishUpload(name, $0, as: digest) })
    }

    func uploadStatus(_ name: RepositoryName, _ id: String) throws(APIError) -> Response {
        let status = try edge { () throws(EdgeError) in try edge.uploadStatus(name, id) }
        return Response(status: 204, headers: progress(name, status.id, offset: status.offset), body: .empty)
    }

    func cancelUpload(_ name: RepositoryName, _ id: String) throws(APIError) -> Response {
        try edge { () throws(EdgeError) in try edge.cancelUpload(name, id) }
        return Response(status: 204, headers: [], body: .empty)
    }

    private func receiveChunk(_ name: RepositoryName, _ id: String, _ request: Request) throws(APIError) -> Reply {
        let chunk = try openChunk(name, id, request)
        return .receive(
            UploadBody(chunk) { chunk in
                do throws(EdgeError) {
                    return finished(accepted(name, try chunk.keep()))
                } catch {
                    return failed(APIError(error), "upload \(id) to \(name)")
                }
            }
        )
    }

    private func openChunk(
        _ name: RepositoryName,
        _ id: String,
        _ request: Request,
        closing digest: Digest? = nil
    ) throws(APIError) -> UploadChunk {
        var range: ContentRange?
        if let text = request.header("Content-Range") {
            range = ContentRange(text)
            guard range != nil else {
                throw APIError(
                    status: 400,
                    code: .blobUploadInvalid,
                    message: "the Content-Range is not of the form first-last"
                )
            }
        }
        do throws(EdgeError) {
            return try edge.openChunk(name, id, range: range, length: request.contentLength, closing: digest)
        } catch {
            throw failure(error, name, id)
        }
    }

    /// Whoever is to go on from elsewhere is told from where.
    private func failure(_ error: EdgeError, _ name: RepositoryName, _ id: String) -> APIError {
        var failure = APIError(error)
        switch error {
        case .chunkOutOfOrder(let offset), .bytesDropped(let offset):
            failure.headers = progress(name, id, offset: offset)
        default: break
        }
        return failure
    }

    private func finishUpload(_ name: RepositoryName, _ chunk: UploadChunk, as digest: Digest) -> Response {
        do throws(EdgeError) {
            try chunk.finish(as: digest)
            return finished(created(name, digest))
        } catch {
            return failed(failure(error, name, chunk.id), "upload of \(digest) to \(name)")
        }
    }

    /// A client that asks before it sends is told when there is nothing to send. (RFC 9110, section 10.1.1)
    private func known(
        _ name: RepositoryName,
        _ digest: Digest,
        _ request: Request,
        closing id: String? = nil
    ) throws(APIError) -> Response? {
        guard request.header("Expect")?.lowercased() == "100-continue", let length = request.contentLength else {
            return nil
        }
        var start: Int64 = 0
        if let id { start = try edge { () throws(EdgeError) in try edge.uploadStatus(name, id).offset } }
        // Of another length, it is no such blob.
        let size = try edge { () throws(EdgeError) in try edge.confirmedSize(digest) }
        return size == start &+ length ? created(name, digest) : nil
    }

    /// Blobs are shared by all repositories of the bucket, so a mount is a look whether the blob is there.
    private func mount(_ name: RepositoryName, _ digest: Digest) throws(APIError) -> Response? {
        let isThere = try edge { () throws(EdgeError) in try edge.provide(digest) }
        return isThere ? created(name, digest) : nil
    }

    private func created(_ name: RepositoryName, _ digest: Digest) -> Response {
        Response(
            status: 201,
            headers: [
                ("Location", "/v2/\(name)/blobs/\(digest)"), ("Docker-Content-Digest", digest.description),
            ],
            body: .empty
        )
    }

    private func accepted(_ name: RepositoryName, _ status: UploadStatus) -> Response {
        Response(status: 202, headers: progress(name, status.id, offset: status.offset), body: .empty)
    }

    /// An empty upload stands at `0-0`, for want of a way to write an empty range.
    private func progress(_ name: RepositoryName, _ id: String, offset: Int64) -> [(name: String, value: String)] {
        [
            ("Location", "/v2/\(name)/blobs/uploads/\(id)"),
            ("Range", "0-\(max(0, offset - 1))"),
            ("Docker-Upload-UUID", id),
        ]
    }

    private func requestedAlgorithm(_ request: Request) throws(APIError) -> DigestAlgorithm {
        guard let text = request.parameter("digest-algorithm") else { return .sha256 }
        guard let algorithm = DigestAlgorithm(rawValue: text) else {
            throw APIError(
                status: 400,
                code: .digestInvalid,
                message: "the digest algorithm must be sha256 or sha512"
            )
        }
        return algorithm
    }

    private func parsedDigest(_ text: String) throws(APIError) -> Digest {
        do throws(NameError) {
            return try Digest(text)
        } catch {
            throw APIError(error)
        }
    }
}

/// Feeds a request's body into an upload.
private final class UploadBody: BodyReceiver {
    private let chunk: UploadChunk
    private let complete: (UploadChunk) -> Response

    init(_ chunk: UploadChunk, complete: @escaping (UploadChunk) -> Response) {
        self.chunk = chunk
        self.complete = complete
    }

    func receive(_ bytes: Span<UInt8>) { chunk.append(bytes) }
    func finish() -> Response { complete(chunk) }
    func abandon() { chunk.abandon() }
}
