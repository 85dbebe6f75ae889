public import EdgeCache
public import HTTPServer
public import Metrics
internal import Synchronization
public import System
internal import Threading

/// What a request's path names, for counting: a label that is known from the start.
public enum RouteLabel: UInt8, Sendable, CaseIterable {
    case other, support, catalog, tags, referrers, manifest, blob, uploads, upload, metrics, healthz, readyz
}

extension RouteLabel {
    /// Of a path that nobody has looked at, or that names nothing valid.
    init(shapeOf path: String) {
        let segments = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .map { String(Substring($0)) }
        guard segments.count >= 5, segments[0].isEmpty, segments[1] == "v2" else {
            self = .other
            return
        }
        self =
            switch (segments[segments.count - 2], segments[segments.count - 1]) {
            case ("blobs", "uploads"): .uploads
            case ("uploads", let last): last.isEmpty ? .uploads : .upload
            case ("blobs", _): .blob
            case ("manifests", _): .manifest
            case ("tags", "list"): .tags
            case ("referrers", _): .referrers
            default: .other
            }
    }
}

/// Counts requests, and writes the access log.
///
/// Counting is a few relaxed atomic additions; a line of the log is made only for a request that is logged.
public final class RequestObserver: Sendable {
    /// Which requests are logged.
    public enum AccessLog: Sendable, Equatable {
        case off
        /// One in so many, and all that failed: with a status from 500 on, or with an answer that was broken off here.
        case sampled(oneIn: Int)
        case full
    }

