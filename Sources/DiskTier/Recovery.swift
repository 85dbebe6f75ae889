internal import LMDB
internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// Whether what an earlier run may have left on the disk has been counted.
///
/// Until then it counts for all that it may be, so that the ceiling holds: who needs room evicts for it rather than wait.
final class Settlement: Sendable {
    private enum State { case pending, done, failed }

    /// The count of a small cache ends within so long after the opening, sooner than anything is evicted for it.
    private static let grace: Duration = .milliseconds(100)

    private let state = Monitor(State.done)
    private let graceEnd = Mutex(Deadline.never)
    /// The files that this run has put in place meanwhile. Their times do not tell them from older ones: the clock may be set back.
    private let published = Mutex<Set<String>>([])

    var isPending: Bool { state.withLock { $0 == .pending } }
    /// Nothing is left that is not counted.
    var isComplete: Bool { state.withLock { $0 == .done } }
    func begin() {
        graceEnd.withLock { $0 = .after(Self.grace) }
        state.update { $0 = .pending }
    }

    func end(complete: Bool) {
        state.update { $0 = complete ? .done : .failed }
        published.withLock { $0 = [] }
    }

    /// A file is about to be put in place.
    func publishes(_ path: String) {
        if isPending { published.withLock { _ = $0.insert(path) } }
    }

    func hasPublished(_ path: String) -> Bool { published.withLock { $0.contains(path) } }

    /// False when it takes longer.
    @discardableResult
    func wait(_ duration: Duration) -> Bool { wait(until: .after(duration)) }

    func waitForGrace() { wait(until: graceEnd.withLock { $0 }) }

    @discardableResult
    private func wait(until deadline: Deadline) -> Bool {
        state.wait(until: deadline) { $0 == .pending ? nil : true } ?? false
    }
}

extension DiskTier {
    /// How often a reservation for which nothing can be evicted looks again while the count goes on.
    static let settlementPause: Duration = .milliseconds(50)
    static let settlementPauses = 200
    private static let retryInterval: Duration = .seconds(60)
    private static let foldersBetweenReleases = 4
    private static let sweepInterval: Duration = .seconds(24 * 3600)
    /// A file younger than this may be one that is just about to be entered into the index.
    private static let orphanAgeNanoseconds: Int64 = 600_000_000_000

    /// Clears up behind an earlier run, beside the first answers, and now and then behind this one.
    func startHousekeeping() {
        if run.wasUnclean || run.isFirst && !isNew {
            settlement.begin()
            let used = usedOfVolume
            ledger.update { $0.unknownBytes = max(0, min(ledger.ceilingBytes, used) - $0.usedBytes) }
        }
        _ = background.start("housekeeping", self) { tier in
            tier.measureFolders()
            tier.settle()
            tier.background.press()
            tier.keepHouse()
        }
    }

    /// No file was ever put here.
    private var isNew: Bool {
        do throws(FileError) {
            for algorithm in DigestAlgorithm.allCases {
                let root = "\(configuration.directory)/blobs/\(algorithm.rawValue)"
                guard try fileSystem.entries(of: root).isEmpty else { return false }
            }
            return true
        } catch {
            // The count meets it again.
            return false
        }
    }

    /// What an earlier run left is no more than everything on the volume.
    private var usedOfVolume: Int64 {
        do throws(FileError) {
            return try fileSystem.space(at: configuration.directory).used
        } catch {
            note(.file(error))
            return .max
        }
    }

    /// Waits until what an earlier run left is counted and cleared up.
    public func waitUntilSettled() {
        while !settlement.wait(.seconds(3600)) {}
    }

    private func settle() {
        guard settlement.isPending else { return }
        var isComplete = false
        do throws(DiskTierError) {
            if run.isFirst {
                try adoptFiles()
            } else {
                try removeOrphans(pause: nil) { path, _ in !settlement.hasPublished(path) }
            }
            isComplete = true
        } catch {
            note(error)
        }
        ledger.update { $0.unknownBytes = 0 }
        settlement.end(complete: isComplete)
    }

    private func keepHouse() {
        let start = time.monotonicNanoseconds()
        var sweeps: UInt64 = 0
        while background.pause(Self.retryInterval) {
            retryRemovals()
            measureFolders()
            // Others may have taken what the volume had, while nobody asked the tier for room.
            background.press()
            let seconds = (time.monotonicNanoseconds() - start) / 1_000_000_000
            guard seconds / UInt64(Self.sweepInterval.components.seconds) > sweeps else { continue }
            sweeps += 1
            do throws(DiskTierError) {
                let before = time.wallTime().nanosecondsSince1970 - Self.orphanAgeNanoseconds
                try removeOrphans(pause: .milliseconds(100)) { _, status in status.changedNanoseconds < before }
            } catch {
                note(error)
            }
        }
    }

