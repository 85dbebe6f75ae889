internal import LMDB
internal import OCI
internal import Synchronization
public import System
internal import Threading

/// The cache on this node's disk: verified content by digest, and what manifests and tags were when the origin was last asked.
///
/// ```
/// <directory>/lock                           who uses the directory
/// <directory>/index/                         LMDB
/// <directory>/blobs/<algorithm>/<2>/<hex>    content, named by its digest
/// <directory>/incoming/                      what is being written, with notes of what has landed of it
/// ```
///
/// Safe to use from many threads. Nothing here is truth: losing it costs fills, nothing else.
public final class DiskTier: Sendable {
    public struct Configuration: Sendable {
        public var directory: String
        /// What all files, reservations and the index may take together.
        public var ceilingBytes: Int64
        /// Blobs up to this size lie in the index itself.
        public var inlineLimitBytes = 16 << 10
        /// Eviction frees this much of the ceiling at a time, in percent, so that it does not run for each fill.
        public var evictionStepPercent: Int64 = 5
        /// Content in the index itself may take this much of the ceiling, in percent.
        public var indexSharePercent: Int64 = 20
        /// Address space for the index, and the largest size that it can grow to.
        public var indexMapBytes = 16 << 30
        /// Lookups at once; more wait for each other.
        public var indexReaderLimit = 1024

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
    let stamps = Stamps()
    let listStamps = Stamps()
    let visited = VisitedBits()
    let run: CacheIndex.Run
    let evictor = Evictor()
    let leftFills = LeftFills()
    let verifying = Monitor<Set<Digest>>([])
    private let lock: ProcessLock
    private let isClosed = Atomic(false)

    /// Opens the directory, creating it when missing. No file of the tier is looked at for it.
    public init(
        _ configuration: Configuration,
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom()
    ) throws(DiskTierError) {
        self.configuration = configuration
        self.fileSystem = fileSystem
        self.time = time
        self.random = random
        let directory = configuration.directory
        lock = try Self.prepare(directory, fileSystem)
        let index = try inIndex { () throws(LMDBError) in
            try CacheIndex(
                directory: directory + "/index",
                mapBytes: configuration.indexMapBytes,
                maximumReaders: configuration.indexReaderLimit
            )
        }
        if let format = try inIndex({ () throws(LMDBError) in try index.storedFormat() }), format != CacheIndex.format {
            throw .unknownFormat(directory: directory, found: format)
        }
        run = try inIndex { () throws(LMDBError) in try index.beginRun() }
        self.index = index
        ledger = Ledger(ceilingBytes: configuration.ceilingBytes)
        let committed = try inIndex { () throws(LMDBError) in try index.committedBytes() }
        let indexBytes = Int64(index.statistics.usedBytes)
        ledger.update { entries in
            entries.committedBytes = committed
            entries.indexBytes = indexBytes
        }
        try adoptLeftFills()
        startRecovery()
    }

    /// Marks the directory as cleanly stopped. Nothing may be under way any more.
    public func close() {
        guard !isClosed.exchange(true, ordering: .relaxed) else { return }
        // Without the mark the next start verifies more than it must, no worse.
        try? index.endRun()
    }

    public var inlineLimitBytes: Int { configuration.inlineLimitBytes }

    /// Taken before the origin is asked; without it what the answer brings may be older than a delete.
    public func stamp() -> Stamp { stamps.stamp() }

    private static func prepare(_ directory: String, _ fileSystem: any FileSystem) throws(DiskTierError) -> ProcessLock
    {
        try onDisk { () throws(FileError) in
            try fileSystem.createDirectory(directory + "/index")
            try fileSystem.createDirectory(directory + "/incoming")
            for algorithm in DigestAlgorithm.allCases {
                try fileSystem.createDirectory("\(directory)/blobs/\(algorithm.rawValue)")
            }
        }
        do throws(ProcessLock.Failure) {
            return try ProcessLock(path: directory + "/lock")
        } catch {
            switch error {
            case .held(let held): throw .held(directory: directory, processID: held.processID)
            case .file(let error): throw .file(error)
            }
        }
    }
}

// MARK: - Statistics

extension DiskTier {
    public struct Statistics: Sendable {
        public let ceilingBytes: Int64
        /// Files, reservations and the index together.
        public let usedBytes: Int64
        public let reservedBytes: Int64
        public let indexBytes: Int64
        public let evictedBytes: Int64
        public let evictedBlobs: Int64
        /// The last stop was not an orderly one.
        public let wasUnclean: Bool
    }

    public var statistics: Statistics {
        let entries = ledger.current
        return Statistics(
            ceilingBytes: configuration.ceilingBytes,
            usedBytes: entries.usedBytes,
            reservedBytes: entries.reservedBytes,
            indexBytes: entries.indexBytes,
            evictedBytes: evictor.evictedBytes.load(ordering: .relaxed),
            evictedBlobs: evictor.evictedBlobs.load(ordering: .relaxed),
            wasUnclean: run.wasUnclean
        )
    }
}
