public import DiskTier
public import OCI
public import System

// What this node has ready: answers that wait for nothing, neither the disk's writer nor the origin. False stands for everything else, also for
// trouble; then ``EdgeCache/blob(_:near:)`` and ``EdgeCache/manifest(_:_:noting:)`` are to be asked.

extension EdgeCache {
    /// - Parameters:
    ///   - inline: gets the bytes of a small blob, valid until it returns.
    ///   - file: gets an open file, and what it was when its bytes were last known to be right.
    public func blobHit(
        _ digest: Digest,
        inline: (DiskTier.Sighting, Span<UInt8>) -> Void,
        file: (File, FileStatus) -> Void
    ) -> Bool {
        counted(tier.hit(digest, inline: inline, file: file))
    }

    /// - Parameter body: gets the digest, the media type and the bytes, both valid until it returns.
    public func manifestHit(
        _ name: RepositoryName,
        _ reference: Reference,
        _ body: (Digest, DiskTier.Sighting, Span<UInt8>, Span<UInt8>) -> Void
    ) -> Bool {
        switch reference {
        case .digest(let digest):
            counted(tier.hit(repository: name, digest: digest) { body(digest, $0, $1, $2) })
        case .tag(let tag):
            counted(tier.hit(repository: name, tag: tag, isFresh: { age(since: $0) < configuration.tagTTL }, body))
        }
    }

    /// A client that only asked whether this is here hears so, and may leave it out of its push: a blob, or a manifest of a repository.
    public func hasTold(_ digest: Digest, in name: RepositoryName? = nil) { told.insert(digest, in: name) }

    /// An answer with this blob was broken off here. What lies on the disk may be the reason: it is looked at, without holding up the caller.
    public func answerBroke(_ digest: Digest) { tier.examine(digest) }

    /// Whether what was made of a hit may be given again: then this was another one.
    public func stillHolds(_ sighting: DiskTier.Sighting) -> Bool {
        if let checkedAt = sighting.checkedAt, age(since: checkedAt) >= configuration.tagTTL { return false }
        return counted(tier.stillHolds(sighting))
    }

    private func counted(_ isHit: Bool) -> Bool {
        if isHit { activity.count(.hit) }
        return isHit
    }
}
