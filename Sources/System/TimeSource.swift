internal import CGlibc
internal import Glibc

/// Where time comes from. Tests pass their own.
public protocol TimeSource: Sendable {
    /// Nanoseconds on a clock that never steps; only differences mean something.
    func monotonicNanoseconds() -> UInt64
    func wallTime() -> WallTime
}

/// The kernel's clocks (`clock_gettime(2)`).
public struct SystemTime: TimeSource {
    public init() {}

    public func monotonicNanoseconds() -> UInt64 {
        let time = read(CLOCK_MONOTONIC)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    public func wallTime() -> WallTime {
        let time = read(CLOCK_REALTIME)
        return WallTime(seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec))
    }

    private func read(_ clock: clockid_t) -> timespec {
        var time = timespec()
        precondition(clock_gettime(clock, &time) == 0)
        return time
    }
}

/// A point in calendar time, in UTC.
public struct WallTime: Sendable, Hashable, Comparable {
    /// Seconds since 1970-01-01T00:00:00Z.
    public var seconds: Int64
    public var nanoseconds: Int32

    public init(seconds: Int64, nanoseconds: Int32 = 0) {
        self.seconds = seconds
        self.nanoseconds = nanoseconds
    }

    public static func < (a: WallTime, b: WallTime) -> Bool {
        (a.seconds, a.nanoseconds) < (b.seconds, b.nanoseconds)
    }

    /// `2026-04-23T08:15:30.123456789Z`, the fraction left out when it is zero (RFC 3339).
    public var rfc3339: String {
        guard nanoseconds != 0 else { return formatted("%Y-%m-%dT%H:%M:%SZ") }
        var digits = String(nanoseconds)
        digits = String(repeating: "0", count: 9 - digits.count) + digits
        while digits.hasSuffix("0") { digits.removeLast() }
        return formatted("%Y-%m-%dT%H:%M:%S") + ".\(digits)Z"
    }

    /// `20260423T081530Z`, as SigV4 wants it (ISO 8601 basic).
    public var iso8601Basic: String { formatted("%Y%m%dT%H%M%SZ") }

    /// `Thu, 23 Apr 2026 08:15:30 GMT` (RFC 9110, section 5.6.7).
    public var httpDate: String { formatted("%a, %d %b %Y %H:%M:%S GMT") }

    /// Reads the form of ``httpDate``; `nil` for anything else.
    public init?(httpDate text: String) {
        var fields = tm()
        guard parse(text, "%a, %d %b %Y %H:%M:%S GMT", into: &fields) == "" else { return nil }
        self.init(seconds: Int64(timegm(&fields)))
    }

    /// Reads `2026-04-23T08:15:30Z`, with or without a fraction, in UTC or with an offset (RFC 3339); `nil` for anything else.
    public init?(rfc3339 text: String) {
        var fields = tm()
        guard let rest = parse(text, "%Y-%m-%dT%H:%M:%S", into: &fields) else { return nil }
        var zone = Substring(rest).utf8
        var nanoseconds: Int32 = 0
        if zone.first == UInt8(ascii: ".") {
            let digits = zone.dropFirst().prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            guard !digits.isEmpty else { return nil }
            for index in 0..<9 {
                nanoseconds =
                    nanoseconds * 10 + Int32(digits.dropFirst(index).first.map { $0 - UInt8(ascii: "0") } ?? 0)
            }
            zone = zone.dropFirst(1 + digits.count)
        }
        var offset = tm()
        guard parse(String(Substring(zone)), "%z", into: &offset) == "" else { return nil }
        self.init(seconds: Int64(timegm(&fields)) - Int64(offset.tm_gmtoff), nanoseconds: nanoseconds)
    }

    private func formatted(_ format: String) -> String {
        var moment = time_t(seconds)
        var fields = tm()
        gmtime_r(&moment, &fields)
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            let length = strftime(buffer.baseAddress!, 64, format, &fields)
            return String(decoding: buffer[..<length].lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
    }
}

/// What `strptime(3)` leaves of `text`; `nil` when it does not have the form.
private func parse(_ text: String, _ format: String, into fields: inout tm) -> String? {
    text.withCString { start in strptime(start, format, &fields).map { String(cString: $0) } }
}
