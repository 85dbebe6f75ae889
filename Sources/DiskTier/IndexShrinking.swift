internal import LMDB
internal import Synchronization
internal import System

// The file of an index never shrinks while LMDB has it open: what deletes free is used again. One that once held far more, as before a ceiling
// was lowered, would keep the room of everything else for ever.

extension DiskTier {
    /// An index that takes more than so much of its share is made smaller.
    private static let shrinkingPercent: Int64 = 150
    /// A copy that wins less is not worth its time.
    private static let leastGainBytes: Int64 = 1 << 20
    private static let retryNanoseconds: UInt64 = 60_000_000_000

    /// Its file takes more than it should, and nothing has kept it from being made smaller just now.
    var mayShrinkIndex: Bool {
        ledger.current.indexBytes > indexShareBytes / 100 * Self.shrinkingPercent
            && time.monotonicNanoseconds() >= nextShrinking.load(ordering: .relaxed)
    }

    /// Copies what is in the index into a smaller file, which takes its place. In the background, after what has to go from it has gone.
    func shrinkIndex() {
        guard mayShrinkIndex else { return }
        do throws(DiskTierError) {
            if try copyWhereItWins() { return }
        } catch {
            note(error)
        }
        nextShrinking.store(time.monotonicNanoseconds() + Self.retryNanoseconds, ordering: .relaxed)
    }

    /// False when it would not win enough, there is no room, or the tier is about to end.
    private func copyWhereItWins() throws(DiskTierError) -> Bool {
        let (used, live) = (Int64(index.statistics.usedBytes), Int64(try inIndex(index.liveBytes)))
        guard used - live >= max(Self.leastGainBytes, used / 3),
            let room = try roomForCopy(live + Self.indexGrowthBytes)
        else { return false }
        defer { room.release() }
        let isCopied = try copyIndex()
        noteIndexSize()
        guard isCopied else { return false }
        report(.shrankIndex(from: used, to: Int64(index.statistics.usedBytes)))
        return true
    }

    /// `nil`, which is told, when there is none.
    private func roomForCopy(_ bytes: Int64) throws(DiskTierError) -> Reservation? {
        do throws(DiskTierError) {
            return try reserve(bytes)
        } catch {
            switch error {
            case .indexTooLarge:
                // There is none beside the index itself, whatever else goes: the sooner it is copied, the sooner the ceiling holds.
                _ = try evictFiles { ledger.missing(for: bytes) }
                return newReservation()
            case _ where error.isNoSpace:
                report(.keptLargeIndex(bytes: ledger.current.indexBytes, missingBytes: ledger.missing(for: bytes)))
                return nil
            default: throw error
            }
        }
    }

    private func copyIndex() throws(DiskTierError) -> Bool {
        let (copy, file) = (Self.shrunkFile(directory), Self.indexFile(directory))
        var failure: FileError?
        let isCopied = try inIndex { () throws(LMDBError) in
            try index.compact(through: copy, while: { !background.isStopping }) {
                do throws(FileError) {
                    try fileSystem.rename(copy, to: file)
                    try fileSystem.synchronize(directory: directory + "/index")
                } catch {
                    // What is left of it goes at the next start.
                    _ = try? fileSystem.remove(copy)
                    failure = error
                }
            }
        }
        if let failure { throw .file(failure) }
        return isCopied
    }

    /// Half a copy, which a kill has left.
    static func removeShrunkFile(_ directory: String, _ fileSystem: any FileSystem) throws(DiskTierError) {
        try onDisk { () throws(FileError) in _ = try fileSystem.remove(shrunkFile(directory)) }
    }

    private static func shrunkFile(_ directory: String) -> String { indexFile(directory) + ".new" }
}
