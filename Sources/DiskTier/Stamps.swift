internal import Synchronization

/// Remembers what was deleted lately, so that a fill or push that began before cannot bring it back.
final class Stamps: Sendable {
    /// More deletes than this between a stamp and its use, and the stamp is good for nothing.
    private static let rememberedKeys = 4096

    private struct State {
        var now: UInt64 = 0
        /// Stamps older than this are not believed.
        var floor: UInt64 = 0
        var deletedAt: [[UInt8]: UInt64] = [:]
    }

    private let state = Mutex(State())

    func stamp() -> DiskTier.Stamp { DiskTier.Stamp(number: state.withLock { $0.now }) }

    func delete(_ key: [UInt8]) {
        state.withLock { state in
            if state.deletedAt.count >= Self.rememberedKeys {
                state.deletedAt = [:]
                state.floor = state.now + 1
            }
            state.now += 1
            state.deletedAt[key] = state.now
        }
    }

    /// False when the key was deleted after the stamp was taken, or may have been.
    func allows(_ key: [UInt8], since stamp: DiskTier.Stamp) -> Bool {
        state.withLock { state in
            stamp.number >= state.floor && (state.deletedAt[key] ?? 0) <= stamp.number
        }
    }
}
