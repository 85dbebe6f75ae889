internal import OCI

/// What was found out about blobs a while ago.
struct RecentBlobs<Finding: Sendable>: Sendable {
    private let limit: Int
    private let nanoseconds: UInt64
    private var entries: [Digest: (finding: Finding, until: UInt64)] = [:]

    init(limit: Int, for duration: Duration) {
        self.limit = limit
        let (seconds, attoseconds) = duration.components
        nanoseconds = UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds) / 1_000_000_000)
    }

    func finding(_ digest: Digest, at now: UInt64) -> Finding? {
        entries[digest].flatMap { now < $0.until ? $0.finding : nil }
    }

    mutating func insert(_ finding: Finding, of digest: Digest, at now: UInt64) {
        guard nanoseconds > 0, limit > 0 else { return }
        if entries.count >= limit {
            entries = entries.filter { now < $0.value.until }
            // Whichever goes is found out again, no worse.
            if entries.count >= limit, let any = entries.first { entries[any.key] = nil }
        }
        entries[digest] = (finding, now + nanoseconds)
    }

    mutating func remove(_ digest: Digest) { entries[digest] = nil }
}
