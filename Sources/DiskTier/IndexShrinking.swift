internal import LMDB
internal import System
internal import Threading

// The file of an index never shrinks while it is open: what deletes free is used again. Under a ceiling that was lowered it would keep the room of
// everything else for ever.

extension DiskTier {
    /// An index that takes more than so much of its share is made smaller at the start. In steady state it never does.
    private static let shrinkingPercent: Int64 = 150
    /// A copy that wins less is not worth its time.
    private static let leastGainBytes: Int64 = 1 << 20
    private static let evictedAtOnce = 1024

    private enum Start {
        case ready(CacheIndex, CacheIndex.Run)
        /// It is closed, and its smaller copy lies beside it.
        case shrunk(CacheIndex.Run, lastSequence: UInt64, from: Int64)
    }

    /// Opens the index, and a run of it.
    static func beginRun(
        _ configuration: Configuration,
        _ lastStop: CleanMark?,
        _ fileSystem: any FileSystem,
        _ report: (Event) -> Void
    ) throws(DiskTierError) -> (CacheIndex, CacheIndex.Run) {
        let directory = configuration.directory
        try onDisk { () throws(FileError) in _ = try fileSystem.remove(shrunkFile(directory)) }
        switch try open(configuration, lastStop, fileSystem, report) {
        case .ready(let index, let run): return (index, run)
        case .shrunk(let run, let lastSequence, let oldBytes):
            do throws(FileError) {
                try fileSystem.rename(shrunkFile(directory), to: indexFile(directory))
                try fileSystem.synchronize(directory: directory + "/index")
            } catch {
                // What is left of it goes at the next start.
                _ = try? fileSystem.remove(shrunkFile(directory))
                report(.failed(.file(error)))
            }
            let index = try openIndex(configuration, directory)
            try inIndex { () throws(LMDBError) in try index.resume(after: lastSequence) }
            let newBytes = Int64(index.statistics.usedBytes)
            if newBytes < oldBytes { report(.shrankIndex(from: oldBytes, to: newBytes)) }
            return (index, run)
        }
    }

    private static func open(
        _ configuration: Configuration,
        _ lastStop: CleanMark?,
        _ fileSystem: any FileSystem,
        _ report: (Event) -> Void
    ) throws(DiskTierError) -> Start {
        let index = try openIndex(configuration, lastStop, fileSystem, report)
        let run = try beginRun(index, lastStop, configuration.directory, fileSystem)
        let oldBytes = Int64(index.statistics.usedBytes)
        do throws(DiskTierError) {
            let shareBytes = configuration.indexShrinkingShareBytes ?? configuration.indexShareBytes
            guard oldBytes > shareBytes / 100 * shrinkingPercent,
                try copyShrunk(index, configuration, fileSystem, report)
            else { return .ready(index, run) }
            return .shrunk(run, lastSequence: index.nextSequence(), from: oldBytes)
        } catch {
            // It stays as large as it is.
            report(.failed(error))
            return .ready(index, run)
        }
    }

    /// False when a copy would not be worth it, or is not possible now.
    private static func copyShrunk(
        _ index: CacheIndex,
        _ configuration: Configuration,
        _ fileSystem: any FileSystem,
        _ report: (Event) -> Void
    ) throws(DiskTierError) -> Bool {
        let deadline = Deadline.after(configuration.indexShrinkingLimit)
        let half = Deadline.after(configuration.indexShrinkingLimit / 2)
        let (live, isOverdue) = try evictSmall(index, configuration, until: half)
        let used = Int64(index.statistics.usedBytes)
        guard isOverdue || used - live >= max(leastGainBytes, used / 3) else { return false }
        let directory = configuration.directory
        let available = try onDisk { () throws(FileError) in try fileSystem.space(at: directory).available }
        let missing = live + configuration.minimumFreeBytes - available
        guard missing <= 0 else {
            report(.keptLargeIndex(bytes: used, .noSpace(missingBytes: missing)))
            return false
        }
        // What is still to go does so in the background: the copy of the next start is all the smaller.
        let isCopied = try inIndex { () throws(LMDBError) in
            isOverdue ? false : try index.copyCompacted(to: shrunkFile(directory), until: deadline)
        }
        if !isCopied { report(.keptLargeIndex(bytes: used, .noTime)) }
        return isCopied
    }

    /// - Returns: what is left, and whether more is to go for which there was no time.
    private static func evictSmall(
        _ index: CacheIndex,
        _ configuration: Configuration,
        until deadline: Deadline
    ) throws(DiskTierError) -> (live: Int64, isOverdue: Bool) {
        try inIndex { () throws(LMDBError) in
            var hands: [UInt64] = [0, 0]
            var isOverdue = false
            while try index.evictSmall(&hands, beyond: configuration.indexShareBytes, limit: evictedAtOnce) > 0 {
                isOverdue = deadline.hasPassed
                if isOverdue { break }
            }
            return (Int64(try index.liveBytes()), isOverdue)
        }
    }

    private static func shrunkFile(_ directory: String) -> String { indexFile(directory) + ".new" }
}
