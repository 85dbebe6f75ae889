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
    /// So long a start evicts from the index; the rest goes in the background, and its room at the next start.
    private static let evictionLimit: Duration = .seconds(5)
    private static let evictedAtOnce = 4096

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
            guard oldBytes > configuration.indexShareBytes / 100 * shrinkingPercent,
                try copyShrunk(index, configuration, fileSystem)
            else { return .ready(index, run) }
            return .shrunk(run, lastSequence: index.nextSequence(), from: oldBytes)
        } catch {
            // It stays as large as it is.
            report(.failed(error))
            return .ready(index, run)
        }
    }

    /// False when a copy would not be worth it.
    private static func copyShrunk(
        _ index: CacheIndex,
        _ configuration: Configuration,
        _ fileSystem: any FileSystem
    ) throws(DiskTierError) -> Bool {
        let deadline = Deadline.after(evictionLimit)
        let live = try inIndex { () throws(LMDBError) in
            var hands: [UInt64] = [0, 0]
            while try index.evictSmall(&hands, beyond: configuration.indexShareBytes, limit: evictedAtOnce) > 0 {
                if deadline.hasPassed { break }
            }
            return Int64(try index.liveBytes())
        }
        let used = Int64(index.statistics.usedBytes)
        guard used - live >= max(leastGainBytes, used / 3) else { return false }
        let directory = configuration.directory
        let available = try onDisk { () throws(FileError) in try fileSystem.space(at: directory).available }
        guard available - live >= configuration.minimumFreeBytes else {
            throw .volumeFull(availableBytes: available, floorBytes: configuration.minimumFreeBytes)
        }
        try inIndex { () throws(LMDBError) in try index.copyCompacted(to: shrunkFile(directory)) }
        return true
    }

    private static func shrunkFile(_ directory: String) -> String { indexFile(directory) + ".new" }
}