    private static let methods = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "other"]
    private static let codes = [
        200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 409, 413, 414, 416, 429, 431, 499, 500, 501, 502, 503,
        504, 507,
    ]
    private static let pathLimitBytes = 1024
    private static let agentLimitBytes = 200
    private static let methodLimitBytes = 32

    private let accessLog: AccessLog
    private let time: any TimeSource
    /// `nil` without an access log.
    private let log: LogWriter?
    private let requests = StripedCounters(count: RouteLabel.allCases.count * methods.count * (codes.count + 1))
    private let received = StripedCounters(count: RouteLabel.allCases.count)
    private let sent = StripedCounters(count: RouteLabel.allCases.count)
    private let broken = StripedCounters(count: RouteLabel.allCases.count)
    private let seconds = DurationHistogram(rows: RouteLabel.allCases.count)
    private let sequence = Atomic<UInt64>(0)
    /// Draws lots for a sampled log (SplitMix64).
    private let ends = Atomic<UInt64>(0)
    private let identity: UInt64

    /// - Parameters:
    ///   - write: takes lines of the access log with their line feeds, on a thread of its own that it may block: how many bytes it wrote, and why
    ///     not all (`errno`).
    ///   - report: told now and then how many lines were lost, and why they could not be written, unless it is that they came too fast.
    public init(
        accessLog: AccessLog = .off,
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(),
        write: @escaping @Sendable (String) -> (written: Int, code: Int32) = appendToStandardOutput,
        report: @escaping @Sendable (_ dropped: UInt64, _ code: Int32) -> Void = { _, _ in }
    ) {
        self.accessLog = accessLog
        self.time = time
        log = accessLog == .off ? nil : LogWriter(write, report: report)
        identity = random.next()
    }

    /// Names the request, by its client's own name if that is fit for a log. A second time changes nothing.
    func began(_ request: Request) {
        guard accessLog != .off, request.id.isEmpty else { return }
        if let given = request.header("X-Request-Id"), isSaneRequestID(given) { return request.id = given }
        request.id = identifier(sequence.wrappingAdd(1, ordering: .relaxed).newValue)
    }

    /// 13 characters, which a string holds without memory of its own: all numbers of this process, in an order that nobody else has.
    private func identifier(_ number: UInt64) -> String {
        // A multiplication by an odd number leaves no two the same.
        var rest = (number &+ identity) &* 0x9E37_79B9_7F4A_7C15
        return unsafe String(unsafeUninitializedCapacity: 13) { buffer in
            for index in 0..<13 {
                // Digits, then letters.
                let digit = UInt8(truncatingIfNeeded: rest & 31)
                unsafe buffer[index] = digit < 10 ? 48 + digit : 87 + digit
                rest >>= 5
            }
            return 13
        }
    }

    public func ended(_ request: Request, _ end: ExchangeEnd) {
        var note = RequestNote(request.note)
        if note.route == .other { note.route = RouteLabel(shapeOf: request.path) }
        let route = Int(note.route.rawValue)
        let method = Self.methods.firstIndex(of: request.method) ?? Self.methods.count - 1
        let code = Self.codes.firstIndex(of: end.status) ?? Self.codes.count
        requests.add(at: (route * Self.methods.count + method) * (Self.codes.count + 1) + code)
        seconds.record(end.nanoseconds, row: route)
        if end.receivedBytes > 0 { received.add(UInt64(end.receivedBytes), at: route) }
        if request.method != "HEAD" { sent.add(UInt64(end.bodyBytes), at: route) }
        if end.isBroken { broken.add(at: route) }
        switch accessLog {
        case .off: return
        case .sampled(let oneIn):
            guard end.status >= 500 || end.isBroken || isSampled(oneIn) else { return }
        case .full: break
        }
        // One that the server could not even read was never shown to a handler.
        began(request)
        log?.write(line(request, note, end))
    }

    /// By lot: of requests that come in turns, each N-th would always be the same.
    private func isSampled(_ oneIn: Int) -> Bool {
        var word = ends.wrappingAdd(0x9E37_79B9_7F4A_7C15, ordering: .relaxed).newValue &+ identity
        word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
        return (word ^ word >> 31).multipliedFullWidth(by: UInt64(oneIn)).high == 0
    }

    /// Writes what is left of the access log.
    public func close(within limit: Duration) { log?.close(until: .after(limit)) }

    private func line(_ request: Request, _ note: RequestNote, _ end: ExchangeEnd) -> String {
        var line = "{\"ts\":\"\(time.wallTime().rfc3339)\",\"id\":\(jsonString(request.id))"
        line +=
            ",\"client\":\(jsonString(request.clientAddress)),\"method\":\(jsonString(request.method.first(Self.methodLimitBytes)))"
        line += ",\"path\":\(jsonString(request.path.first(Self.pathLimitBytes)))"
        line += ",\"route\":\"\(note.route)\",\"status\":\(end.status)"
        line += ",\"bytes\":\(request.method == "HEAD" ? 0 : end.bodyBytes)"
        if end.receivedBytes > 0 { line += ",\"received\":\(end.receivedBytes)" }
        line += ",\"seconds\":\(Double(end.nanoseconds / 1000) / 1e6)"
        if let cache = note.cache { line += ",\"cache\":\"\(cache.name)\"" }
        if !end.isComplete { line += ",\"complete\":false" }
        if let trace = TraceContext(of: request) { line += ",\"traceparent\":\"\(trace.parent)\"" }
        if let agent = request.header("User-Agent") {
            line += ",\"agent\":\(jsonString(agent.first(Self.agentLimitBytes)))"
        }
        return line + "}\n"
    }

    /// What alerts look for is there before it happens: a series that begins with its first failures has not grown.
    private static func isAlwaysThere(_ route: RouteLabel, _ method: String, _ code: Int?) -> Bool {
        guard code == 502 || code == 503 else { return false }
        switch (route, method) {
        case (.manifest, "GET"), (.manifest, "PUT"), (.blob, "GET"): return true
        case (.uploads, "POST"), (.upload, "PUT"), (.upload, "PATCH"): return true
        default: return false
        }
    }

    public func write(to page: inout Exposition) {
        page.family("forebay_requests_total", .counter, "Requests that were answered or given up.")
        for route in RouteLabel.allCases {
            for (method, methodName) in Self.methods.enumerated() {
                for code in 0...Self.codes.count {
                    let row = Int(route.rawValue) * Self.methods.count + method
                    let count = requests[row * (Self.codes.count + 1) + code]
                    guard count > 0 || Self.isAlwaysThere(route, methodName, Self.codes.dropFirst(code).first) else {
                        continue
                    }
                    let codeName = code < Self.codes.count ? "\(Self.codes[code])" : "other"
                    page.sample(
                        "forebay_requests_total",
                        ["method": methodName, "route": "\(route)", "code": codeName],
                        count
                    )
                }
            }
        }
        page.family("forebay_request_seconds", .histogram, "From the request line to the last byte of the answer.")
        for route in RouteLabel.allCases {
            page.histogram("forebay_request_seconds", label: "route", "\(route)", Int(route.rawValue), of: seconds)
        }
        page.single(
            "forebay_access_log_dropped_total",
            .counter,
            "Lines that are lost: their reader was too slow, or they could not be written.",
            log?.droppedLines ?? 0
        )
        page.family(
            "forebay_broken_answers_total",
            .counter,
            "Answers that were broken off here after their status, since the rest could not be had or was wrong."
        )
        for route in RouteLabel.allCases {
            page.sample("forebay_broken_answers_total", ["route": "\(route)"], broken[Int(route.rawValue)])
        }
        page.family("forebay_received_bytes_total", .counter, "Bytes of the bodies of requests.")
        for route in RouteLabel.allCases {
            page.sample("forebay_received_bytes_total", ["route": "\(route)"], received[Int(route.rawValue)])
        }
        page.family("forebay_sent_bytes_total", .counter, "Bytes of the bodies of answers.")
        for route in RouteLabel.allCases {
            page.sample("forebay_sent_bytes_total", ["route": "\(route)"], sent[Int(route.rawValue)])
        }
    }
}

