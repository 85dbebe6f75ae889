internal import OCI
internal import Synchronization

/// Which blobs were read since eviction last passed them: a bit each, set without a lock and without a write.
///
/// Blobs that share a bit keep each other a little longer; that is all a collision does.
final class VisitedBits: Sendable {
    private let words = InlineArray<16384, Atomic<UInt64>> { _ in Atomic(0) }

    func set(_ digest: Digest) {
        let (word, bit) = place(digest)
        // Most hits find it set: reading first keeps the cache line shared.
        if words[word].load(ordering: .relaxed) & bit == 0 { words[word].bitwiseOr(bit, ordering: .relaxed) }
    }

    /// Whether the bit was set.
    func clear(_ digest: Digest) -> Bool {
        let (word, bit) = place(digest)
        return words[word].bitwiseAnd(~bit, ordering: .relaxed).oldValue & bit != 0
    }

    private func place(_ digest: Digest) -> (word: Int, bit: UInt64) {
        let hash = UInt64(truncatingIfNeeded: digest.hashValue)
        return (Int(hash >> 6 & 16383), 1 << (hash & 63))
    }
}
