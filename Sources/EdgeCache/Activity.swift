public import OCI
internal import Threading

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
        let running = fills.withLock { Array($0.values) }
        return running.map { fill in
            let progress = fill.progress
            return FillActivity(digest: fill.digest, size: progress.size, availableBytes: progress.available)
        }.sorted { $0.digest < $1.digest }
    }

    public var openUploads: Int { uploads.count }
}
