internal import Glibc
internal import Synchronization

/// A fixed number of atomic words, all zero at first. Pages that nobody has touched take no memory (`calloc(3)`).
///
/// Sendable because every word is only reached through atomic operations.
public final class AtomicArray: @unchecked Sendable {
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    public let count: Int

    public init(count: Int) {
        precondition(count > 0)
        guard let memory = calloc(count, MemoryLayout<Atomic<UInt64>>.stride) else {
            preconditionFailure("calloc: no memory for \(count) words")
        }
        // An atomic word is its value: zeros are atomic zeros.
        words = memory.bindMemory(to: Atomic<UInt64>.self, capacity: count)
        self.count = count
    }

    deinit { free(words) }

    public func load(_ index: Int) -> UInt64 { words[checked(index)].load(ordering: .sequentiallyConsistent) }

    public func loadRelaxed(_ index: Int) -> UInt64 { words[checked(index)].load(ordering: .relaxed) }

    public func storeRelaxed(_ value: UInt64, at index: Int) { words[checked(index)].store(value, ordering: .relaxed) }

    public func exchange(_ value: UInt64, at index: Int) -> UInt64 {
        words[checked(index)].exchange(value, ordering: .sequentiallyConsistent)
    }

    /// False when the word was not `expected`.
    public func replace(_ expected: UInt64, with value: UInt64, at index: Int) -> Bool {
        words[checked(index)].compareExchange(
            expected: expected,
            desired: value,
            ordering: .sequentiallyConsistent
        ).exchanged
    }

    /// The new value; wraps around.
    @discardableResult
    public func add(_ value: UInt64, at index: Int) -> UInt64 {
        words[checked(index)].wrappingAdd(value, ordering: .sequentiallyConsistent).newValue
    }

    public func addRelaxed(_ value: UInt64, at index: Int) {
        words[checked(index)].wrappingAdd(value, ordering: .relaxed)
    }

    private func checked(_ index: Int) -> Int {
        precondition(0..<count ~= index)
        return index
    }
}
