internal import Threading

/// How blobs were read since eviction last looked at them, in memory: set without a lock and without a write to the disk.
///
/// A word for each of so many hashes. Keys that share one keep each other a little longer; that is all a collision does. Visits that meet in
/// the same moment may count once.
package final class VisitTable: Sendable {
    /// 4 MiB when all of it is in use.
    package static let standardSlots = 1 << 19

    private static let countBits: UInt64 = 8
    private let words: AtomicArray

    /// - Parameter slots: a power of two.
    package init(slots: Int = standardSlots) {
        precondition(slots > 0 && slots & (slots - 1) == 0)
        words = AtomicArray(count: slots)
    }

    private func slot(_ hash: UInt64) -> Int { Int(hash & UInt64(words.count - 1)) }

    package func visit(_ hash: UInt64, clock: UInt64, limit: Int) {
        let slot = slot(hash)
        let word = words.loadRelaxed(slot)
        let count = min(UInt64(limit), word & ((1 << Self.countBits) - 1) + 1)
        let visited = clock << Self.countBits | count
        // Most hits change nothing: reading first keeps the cache line shared.
        if visited != word { words.storeRelaxed(visited, at: slot) }
    }

    /// What there was; from now on there is nothing.
    package func take(_ hash: UInt64) -> Visits {
        let slot = slot(hash)
        guard words.loadRelaxed(slot) != 0 else { return .none }
        let word = words.exchange(0, at: slot)
        return Visits(count: Int(word & ((1 << Self.countBits) - 1)), clock: word >> Self.countBits)
    }
}
