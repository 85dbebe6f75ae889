internal import OCI

/// Which blobs the origin did not have a moment ago.
struct AbsentBlobs: Sendable {
    private let limit: Int
    private let nanoseconds: UInt64
    private var untils: [Digest: UInt64] = [:]

    init(limit: Int, for duration: Duration) {
        self.limit = limit
        let (seconds, attoseconds) = duration.components
        nanoseconds = UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds) / 1_000_000_000)
    }

    func contains(_ digest: Digest, at now: UInt64) -> Bool { untils[digest].map { now < $0 } ?? false }

    mutating func insert(_ digest: Digest, at now: UInt64) {
        guard nanoseconds > 0, limit > 0 else { return }
        if untils.count >= limit {
            untils = untils.filter { now < $0.value }
            // Whichever goes is asked for again, no worse.
            if untils.count >= limit, let any = untils.first { untils[any.key] = nil }
        }
        untils[digest] = now + nanoseconds
    }

    mutating func remove(_ digest: Digest) { untils[digest] = nil }
}
