internal import LMDB
internal import OCI
internal import Synchronization
public import System
internal import Threading

/// The cache on this node's disk: verified content by digest, and what manifests and tags were when the origin was last asked.
///
/// Safe to use from many threads. Nothing here is truth: losing it costs fills, nothing else.
public final class DiskTier: Sendable {
    public struct Configuration: Sendable {
        public var directory: String
        /// What all files, reservations and the index may take together.
        public var ceilingBytes: Int64
        /// Blobs up to this size lie in the index itself.
        public var inlineLimitBytes = 16 << 10
        public var evictionPolicy = EvictionPolicyName.s3FIFO
        /// Above so much of the ceiling, in percent, files are evicted in the background, ...
        public var highWatermarkPercent: Int64 = 98
        /// ... down to so much.
        public var lowWatermarkPercent: Int64 = 95
        /// So long who needs room evicts for it while the tier is above its ceiling; the rest goes in the background.
        public var excessPatience: Duration = .milliseconds(100)
        /// Content in the index itself may take this much of the ceiling, in percent.
        public var indexSharePercent: Int64 = 20
        /// Pins may hold this much: 80% of the ceiling, unless something else is set.
        public var pinLimitBytes: Int64 {
            get { setPinLimitBytes ?? ceilingBytes * 80 / 100 }
            set { setPinLimitBytes = newValue }
        }
        private var setPinLimitBytes: Int64?
        /// Unfinished uploads may hold this much of the ceiling, in percent: half, so that clients that never come back leave the other half to
        /// what is read.
        public var uploadSharePercent: Int64 = 50
        /// Address space for the index, and the largest size that it can grow to.
        public var indexMapBytes = 16 << 30
        /// Lookups at once; more wait for each other.
        public var indexReaderLimit = 1024
        /// What the tier leaves of the volume to others.
        public var minimumFreeBytes: Int64 = 0
        /// Begins a new index when the one that is there cannot be used, instead of refusing to open.
        public var rebuildsIndex = false
        /// So long a start looks at what LMDB would follow blindly in an index that was not closed in order.
        public var structureCheckLimit: Duration = .milliseconds(500)
        /// Files up to this size are hashed before they are answered with, where that is needed; larger ones meanwhile.
        public var verifiedAtOnceBytes: Int64 = 8 << 20
        /// From the end of one scrub to the next; zero is never.
        public var scrubInterval: Duration = .zero
        public var scrubBytesPerSecond: Int64 = 20 << 20

        public init(directory: String, ceilingBytes: Int64) {
            self.directory = directory
            self.ceilingBytes = ceilingBytes
        }
    }

    /// A moment before which a fill or push began.
    public struct Stamp: Sendable {
        let number: UInt64
    }

    let configuration: Configuration
    let fileSystem: any FileSystem
    let time: any TimeSource
    let random: any RandomSource
    let index: CacheIndex
    let ledger: Ledger
    let readers: Readers
    let stamps = Stamps()
    let listStamps = Stamps()
    let run: CacheIndex.Run
    let evictor = Evictor()
    let toldExcess = Mutex<Int64>(0)
    let leftFills = LeftFills()
    let intactRecords = IntactRecords()
    let pinnedBytes = Atomic<Int64>(0)
    /// What is about to be put into the index.
    let incomingIndexBytes = Atomic<Int64>(0)
    /// When making the index smaller, which failed, is tried again.
    let nextShrinking = Atomic<UInt64>(0)
    let checks = Monitor<[FileCheck.Key: FileCheck]>([:])
    let examined = Mutex<Set<Digest>>([])
    let damagedFiles = Quarantine()
    let counters = Counters()
    let settlement = Settlement()
    let background = Background()
    let scrubPacer: Pacer
    let notices = Notices()
    let hasToldUnobserved = Atomic(false)
    let report: @Sendable (Event) -> Void
    let folders = Folders()
    private let fixedBytes: Int64
    private let lock: ProcessLock
    private let isClosed = Atomic(false)