extension String {
    /// Its beginning.
    fileprivate func first(_ bytes: Int) -> String { String(decoding: utf8.prefix(bytes), as: UTF8.self) }
}

/// What is kept with a request until it ends.
public struct RequestNote {
    public var route: RouteLabel
    public var cache: CacheStatus?

    public init(_ route: RouteLabel, _ cache: CacheStatus? = nil) {
        self.route = route
        self.cache = cache
    }

    public init(_ number: UInt64) {
        route = RouteLabel(rawValue: UInt8(truncatingIfNeeded: number)) ?? .other
        cache = CacheStatus(rawValue: UInt8(truncatingIfNeeded: number >> 8))
    }

    public var number: UInt64 { UInt64(route.rawValue) | UInt64(cache?.rawValue ?? 0) << 8 }
}

extension Request {
    /// What was asked for was here.
    var isHit: Bool { RequestNote(note).cache == .hit }

    func note(_ status: CacheStatus) {
        var known = RequestNote(note)
        known.cache = status
        note = known.number
    }
}

/// Short, and of characters that break no log.
private func isSaneRequestID(_ text: String) -> Bool {
    1...128 ~= text.utf8.count
        && text.utf8.allSatisfy { byte in
            switch byte {
            case 48...57, 65...90, 97...122: true
            default: "-_.:/+=@".utf8.contains(byte)
            }
        }
}

extension TraceContext {
    /// The request's place in a trace; `nil` where there is none or it is malformed. (W3C Trace Context, "Trace Context HTTP Headers Format")
    init?(of request: Request) {
        guard let given = request.header("traceparent"), let parent = Self.parent(in: given) else { return nil }
        // Several fields are one list, as they came; one that could be none of a list's is left out.
        let states = request.headers.filter { $0.name.lowercased() == "tracestate" }.map(\.value)
        let state = states.joined(separator: ",")
        self.init(parent: parent, state: state.utf8.allSatisfy { 32...126 ~= $0 || $0 == 9 } ? state : "")
    }

    /// A later version may say more behind what this one knows, which is what goes on.
    private static func parent(in given: String) -> String? {
        let bytes = given.utf8.drop { $0 == 32 || $0 == 9 }
        let known = String(decoding: bytes.prefix(55), as: UTF8.self)
        let rest = bytes.dropFirst(55)
        let isLater = !known.hasPrefix("00") && rest.first == UInt8(ascii: "-")
        return isValid(known) && (isLater || rest.allSatisfy { $0 == 32 || $0 == 9 }) ? known : nil
    }

    private static func isValid(_ parent: String) -> Bool {
        guard parent.utf8.count == 55, !parent.hasPrefix("ff") else { return false }
        let hasForm = parent.utf8.enumerated().allSatisfy { index, byte in
            switch index {
            case 2, 35, 52: byte == UInt8(ascii: "-")
            default: 48...57 ~= byte || 97...102 ~= byte
            }
        }
        // All zeros are no trace and no span.
        let parts = parent.utf8.split(separator: UInt8(ascii: "-"))
        return hasForm && parts[1...2].allSatisfy { $0.contains { $0 != UInt8(ascii: "0") } }
    }
}
