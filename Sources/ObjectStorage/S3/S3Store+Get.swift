internal import System
internal import HTTPClient
internal import OCI
internal import Synchronization

extension S3Store {
    /// A transfer that breaks is continued from where it stopped, as long as the object is still the same.
    public func get(
        _ key: ObjectKey,
        range: Range<Int64>?,
        ifNoneMatch: String?,
        isCancelled: @escaping @Sendable () -> Bool,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome {
        precondition(range.map { !$0.isEmpty && $0.lowerBound >= 0 } ?? true, "a range of no bytes")
        var download = Download(key: key, range: range, ifNoneMatch: ifNoneMatch)
        download.trustsETags = tellsMD5s
        return try transport.retrying { () throws(StoreError) in
            try attempt(&download, isCancelled, begin: begin, receive: receive)
        }
    }

    private func attempt(
        _ download: inout Download,
        _ isCancelled: @escaping @Sendable () -> Bool,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome {
        if let info = download.info, download.rest == 0 { return .complete(info) }
        var request = download.request()
        let attempt = try transport.circuit.admit(request, in: transport.endpoint.description)
        let signed = try transport.sign(&request)
        var errorBody: [UInt8] = []
        var deadline: UInt64?
        var status = 0
        let response: Response
        do throws(TransferError) {
            response = try transport.client.perform(
                signed,
                isCancelled: { attempt.isHopeless() || isCancelled() },
                onHead: { response in
                    status = response.status
                    guard isContent(response) else { return }
                    try requireObject(request, response)
                    attempt.answered()
                    noteRead()
                    let isContinued = download.info != nil
                    if download.trustsETags { try requireETag(request, response) }
                    let info = try download.accept(response, request, transport)
                    let limit = configuration.limit(bytes: response.contentLength ?? 0)
                    deadline = transport.time.monotonicNanoseconds() + UInt64(limit.components.seconds) * 1_000_000_000
                    if !isContinued { try receiving(request) { try begin(info) } }
                },
                receive: { response, piece in
                    guard isContent(response) else {
                        let room = S3Limits.errorBodyBytes - errorBody.count
                        return errorBody.append(piece.extracting(first: room))
                    }
                    if let deadline, transport.time.monotonicNanoseconds() > deadline { throw TooSlow() }
                    let wanted = piece.extracting(download.take(Int64(piece.count)))
                    if !wanted.isEmpty { try receiving(request) { try receive(wanted) } }
                    if download.rest == 0, download.hasSurplus { throw EnoughReceived() }
                }
            )
        } catch {
            if case .receiver(is EnoughReceived) = error.kind, let info = download.info {
                configuration.requested(.get, "\(status)")
                return .complete(info)
            }
            if case .receiver(is TooSlow) = error.kind {
                let message = "fewer than \(configuration.leastBytesPerSecond) bytes a second"
                let failure = transport.failure(of: request, .timeout, message)
                throw continuable(download, transport.counted(failure, request))
            }
            throw attempt.ended(continuable(download, transport.countedFailure(of: request, error)))
        }
        do throws(StoreError) {
            let outcome = try conclude(download, request, response, errorBody)
            attempt.answered()
            configuration.requested(.get, "\(status)")
            return outcome
        } catch {
            throw attempt.ended(transport.counted(error, request))
        }
    }

    private func conclude(
        _ download: Download,
        _ request: S3Request,
        _ response: Response,
        _ errorBody: [UInt8]
    ) throws(StoreError) -> GetOutcome {
        if isContent(response), let info = download.info {
            guard download.rest == 0 else {
                let message = "\(download.rest) bytes are missing"
                throw continuable(download, transport.failure(of: request, .damagedBody, message, isRetryable: true))
            }
            return .complete(info)
        }
        let failure = transport.failure(of: request, response, errorBody)
        switch response.status {
        case 304 where download.info == nil && download.ifNoneMatch != nil:
            return .notModified
        case 404 where download.info == nil:
            try requireAbsence(request, response, errorBody)
            return .notFound
        case 403 where download.info == nil && isMissing(failure):
            return .notFound
        case 201..<300, 304:
            throw transport.failure(of: request, .invalidResponse, "an unexpected status", response)
        default:
            throw continuable(download, failure)
        }
    }

    /// Runs a closure of the caller, whose errors must be told from those of the transfer.
    private func receiving(_ request: S3Request, _ body: () throws -> Void) throws(StoreError) {
        do {
            try body()
        } catch {
            throw transport.failure(of: request, .receiver(error), "")
        }
    }

    /// Without an ETag nobody can tell whether the rest would belong to what was delivered.
    private func continuable(_ download: Download, _ error: StoreError) -> StoreError {
        download.info != nil && download.info?.etag == nil ? error.final : error
    }
}

/// Nothing more is wanted of a body that goes on.
private struct EnoughReceived: Error {}
/// The body trickles.
private struct TooSlow: Error {}

private func isContent(_ response: Response) -> Bool { response.status == 200 || response.status == 206 }

/// How far a download has come, over all of its attempts.
private struct Download {
    let key: ObjectKey
    let range: Range<Int64>?
    let ifNoneMatch: String?
    /// Whether an ETag may be taken for an MD5.
    var trustsETags = false
    /// Of the first answer.
    private(set) var info: ObjectInfo?
    /// The next byte wanted, and where the wanted ones end.
    private var position: Int64 = 0
    private var end: Int64 = 0
    /// Bytes of the running body before the first wanted one.
    private var surplusBefore: Int64 = 0
    /// The running body goes on after the last wanted byte.
    private(set) var hasSurplus = false

    init(key: ObjectKey, range: Range<Int64>?, ifNoneMatch: String?) {
        self.key = key
        self.range = range
        self.ifNoneMatch = ifNoneMatch
    }

    /// Bytes still wanted.
    var rest: Int64 { end - position }

    func request() -> S3Request {
        var request = S3Request(.get, "GET", key)
        if info != nil {
            request.headers.append(("Range", "bytes=\(position)-\(end - 1)"))
        } else {
            if let range {
                let last = range.upperBound == .max ? "" : "\(range.upperBound - 1)"
                request.headers.append(("Range", "bytes=\(range.lowerBound)-\(last)"))
            }
            if let ifNoneMatch { request.headers.append(("If-None-Match", "\"\(ifNoneMatch)\"")) }
        }
        return request
    }

    /// Checks the head of a body against what was asked. A store that ignores ranges brings the whole object.
    mutating func accept(
        _ response: Response,
        _ request: S3Request,
        _ transport: S3Transport
    ) throws(StoreError) -> ObjectInfo {
        func invalid(_ message: String) -> StoreError {
            transport.failure(of: request, .invalidResponse, message, response)
        }
        let part: BodyRange
        // What the header says counts, not the status: some stores send a part under 200.
        if let text = response.header("Content-Range") {
            guard let parsed = BodyRange(text) else { throw invalid("a Content-Range that cannot be true") }
            // One of them is false. Nothing was taken yet, so it may be asked for anew.
            guard response.contentLength == nil || response.contentLength == Int64(parsed.bytes.count) else {
                throw invalid("a Content-Length that is not the part's").passing
            }
            part = parsed
        } else {
            guard response.status == 200, let size = response.contentLength, size >= 0 else {
                throw invalid("a body of unknown length")
            }
            part = BodyRange(bytes: 0..<size, size: size)
        }
        guard part.size <= S3Limits.largestObjectBytes else {
            throw invalid("an object of \(part.size) bytes cannot be")
        }
        var info = ObjectInfo(size: part.size, response)
        if trustsETags { info.trustETag(response) }
        if let first = self.info {
            guard first.size == info.size, first.etag == info.etag else {
                throw transport.failure(of: request, .conflict, "the object was replaced while it was read", response)
            }
        } else {
            position = range?.lowerBound ?? 0
            guard range == nil || position < part.size else {
                throw transport.failure(of: request, .invalidRange, "the object has \(part.size) bytes", response)
            }
            end = min(range?.upperBound ?? part.size, part.size)
        }
        let isWhole = part.bytes == 0..<part.size
        guard isWhole || part.bytes == position..<end else {
            throw invalid("asked for the bytes \(position)-\(end - 1), got \(part.bytes)")
        }
        info.cameWhole = range != nil && isWhole && part.bytes != position..<end
        self.info = self.info ?? info
        surplusBefore = position - part.bytes.lowerBound
        hasSurplus = part.bytes.upperBound > end
        return info
    }

    /// Which of the next `count` bytes of the body are wanted.
    mutating func take(_ count: Int64) -> Range<Int> {
        let before = min(surplusBefore, count)
        surplusBefore -= before
        let wanted = min(rest, count - before)
        position += wanted
        return Int(before)..<Int(before + wanted)
    }
}

/// Which bytes of what a body holds: `bytes 0-499/1234` (RFC 9110, section 14.4).
struct BodyRange: Equatable {
    let bytes: Range<Int64>
    /// Of the whole object.
    let size: Int64

    init(bytes: Range<Int64>, size: Int64) {
        self.bytes = bytes
        self.size = size
    }

    init?(_ text: String) {
        guard text.lowercased().hasPrefix("bytes ") else { return nil }
        let parts = text.utf8.dropFirst(6)
            .split(omittingEmptySubsequences: false) { $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "/") }
        guard parts.count == 3, let first = Int64(digits: parts[0]), let last = Int64(digits: parts[1]),
            let size = Int64(digits: parts[2]), first <= last, last < size
        else { return nil }
        self.init(bytes: first..<last + 1, size: size)
    }
}