    /// False while files that nothing refers to cannot be removed: evicting more would only lose them.
    @discardableResult
    func retryRemovals() -> Bool {
        for path in ledger.strandedPaths {
            do throws(FileError) {
                _ = try fileSystem.remove(path)
                ledger.unstrand(path)
            } catch {
                note(.file(error))
                return false
            }
        }
        return true
    }
}

// MARK: - Files that the index does not know

extension DiskTier {
    /// Files that are in place without the index knowing: the program stopped between the two, or the disk would not let them go.
    ///
    /// - Parameters:
    ///   - pause: between two folders.
    ///   - isOld: it is not one that is just about to be entered.
    private func removeOrphans(
        pause: Duration?,
        where isOld: (String, FileStatus) -> Bool
    ) throws(DiskTierError) {
        var count = 0
        var bytes: Int64 = 0
        try forEachFolder(pause) { folder, algorithm throws(DiskTierError) in
            for name in try unknownFiles(folder, algorithm).map(\.name) {
                let path = "\(folder)/\(name)"
                let status = try onDisk { () throws(FileError) in try fileSystem.status(at: path) }
                guard let status, !status.isDirectory, isOld(path, status) else { continue }
                discard(path, bytes: status.allocated)
                count += 1
                bytes += status.allocated
            }
        }
        if count > 0 { report(.removedOrphans(count: count, bytes: bytes)) }
    }

    /// Takes over what lies there under an index that is new. Nothing of it is believed: it is hashed before it is first served.
    private func adoptFiles() throws(DiskTierError) {
        var count = 0
        var bytes: Int64 = 0
        try forEachFolder(nil) { folder, algorithm throws(DiskTierError) in
            var adopted: [(key: [UInt8], facts: BlobRecord.FileFacts)] = []
            for file in try unknownFiles(folder, algorithm) {
                let path = "\(folder)/\(file.name)"
                guard let status = try onDisk({ () throws(FileError) in try fileSystem.status(at: path) }),
                    !status.isDirectory, !settlement.hasPublished(path)
                else { continue }
                if let digest = file.digest {
                    adopted.append((Key.digest(digest), BlobRecord.FileFacts(status)))
                } else {
                    discard(path, bytes: status.allocated)
                }
            }
            let sum = try enter(adopted)
            count += adopted.count
            bytes += sum
        }
        if count > 0 { report(.adopted(count: count, bytes: bytes)) }
    }

    /// Of a folder in one transaction.
    private func enter(_ files: [(key: [UInt8], facts: BlobRecord.FileFacts)]) throws(DiskTierError) -> Int64 {
        guard !files.isEmpty else { return 0 }
        let index = index
        let sum = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                var sum: Int64 = 0
                for file in files where try transaction.get(index.blobs, file.key) == nil {
                    let record = BlobRecord(sequence: index.nextSequence(), run: 0, place: .file(file.facts))
                    try index.put(record, file.key, transaction)
                    sum += file.facts.allocated
                }
                return sum
            }
        }
        let indexBytes = indexBytes
        ledger.update { entries in
            entries.committedBytes += sum
            entries.unknownBytes = max(0, entries.unknownBytes - sum - (indexBytes - entries.indexBytes))
            entries.indexBytes = indexBytes
        }
        return sum
    }

    /// A folder that may not be read keeps no other from being looked at, nor a clean stop from being one: the next start could do no better.
    private func forEachFolder(
        _ pause: Duration?,
        _ body: (String, DigestAlgorithm) throws(DiskTierError) -> Void
    ) throws(DiskTierError) {
        for algorithm in DigestAlgorithm.allCases {
            let root = "\(configuration.directory)/blobs/\(algorithm.rawValue)"
            let folders = try onDisk { () throws(FileError) in try fileSystem.entries(of: root) }
            for (number, folder) in folders.enumerated() {
                // The pages of a whole index are much memory.
                if number % Self.foldersBetweenReleases == 0 { index.releaseMemory() }
                guard pause.map({ background.pause($0) }) ?? !background.isStopping else { throw .cancelled }
                do throws(DiskTierError) {
                    try body("\(root)/\(folder.name)", algorithm)
                } catch {
                    guard case .file(let reason) = error, reason.isForbidden else { throw error }
                    note(error)
                }
            }
        }
        index.releaseMemory()
    }

    /// A name that is no digest was never ours to serve.
    private func unknownFiles(
        _ folder: String,
        _ algorithm: DigestAlgorithm
    ) throws(DiskTierError) -> [(name: String, digest: Digest?)] {
        let entries = try onDisk { () throws(FileError) in try fileSystem.entries(of: folder) }
        let index = index
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                var unknown: [(name: String, digest: Digest?)] = []
                for entry in entries {
                    let key = Key.digest(hex: entry.name, algorithm)
                    if !key.isEmpty, try transaction.withValue(index.blobs, key, { _ in true }) == true { continue }
                    unknown.append((entry.name, Digest(key: key)))
                }
                return unknown
            }
        }
    }
}

extension WallTime {
    var nanosecondsSince1970: Int64 { seconds * 1_000_000_000 + Int64(nanoseconds) }
}
