public import Metrics
internal import OCI
internal import System
internal import Threading

/// What was asked of an origin, and what it answered.
public final class StoreMeter: Sendable {
    /// A status where there is one, else what became of the request.
    static let codes = [
        "200", "201", "202", "204", "206", "304", "307", "400", "401", "403", "404", "405", "408", "409", "411", "412",
        "416", "429", "500", "501", "502", "503", "504", "507",
        "unreachable", "timeout", "cancelled", "error",
    ]
    static let operations = ["head", "get", "put", "delete", "list", "check", "probe"]

    private let requests = StripedCounters(count: codes.count * operations.count)
    private let bytes = StripedCounters(count: 2)

    public init() {}

    func count(_ operation: String, _ code: String) {
        guard let row = Self.operations.firstIndex(of: operation) else {
            preconditionFailure("no operation \(operation)")
        }
        let column = Self.codes.firstIndex(of: code) ?? Self.codes.count - 1
        requests.add(at: row * Self.codes.count + column)
    }

    /// A request to a store that tells of each.
    public func count(_ operation: StoreError.Operation, _ code: String) { count(operation.rawValue, code) }

    /// What was never tried is no request.
    fileprivate func count(_ operation: String, _ error: StoreError) {
        if error.wasTried { count(operation, error.outcome) }
    }

    func received(_ count: Int) { bytes.add(UInt64(count), at: 0) }
    func sent(_ count: Int64) { bytes.add(UInt64(count), at: 1) }

    func write(to page: inout Exposition) {
        let help = "Requests to the origin, by the status of the answer or what became of them."
        page.family("forebay_origin_requests_total", .counter, help)
        for (row, operation) in Self.operations.enumerated() {
            for (column, code) in Self.codes.enumerated() {
                let count = requests[row * Self.codes.count + column]
                if count > 0 || code == "200" {
                    page.sample("forebay_origin_requests_total", ["operation": operation, "code": code], count)
                }
            }
        }
        page.family("forebay_origin_bytes_total", .counter, "Bytes of objects that went to and came from the origin.")
        page.sample("forebay_origin_bytes_total", ["direction": "received"], bytes[0])
        page.sample("forebay_origin_bytes_total", ["direction": "sent"], bytes[1])
    }
}

/// Counts what goes through to a store.
public final class MeteredStore: ObjectStore {
    private let store: any ObjectStore
    private let meter: StoreMeter
    private let tellsRequests: Bool

    /// - Parameter tellsRequests: the store counts its requests itself; of others each operation is one.
    public init(_ store: any ObjectStore, _ meter: StoreMeter, tellsRequests: Bool = false) {
        self.store = store
        self.meter = meter
        self.tellsRequests = tellsRequests
    }

    public var description: String { store.description }
    public var capabilities: StoreCapabilities { store.capabilities }
    public var health: StoreHealth { store.health }
    public var availability: StoreAvailability { store.availability }

    public func write(to page: inout Exposition) {
        meter.write(to: &page)
        let health = store.health
        page.single("forebay_origin_up", .gauge, "0 while the origin is down.", availability.isDown ? 0 : 1)
        page.single("forebay_origin_outages_total", .counter, "How often the origin went down.", health.outages)
        page.single("forebay_origin_retries_total", .counter, "Requests sent again.", health.retries)
        page.single(
            "forebay_origin_retries_denied_total",
            .counter,
            "Requests not sent again, because too many had been.",
            health.retriesDenied
        )
        guard let connections = health.connections else { return }
        page.single(
            "forebay_origin_connections_opened_total",
            .counter,
            "Connections opened to the origin.",
            connections.opened
        )
        page.family(
            "forebay_origin_connections",
            .gauge,
            "Connections to the origin; an idle one may be closed at its other end."
        )
        page.sample("forebay_origin_connections", ["state": "in_use"], connections.inUse)
        page.sample("forebay_origin_connections", ["state": "idle"], connections.idle)
    }

    public func head(_ key: ObjectKey) throws(StoreError) -> ObjectInfo? {
        try count("head", { $0 == nil ? "404" : "200" }) { () throws(StoreError) in try store.head(key) }
    }

    public func holds(_ key: ObjectKey, _ body: ObjectBody) throws(StoreError) -> Bool {
        try count("head", { $0 ? "200" : "404" }) { () throws(StoreError) in try store.holds(key, body) }
    }

