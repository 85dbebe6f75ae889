internal import Synchronization

/// What it costs to put parts under another name than they were sent under, which S3 can only do by a copy: some stores copy by
/// reference, others byte for byte.
final class MovingCosts: Sendable {
    private struct State {
        /// Nanoseconds for each byte of a part, lately.
        var sending: Double?
        /// What the last copy showed, and when.
        var verdict: (isCheap: Bool, moment: UInt64)?
    }

    /// The part of the sending time that a copy may take.
    private static let cheapShare = 0.25
    /// The same for a single part: there, what each request takes weighs more. By reference it was 0.1 to 0.2, byte for byte 1.2 to 1.4.
    private static let cheapShareOfOnePart = 0.5
    /// So long dear is believed.
    private static let memoryNanoseconds: UInt64 = 3_600 * 1_000_000_000

    private let state = Mutex(State())

    /// `nil` when it is not known, or not any more.
    func isCheap(now: UInt64) -> Bool? {
        state.withLock { state in
            guard let (isCheap, moment) = state.verdict else { return nil }
            return isCheap || now < moment + Self.memoryNanoseconds ? isCheap : nil
        }
    }

    /// The store copies nothing.
    func refused(now: UInt64) { state.withLock { $0.verdict = (false, now) } }

    /// A part has arrived.
    func sent(_ bytes: Int64, in nanoseconds: UInt64) {
        guard bytes > 0 else { return }
        let cost = Double(nanoseconds) / Double(bytes)
        state.withLock { $0.sending = $0.sending.map { $0 + (cost - $0) / 8 } ?? cost }
    }

    /// - Parameters:
    ///   - parts: what was copied has so many.
    ///   - streams: so many of them are on their way at once.
    func copied(_ bytes: Int64, of parts: Int, in nanoseconds: UInt64, streams: Int, now: UInt64) {
        state.withLock { state in
            guard bytes > 0, let sending = state.sending else { return }
            let share = parts == 1 ? Self.cheapShareOfOnePart : Self.cheapShare
            let sendingAll = sending * Double(bytes) / Double(min(parts, streams))
            state.verdict = (Double(nanoseconds) <= sendingAll * share, now)
        }
    }
}
