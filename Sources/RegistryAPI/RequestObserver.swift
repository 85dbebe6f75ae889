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

    private let accessLog: AccessLog
    private let time: any TimeSource
    /// `nil` without an access log.
    private let log: LogWriter?
    private let requests = StripedCounters(count: RouteLabel.allCases.count * methods.count * (codes.count + 1))
    private let sent = StripedCounters(count: RouteLabel.allCases.count)
    private let seconds = DurationHistogram(rows: RouteLabel.allCases.count)
    private let sequence = Atomic<UInt64>(0)
    /// Of requests that may be in a sampled log.
    private let ends = Atomic<UInt64>(0)
    private let identity: UInt64

    /// - Parameters:
    ///   - write: takes lines of the access log with their line feeds, on a thread of its own that it may block.
    ///   - report: told now and then how many lines were lost.
    public init(
        accessLog: AccessLog = .off,
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(),
        write: @escaping @Sendable (String) -> Bool = writeToStandardOutput,
        report: @escaping @Sendable (_ dropped: UInt64) -> Void = { _ in }
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
        let note = RequestNote(request.note)
        let route = Int(note.route.rawValue)
        let method = Self.methods.firstIndex(of: request.method) ?? Self.methods.count - 1
        let code = Self.codes.firstIndex(of: end.status) ?? Self.codes.count
        requests.add(at: (route * Self.methods.count + method) * (Self.codes.count + 1) + code)
        seconds.record(end.nanoseconds, row: route)
        if request.method != "HEAD" { sent.add(UInt64(end.bodyBytes), at: route) }
        switch accessLog {
        case .off: return
        case .sampled(let oneIn):
            let number = ends.wrappingAdd(1, ordering: .relaxed).newValue
            guard end.status >= 500 || end.isBroken || number % UInt64(oneIn) == 0 else { return }
        case .full: break
        }
        // One that the server could not even read was never shown to a handler.
        began(request)
        log?.write(line(request, note, end))
    }

    /// Writes what is left of the access log.
    public func close(within limit: Duration) { log?.close(until: .after(limit)) }

    private func line(_ request: Request, _ note: RequestNote, _ end: ExchangeEnd) -> String {
        var line = "{\"ts\":\"\(time.wallTime().rfc3339)\",\"id\":\(jsonString(request.id))"
        line += ",\"client\":\(jsonString(request.clientAddress)),\"method\":\(jsonString(request.method))"
        line +=
            ",\"path\":\(jsonString(String(decoding: request.path.utf8.prefix(Self.pathLimitBytes), as: UTF8.self)))"
        line += ",\"route\":\"\(note.route)\",\"status\":\(end.status)"
        line += ",\"bytes\":\(request.method == "HEAD" ? 0 : end.bodyBytes)"
        line += ",\"seconds\":\(Double(end.nanoseconds / 1000) / 1e6)"
        if let cache = note.cache { line += ",\"cache\":\"\(cache.name)\"" }
        if !end.isComplete { line += ",\"complete\":false" }
        if let trace = TraceContext(of: request) { line += ",\"traceparent\":\"\(trace.parent)\"" }
        if let agent = request.header("User-Agent") { line += ",\"agent\":\(jsonString(String(agent.prefix(200))))" }
        return line + "}\n"
    }

    public func write(to page: inout Exposition) {
        page.family("forebay_requests_total", .counter, "Requests that were answered or given up.")
        for route in RouteLabel.allCases {
            for (method, methodName) in Self.methods.enumerated() {
                for code in 0...Self.codes.count {
                    let row = Int(route.rawValue) * Self.methods.count + method
                    let count = requests[row * (Self.codes.count + 1) + code]
                    guard count > 0 else { continue }
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
        page.family("forebay_sent_bytes_total", .counter, "Bytes of the bodies of answers.")
        for route in RouteLabel.allCases {
            page.sample("forebay_sent_bytes_total", ["route": "\(route)"], sent[Int(route.rawValue)])
        }
    }
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
        guard let parent = request.header("traceparent"), Self.isValid(parent) else { return nil }
        // Several fields are one list, as they came; one that could be none of a list's is left out.
        let states = request.headers.filter { $0.name.lowercased() == "tracestate" }.map(\.value)
        let state = states.joined(separator: ",")
        self.init(parent: parent, state: state.utf8.allSatisfy { 32...126 ~= $0 || $0 == 9 } ? state : "")
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