    public func get(
        _ key: ObjectKey,
        range: Range<Int64>?,
        ifNoneMatch: String?,
        isCancelled: @escaping @Sendable () -> Bool,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome {
        try count("get", \.code) { () throws(StoreError) in
            try store.get(key, range: range, ifNoneMatch: ifNoneMatch, isCancelled: isCancelled, begin: begin) {
                piece in
                meter.received(piece.count)
                try receive(piece)
            }
        }
    }

    public func put(
        _ key: ObjectKey,
        _ body: ObjectBody,
        contentType: String?,
        condition: PutCondition
    ) throws(StoreError) -> PutOutcome {
        let outcome = try count("put", \.code) { () throws(StoreError) in
            try store.put(key, body, contentType: contentType, condition: condition)
        }
        if case .stored = outcome { meter.sent(body.length) }
        return outcome
    }

    public func delete(_ key: ObjectKey) throws(StoreError) {
        try count("delete") { () throws(StoreError) in try store.delete(key) }
    }

    public func delete(_ keys: [ObjectKey]) throws(StoreError) {
        try count("delete") { () throws(StoreError) in try store.delete(keys) }
    }

    public func list(
        prefix: String,
        delimiter: String?,
        after: String?,
        continuation: String?,
        limit: Int
    ) throws(StoreError) -> ListPage {
        try count("list") { () throws(StoreError) in
            try store.list(
                prefix: prefix,
                delimiter: delimiter,
                after: after,
                continuation: continuation,
                limit: limit
            )
        }
    }

    public var multipart: MultipartTraits { store.multipart }

    public func beginUpload(_ key: ObjectKey, contentType: String?) throws(StoreError) -> MultipartUpload {
        try count("put") { () throws(StoreError) in try store.beginUpload(key, contentType: contentType) }
    }

    public func putPart(
        _ number: Int,
        at offset: Int64,
        of upload: MultipartUpload,
        _ body: ObjectBody
    ) throws(StoreError) -> UploadedPart {
        let part = try count("put") { () throws(StoreError) in
            try store.putPart(number, at: offset, of: upload, body)
        }
        meter.sent(body.length)
        return part
    }

    public func completeUpload(
        _ upload: MultipartUpload,
        _ parts: [UploadedPart],
        as key: ObjectKey
    ) throws(StoreError) {
        try count("put") { () throws(StoreError) in try store.completeUpload(upload, parts, as: key) }
    }

    public func abortUpload(_ upload: MultipartUpload) throws(StoreError) {
        try count("delete") { () throws(StoreError) in try store.abortUpload(upload) }
    }

    public var clockOffsetSeconds: Int64 { store.clockOffsetSeconds }

    public func pendingUploads(prefix: String, continuation: String?) throws(StoreError) -> PendingUploadPage {
        try count("list") { () throws(StoreError) in
            try store.pendingUploads(prefix: prefix, continuation: continuation)
        }
    }

    public func check(isCancelled: @escaping @Sendable () -> Bool) throws(StoreError) {
        try count("check") { () throws(StoreError) in try store.check(isCancelled: isCancelled) }
    }

    public func probe(at key: ObjectKey) throws(StoreError) -> StoreCapabilities {
        try count("probe") { () throws(StoreError) in try store.probe(at: key) }
    }

    private func count<Answer>(
        _ operation: String,
        _ code: (Answer) -> String = { _ in "200" },
        _ body: () throws(StoreError) -> Answer
    ) throws(StoreError) -> Answer {
        guard !tellsRequests else { return try body() }
        do throws(StoreError) {
            let answer = try body()
            meter.count(operation, code(answer))
            return answer
        } catch {
            meter.count(operation, error)
            throw error
        }
    }
}

extension GetOutcome {
    fileprivate var code: String {
        switch self {
        case .complete: "200"
        case .notModified: "304"
        case .notFound: "404"
        }
    }
}

extension PutOutcome {
    fileprivate var code: String {
        switch self {
        case .stored: "200"
        case .conditionFailed: "412"
        }
    }
}

extension StoreError {
    /// The status of the answer, or what became of the request.
    var outcome: String {
        if let status, status >= 300 { return "\(status)" }
        return switch kind {
        case .unreachable: "unreachable"
        case .timeout: "timeout"
        // Whoever asked did not want the rest.
        case .receiver: "cancelled"
        default: "error"
        }
    }
}
