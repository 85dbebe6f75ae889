internal import Glibc

/// Numbers that any thread adds to without a lock. Each exists several times, and threads spread over the copies: processors that count the
/// same thing do not pass a cache line to and fro. Reading adds the copies up.
public final class StripedCounters: Sendable {
    private static let stripes = 16
    /// Words in a cache line.
    private static let lineWords = 8

    private let words: AtomicArray
    private let stride: Int
    public let count: Int

    public init(count: Int) {
        self.count = count
        stride = (count + Self.lineWords - 1) / Self.lineWords * Self.lineWords
        words = AtomicArray(count: stride * Self.stripes)
    }

    /// The sum wraps around.
    public func add(_ amount: UInt64 = 1, at index: Int) {
        precondition(0..<count ~= index)
        words.addRelaxed(amount, at: Int(threadMark() % UInt(Self.stripes)) * stride + index)
    }

    public subscript(index: Int) -> UInt64 {
        precondition(0..<count ~= index)
        return (0..<Self.stripes).reduce(0) { $0 &+ words.loadRelaxed($1 * stride + index) }
    }
}

/// A number that tells most threads from most others, in all its bits: descriptors of threads lie whole stacks apart.
public func threadMark() -> UInt { (UInt(pthread_self()) >> 12 &* 0x9E37_79B9_7F4A_7C15) >> 32 }
