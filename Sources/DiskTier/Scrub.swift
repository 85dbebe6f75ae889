internal import LMDB
internal import OCI
internal import Synchronization
internal import System

/// Where the scrub stands, so that a restart does not begin it again.
struct ScrubState: Sendable, Equatable {
    /// When the last one was through, or the cache was begun.
    var finishedAt: WallTime
    /// The last blob that was hashed; `nil` between two scrubs.
    var last: Digest?

    var encoded: [UInt8] { bigEndian(UInt64(bitPattern: finishedAt.seconds)) + (last.map { Key.digest($0) } ?? []) }

    init(finishedAt: WallTime, last: Digest? = nil) {
        self.finishedAt = finishedAt
        self.last = last
    }

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 8 else { return nil }
        finishedAt = WallTime(seconds: Int64(bitPattern: bigEndianNumber(bytes.span, at: 0)))
        last = Digest(key: bytes.dropFirst(8))
    }
}

extension DiskTier {
    /// How often a running scrub notes how far it is.
    private static let blobsBetweenNotes = 1000
    private static let bytesBetweenNotes: Int64 = 1 << 30

    private static let pauseAfterTrouble: Duration = .seconds(60)

    /// Hashes all content again and again, at a pace that leaves the disk to others.
    func startScrub() {
        guard configuration.scrubInterval > .zero else { return }
        _ = background.start("scrub", self) { tier in
            while true {
                do throws(DiskTierError) {
                    guard tier.background.pause(try tier.timeToNextScrub()) else { return }
                    try tier.scrub()
                } catch {
                    if case .cancelled = error { return }
                    tier.note(error)
                    guard tier.background.pause(Self.pauseAfterTrouble) else { return }
                }
            }
        }
    }

    private func timeToNextScrub() throws(DiskTierError) -> Duration {
        let state = try scrubState()
        if state.last != nil { return .zero }
        let age = Duration.nanoseconds(time.wallTime().nanosecondsSince1970 - state.finishedAt.nanosecondsSince1970)
        // A clock that was set back must not put it off for ever.
        return min(configuration.scrubInterval, max(.zero, configuration.scrubInterval - age))
    }

    private func scrubState() throws(DiskTierError) -> ScrubState {
        if let state = try inIndex({ () throws(LMDBError) in try index.scrubState() }) { return state }
        let state = ScrubState(finishedAt: time.wallTime())
        try note(state)
        return state
    }

    private func scrub() throws(DiskTierError) {
        var state = try scrubState()
        var noted = VerificationProgress()
        let done = try verify(from: state.last, scrubPacer) { progress, digest, _ in
            state.last = digest
            if progress.blobs - noted.blobs >= Self.blobsBetweenNotes
                || progress.bytes - noted.bytes >= Self.bytesBetweenNotes
            {
                noted = progress
                // Without the note the next start repeats some work.
                try? note(state)
            }
            return !background.isStopping
        }
        guard !background.isStopping else { return try note(state) }
        try note(ScrubState(finishedAt: time.wallTime()))
        counters.scrubs.wrappingAdd(1, ordering: .relaxed)
        report(.scrubbed(done))
    }

    private func note(_ state: ScrubState) throws(DiskTierError) {
        try inIndex { () throws(LMDBError) in try index.setScrubState(state) }
    }
}
