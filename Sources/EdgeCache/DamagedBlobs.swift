internal import OCI
internal import ObjectStorage
internal import Synchronization
internal import System

/// Objects at the origin that have proved not to be the blobs whose names they have: they count as missing, so that clients push them again
/// and a push replaces them.
final class DamagedBlobs: Sendable {
    private struct Evidence {
        /// The object's: what was put there since is another one.
        var etag: String?
        var isProof: Bool
    }

    private let time: any TimeSource
    private let findings: Mutex<RecentBlobs<Evidence>>

    init(_ configuration: EdgeCache.Configuration, time: any TimeSource) {
        self.time = time
        findings = Mutex(RecentBlobs(limit: configuration.damagedBlobLimit, for: configuration.damagedTTL))
    }

    func insert(_ digest: Digest, etag: String?) {
        let now = time.monotonicNanoseconds()
        findings.withLock { $0.insert(Evidence(etag: etag, isProof: true), of: digest, at: now) }
    }

    /// What came of it was not the blob. Once that may have happened on the way; a second time it is proof.
    func doubt(_ digest: Digest, etag: String?) {
        let now = time.monotonicNanoseconds()
        findings.withLock { findings in
            let isProof = findings.finding(digest, at: now).map { $0.etag == etag } ?? false
            findings.insert(Evidence(etag: etag, isProof: isProof), of: digest, at: now)
        }
    }

    func remove(_ digest: Digest) { findings.withLock { $0.remove(digest) } }

    /// Whether the object under this name is damaged, or may be.
    func contains(_ digest: Digest) -> Bool { finding(digest) != nil }

    /// How long the object under this name is; `nil` without one, or when this is the one that is damaged.
    func size(_ digest: Digest, _ info: ObjectInfo?) -> Int64? {
        guard let info else { return nil }
        if let found = finding(digest), found.isProof, found.etag == info.etag { return nil }
        return info.size
    }

    private func finding(_ digest: Digest) -> Evidence? {
        let now = time.monotonicNanoseconds()
        return findings.withLock { $0.finding(digest, at: now) }
    }
}
