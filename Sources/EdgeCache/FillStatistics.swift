internal import Synchronization

/// What became of the fills since the start.
public struct FillStatistics: Sendable, Equatable {
    public let started: Int64
    /// Those of them that went on with what an earlier one had left.
    public let resumed: Int64
    /// Whole, verified and kept.
    public let completed: Int64
    /// The origin does not have the blob.
    public let unknown: Int64
    /// What the origin sent was not the blob, or changed on the way; streamed past the disk, too.
    public let damaged: Int64
    /// The origin failed.
    public let failed: Int64
    /// There was no room, or the disk or the index failed: the clients got their bytes all the same.
    public let notStored: Int64
    /// The last reader left, and too much was missing.
    public let paused: Int64
    /// Requests that joined a fill under way.
    public let coalescedRequests: Int64
    /// Bytes of blobs that the origin sent.
    public let originBytes: Int64
}

final class FillCounters: Sendable {
    let started = Atomic<Int64>(0)
    let resumed = Atomic<Int64>(0)
    let completed = Atomic<Int64>(0)
    let unknown = Atomic<Int64>(0)
    let damaged = Atomic<Int64>(0)
    let failed = Atomic<Int64>(0)
    let notStored = Atomic<Int64>(0)
    let paused = Atomic<Int64>(0)
    let coalesced = Atomic<Int64>(0)
    let originBytes = Atomic<Int64>(0)

    var statistics: FillStatistics {
        FillStatistics(
            started: started.load(ordering: .relaxed),
            resumed: resumed.load(ordering: .relaxed),
            completed: completed.load(ordering: .relaxed),
            unknown: unknown.load(ordering: .relaxed),
            damaged: damaged.load(ordering: .relaxed),
            failed: failed.load(ordering: .relaxed),
            notStored: notStored.load(ordering: .relaxed),
            paused: paused.load(ordering: .relaxed),
            coalescedRequests: coalesced.load(ordering: .relaxed),
            originBytes: originBytes.load(ordering: .relaxed)
        )
    }
}
