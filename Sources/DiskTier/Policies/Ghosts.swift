/// What was evicted lately, by the hash of its key, in a fixed amount of memory. A restart forgets it.
struct Ghosts: Sendable {
    /// 24 bits of the hash, then the mebibytes that had been evicted by then.
    private var slots: [UInt64]
    private let reachMebibytes: UInt64
    private var evictedBytes: UInt64 = 0

    /// - Parameters:
    ///   - slots: a power of two; an eviction pushes out another one of the same slot.
    ///   - reachBytes: how much may be evicted until an eviction is forgotten.
    init(slots count: Int, reachBytes: Int64) {
        precondition(count > 0 && count & (count - 1) == 0)
        slots = Array(repeating: 0, count: count)
        reachMebibytes = UInt64(max(0, reachBytes)) >> 20
    }

    private static let ageMask: UInt64 = (1 << 40) - 1

    private func slot(_ hash: UInt64) -> Int { Int(hash & UInt64(slots.count - 1)) }

    mutating func add(_ hash: UInt64, bytes: Int64) {
        evictedBytes += UInt64(max(0, bytes))
        // One more than the mebibytes, so that no entry is all zero.
        slots[slot(hash)] = hash & ~Self.ageMask | ((evictedBytes >> 20) + 1) & Self.ageMask
    }

    func remember(_ hash: UInt64) -> Bool {
        let entry = slots[slot(hash)]
        guard entry != 0, (entry ^ hash) & ~Self.ageMask == 0 else { return false }
        return (evictedBytes >> 20) + 1 - (entry & Self.ageMask) <= reachMebibytes
    }
}