    /// Opens the directory, creating it when missing. No file of the tier is looked at for it.
    ///
    /// - Parameter report: told what an operator should hear of, from any thread; it must not block.
    public init(
        _ configuration: Configuration,
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(),
        report: @escaping @Sendable (Event) -> Void = { _ in }
    ) throws(DiskTierError) {
        self.configuration = configuration
        self.fileSystem = fileSystem
        self.time = time
        self.random = random
        self.report = report
        let directory = configuration.directory
        lock = try Self.prepare(directory, fileSystem)
        let lastStop = try onDisk { () throws(FileError) in try CleanMark.take(directory, fileSystem) }
        try Self.removeShrunkFile(directory, fileSystem)
        index = try Self.openIndex(configuration, lastStop, fileSystem, report)
        run = try Self.beginRun(index, lastStop, directory, fileSystem)
        fixedBytes = try Self.fixedBytes(directory, fileSystem)
        Self.keepStartReserve(directory, fileSystem)
        ledger = Ledger(ceilingBytes: configuration.ceilingBytes)
        readers = Readers(ledger)
        scrubPacer = Pacer(bytesPerSecond: configuration.scrubBytesPerSecond)
        let committed = try inIndex { () throws(LMDBError) in try index.committedBytes() }
        let pinned = try inIndex { () throws(LMDBError) in try index.pinnedBytes() }
        pinnedBytes.store(pinned, ordering: .relaxed)
        let indexBytes = indexBytes
        ledger.update { entries in
            entries.committedBytes = committed
            entries.indexBytes = indexBytes
        }
        try adoptLeftFills()
        try loadQuarantine()
        tellPinsBeyondShare(pinned)
        observeVolume()
        startHousekeeping()
        startEviction()
        startScrub()
    }

    /// Ends what runs in the background, and marks the directory as cleanly stopped. No call may be under way any more.
    public func close() {
        stop()
        guard !isClosed.exchange(true, ordering: .relaxed) else { return }
        Self.keepStartReserve(configuration.directory, fileSystem)
        guard settlement.isComplete else { return }
        // Without the mark the next start verifies more than it must, no worse.
        try? markClean()
    }

    /// Ends what runs in the background; for the next start this is an unclean stop.
    public func stop() {
        scrubPacer.cancel()
        for check in checks.withLock({ Array($0.values) }) { check.cancel() }
        background.stop()
    }

    /// What the index and the small files beside it take, and what one more small write may add. A file system may give a file more blocks than
    /// it has pages; where they cannot be asked for, the pages count.
    var indexBytes: Int64 {
        let blocks = (try? fileSystem.status(at: Self.indexFile(directory)))??.allocated ?? 0
        return max(Int64(index.statistics.usedBytes), blocks) + fixedBytes
    }

    private static func fixedBytes(_ directory: String, _ fileSystem: any FileSystem) throws(DiskTierError) -> Int64 {
        let readers = try onDisk { () throws(FileError) in try fileSystem.status(at: directory + "/index/lock.mdb") }
        return Ledger.blocks(readers?.size ?? 0) + 3 * Ledger.blockBytes + startReserveBytes + indexGrowthBytes
    }

    public var directory: String { configuration.directory }
    public var minimumFreeBytes: Int64 { configuration.minimumFreeBytes }
    public var inlineLimitBytes: Int { configuration.inlineLimitBytes }

    /// Taken before the origin is asked; without it what the answer brings may be older than a delete.
    public func stamp() -> Stamp { stamps.stamp() }
}

// MARK: - Statistics

extension DiskTier {
    public struct Statistics: Sendable {
        public let ceilingBytes: Int64
        /// Files, reservations, the index and the folders together.
        public let usedBytes: Int64
        public let reservedBytes: Int64
        /// Of the reserved ones, those of unfinished uploads.
        public let uploadBytes: Int64
        public let indexBytes: Int64
        public let evictedBytes: Int64
        public let evictedBlobs: Int64
        /// What pins hold, here or still to come.
        public let pinnedBytes: Int64
        /// Blocks of files that were evicted or deleted while somebody reads them.
        public let lingeringBytes: Int64
        public let quarantinedBytes: Int64
        /// Since the start: content that was not what its name says, and files that were gone.
        public let damagedBlobs: Int64
        public let missingBlobs: Int64
        /// Complete ones, since the start.
        public let scrubs: Int64
        /// The last stop was not an orderly one.
        public let wasUnclean: Bool
    }

    public var statistics: Statistics {
        let entries = ledger.current
        return Statistics(
            ceilingBytes: configuration.ceilingBytes,
            usedBytes: entries.usedBytes,
            reservedBytes: entries.reservedBytes,
            uploadBytes: entries.uploadBytes,
            indexBytes: entries.indexBytes,
            evictedBytes: evictor.evictedBytes.load(ordering: .relaxed),
            evictedBlobs: evictor.evictedBlobs.load(ordering: .relaxed),
            pinnedBytes: pinnedBytes.load(ordering: .relaxed),
            lingeringBytes: entries.lingeringBytes,
            quarantinedBytes: entries.quarantinedBytes,
            damagedBlobs: counters.damaged.load(ordering: .relaxed),
            missingBlobs: counters.missing.load(ordering: .relaxed),
            scrubs: counters.scrubs.load(ordering: .relaxed),
            wasUnclean: run.wasUnclean
        )
    }
}

/// What happened to content since the start.
final class Counters: Sendable {
    let damaged = Atomic<Int64>(0)
    let missing = Atomic<Int64>(0)
    let scrubs = Atomic<Int64>(0)
}
