internal import Synchronization

/// What it costs to put parts under another name than they were sent under, which S3 can only do by a copy: some stores copy by
/// reference, others byte for byte.
final class MovingCosts: Sendable {
    private struct State {
        /// Nanoseconds for each byte of a part, lately.
        var sending: Double?
        /// When moving proved dear.
        var dearSince: UInt64?
    }

    /// The part of the sending time that a copy may take.
    private static let cheapPart = 0.25
    /// Then it is tried once more.
    private static let memoryNanoseconds: UInt64 = 3_600 * 1_000_000_000

    private let state = Mutex(State())

    /// True as long as nothing else is known: what it costs shows with the first upload.
    func isCheap(now: UInt64) -> Bool {
        state.withLock { state in state.dearSince.map { now >= $0 + Self.memoryNanoseconds } ?? true }
    }

    /// A part has arrived.
    func sent(_ bytes: Int64, in nanoseconds: UInt64) {
        guard bytes > 0 else { return }
        let cost = Double(nanoseconds) / Double(bytes)
        state.withLock { $0.sending = $0.sending.map { $0 + (cost - $0) / 8 } ?? cost }
    }

    /// - Parameter streams: how many parts were on their way at once.
    func copied(_ bytes: Int64, in nanoseconds: UInt64, streams: Int, now: UInt64) {
        state.withLock { state in
            guard bytes > 0, let sending = state.sending else { return }
            let isCheap = Double(nanoseconds) <= sending * Double(bytes) / Double(streams) * Self.cheapPart
            state.dearSince = isCheap ? nil : now
        }
    }
}
