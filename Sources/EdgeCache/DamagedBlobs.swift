internal import OCI
internal import ObjectStorage
internal import Synchronization
internal import System

/// Objects at the origin that have proved not to be the blobs whose names they have: they count as missing, so that clients push them again
/// and a push replaces them.
final class DamagedBlobs: Sendable {
    private let time: any TimeSource
    /// The objects' ETags: what was put there since is another object.
    private let etags: Mutex<RecentBlobs<String?>>

    init(_ configuration: EdgeCache.Configuration, time: any TimeSource) {
        self.time = time
        etags = Mutex(RecentBlobs(limit: configuration.damagedBlobLimit, for: configuration.damagedTTL))
    }

    func insert(_ digest: Digest, etag: String?) {
        let now = time.monotonicNanoseconds()
        etags.withLock { $0.insert(etag, of: digest, at: now) }
    }

    func remove(_ digest: Digest) { etags.withLock { $0.remove(digest) } }

    /// Whether the object under this name was damaged when it was looked at last.
    func contains(_ digest: Digest) -> Bool { etag(digest) != nil }

    /// How long the object under this name is; `nil` without one, or when this is the one that is damaged.
    func size(_ digest: Digest, _ info: ObjectInfo?) -> Int64? {
        guard let info else { return nil }
        if let damaged = etag(digest), damaged == info.etag { return nil }
        return info.size
    }

    private func etag(_ digest: Digest) -> String?? {
        let now = time.monotonicNanoseconds()
        return etags.withLock { $0.finding(digest, at: now) }
    }
}
