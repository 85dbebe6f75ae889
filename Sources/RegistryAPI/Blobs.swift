internal import DiskTier
internal import EdgeCache
internal import HTTPServer
internal import OCI
internal import System
internal import Threading

extension RegistryHandler {
    /// GET and HEAD of a blob, with ranges. (distribution-spec, "Pulling blobs")
    func blob(_ digest: Digest, _ request: Request) throws(APIError) -> Response {
        let unknown = { APIError(status: 404, code: .blobUnknown, message: "blob \(digest) does not exist") }
        guard request.method == "GET" else {
            let size = try edge { () throws(EdgeError) in try edge.findSize(digest, noting: request.note(_:)) }
            guard let size else { throw unknown() }
            let response = Response(status: 200, headers: blobHeaders(digest), body: .withheld(length: size))
            return response.marked(isOriginDown: request.isHit && edge.isOriginDown)
        }
        let found = try edge { () throws(EdgeError) in
            try edge.find(digest, near: rangeStart(request), noting: request.note(_:))
        }
        guard let content = found else { throw unknown() }
        return try answer(digest, content, request).marked(isOriginDown: request.isHit && edge.isOriginDown)
    }

    func blobHeaders(_ digest: Digest) -> [(name: String, value: String)] {
        let text = digest.description
        return [
            ("Docker-Content-Digest", text), ("ETag", "\"\(text)\""), ("Accept-Ranges", "bytes"),
            ("Content-Type", MediaType.octetStream.rawValue),
        ]
    }

    /// Answers with a blob, or what the request wants of it.
    func answer(_ digest: Digest, _ content: BlobContent, _ request: Request) throws(APIError) -> Response {
        var headers = blobHeaders(digest)
        let size = content.size
        guard request.method == "GET" else {
            return Response(status: 200, headers: headers, body: .withheld(length: size))
        }
        if request.isForWhole {
            return Response(status: 200, headers: headers, body: try body(content, 0..<size, request))
        }
        let etag = "\"\(digest)\""
        if request.header("If-None-Match") == etag { return Response(status: 304, headers: headers, body: .empty) }
        // A range that is conditional on another version is no range.
        let isRangeValid = request.header("If-Range").map { $0 == etag } ?? true
        switch ByteRange.parse(isRangeValid ? request.header("Range") : nil, size: size) {
        case .whole:
            return Response(status: 200, headers: headers, body: try body(content, 0..<size, request))
        case .partial(let range):
            headers.append(("Content-Range", "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)"))
            let content = try edge { () throws(EdgeError) in
                try forRanges(digest, content, near: range.lowerBound, request)
            }
            return Response(status: 206, headers: headers, body: try body(content, range, request))
        case .unsatisfiable:
            throw APIError(
                status: 416,
                code: .sizeInvalid,
                message: "the range lies outside of the blob's \(size) bytes",
                headers: [("Content-Range", "bytes */\(size)")]
            )
        }
    }

    /// Nothing was sent yet: what was touched while it was hashed is hashed again, and what proved to be damaged was put aside; the origin has it.
    private func forRanges(
        _ digest: Digest,
        _ content: BlobContent,
        near offset: Int64,
        _ request: Request
    ) throws(EdgeError) -> BlobContent {
        var content = content
        for _ in 0..<2 {
            do throws(EdgeError) {
                return try content.forRanges()
            } catch {
                guard case .tier(let reason) = error, reason.isOfContent,
                    let other = try edge.find(digest, near: offset, noting: request.note(_:))
                else { throw error }
                content = other
            }
        }
        return try content.forRanges()
    }

    private func body(
        _ content: BlobContent,
        _ range: Range<Int64>,
        _ request: Request
    ) throws(APIError) -> Response.Body {
        try edge { () throws(EdgeError) in try content.begin(range) { !request.hasHungUp } }
        return content.body(range)
    }

    /// Where the client wants to read, before anybody knows the blob's size: a range from its end cannot be told yet.
    private func rangeStart(_ request: Request) -> Int64 {
        let limit: Int64 = 1 << 50
        guard case .partial(let range) = ByteRange.parse(request.header("Range"), size: limit),
            range.upperBound < limit || request.header("Range")?.hasSuffix("-") == true
        else { return 0 }
        return range.lowerBound
    }

    func deleteBlob(_ digest: Digest) throws(APIError) -> Response {
        guard try edge({ () throws(EdgeError) in try edge.deleteBlob(digest) }) else {
            throw APIError(status: 404, code: .blobUnknown, message: "blob \(digest) does not exist")
        }
        return Response(status: 202, headers: [], body: .empty)
    }
}

extension BlobContent {
    fileprivate func body(_ range: Range<Int64>) -> Response.Body {
        switch self {
        case .bytes(let bytes):
            range.count == bytes.count
                ? .bytes(bytes) : .bytes(Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        case .file(let file, let status):
            .file(file, status, offset: range.lowerBound, length: Int64(range.count))
        case .stream(let stream, _):
            .stream(length: Int64(range.count), StreamedBlob(stream, from: range.lowerBound))
        }
    }
}

/// A blob that is still arriving, as a response body. What it asks of the origin belongs to its request's trace.
private final class StreamedBlob: BodyProducer {
    private let stream: any BlobStream
    private let start: Int64
    private let trace = TraceContext.current

    init(_ stream: any BlobStream, from start: Int64) {
        self.stream = stream
        self.start = start
    }

    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws {
        try traced { try stream.read(at: start + offset, into: &buffer) }
    }

    func produceAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {
        traced { stream.readAtOnce(at: start + offset, into: &buffer) }
    }

    // Only of a whole, which begins at 0.

    var file: File? { stream.file }

    func countInFile(from offset: Int64) -> Int64 { traced { stream.countInFile(from: offset) } }

    func waitForFile(at offset: Int64) -> Bool { traced { stream.waitForFile(at: offset) } }

    private func traced<Result>(_ body: () throws -> Result) rethrows -> Result {
        guard let trace else { return try body() }
        return try TraceContext.$current.withValue(trace, operation: body)
    }
}
