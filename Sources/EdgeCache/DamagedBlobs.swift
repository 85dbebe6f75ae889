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

    /// Whether this is the object that is damaged.
    func contains(_ digest: Digest, _ info: ObjectInfo) -> Bool { etag(digest).map { $0 == info.etag } ?? false }

    private func etag(_ digest: Digest) -> String?? {
        let now = time.monotonicNanoseconds()
        return etags.withLock { $0.finding(digest, at: now) }
    }
}
