public import OCI
internal import Threading

/// Where an answer came from.
public enum CacheStatus: UInt8, Sendable, CaseIterable {
    /// From here.
    case hit = 1
    /// From here, after the origin has confirmed it.
    case revalidated
    /// From here, because the origin could not be asked.
    case stale
    /// From the origin.
    case miss
    /// From the origin, with a fetch that was under way for somebody else.
    case joined

    public var name: String {
        switch self {
        case .hit: "hit"
        case .revalidated: "revalidated"
        case .stale: "stale"
        case .miss: "miss"
        case .joined: "fill"
        }
    }
}

/// What became of a fill.
public enum FillOutcome: String, Sendable, CaseIterable {
    /// Whole, verified and on disk.
    case complete
    /// The origin does not have the blob.
    case unknown
    /// What the origin sent is not the blob.
    case damaged
    case failed
    /// There was no room, or the disk failed: streamed past it.
    case notStored = "not_stored"
    /// The last reader left, and too much was missing: what came is kept for the next.
    case paused
}

/// What the cache has done since it was opened.
public struct Activity: Sendable {
    public let hits: Int64
    public let misses: Int64
    /// Requests that joined a fetch under way for another.
    public let joined: Int64
    public let fills: [(outcome: FillOutcome, count: Int64)]
}

final class ActivityCounters: Sendable {
    /// By raw value.
    private let counters = StripedCounters(count: CacheStatus.allCases.count + 1)

    private subscript(status: CacheStatus) -> Int64 { Int64(counters[Int(status.rawValue)]) }

    func count(_ status: CacheStatus) { counters.add(at: Int(status.rawValue)) }

    func activity(_ fills: FillStatistics) -> Activity {
        Activity(
            hits: self[.hit] + self[.revalidated] + self[.stale],
            misses: self[.miss],
            joined: self[.joined],
            fills: FillOutcome.allCases.map { ($0, fills[$0]) }
        )
    }
}

extension FillStatistics {
    fileprivate subscript(outcome: FillOutcome) -> Int64 {
        switch outcome {
        case .complete: completed
        case .unknown: unknown
        case .damaged: damaged
        case .failed: failed
        case .notStored: notStored
        case .paused: paused
        }
    }
}

/// A blob on its way from the origin.
public struct FillActivity: Sendable {
    public let digest: Digest
    /// In bytes, once the origin has told it.
    public let size: Int64?
    /// How many of them are there.
    public let availableBytes: Int64
}

extension EdgeCache {
    /// The fills under way, in the order of their digests.
    public var fillsUnderWay: [FillActivity] {
        fills.underWay.map { fill in
            let progress = fill.progress
            return FillActivity(digest: fill.digest, size: progress.size, availableBytes: progress.available)
        }.sorted { $0.digest < $1.digest }
    }

    public var openUploads: Int { uploads.count }

    public var activitySoFar: Activity { activity.activity(fillStatistics) }
}
