public import DiskTier
public import Logging
public import OCI
internal import ObjectStorage
public import Registry
internal import Synchronization
public import System
internal import Threading

/// The cache at the edge: joins the disk tier with the origin.
///
/// - Reads go to the disk first; what is missing is filled from the origin, once for all who ask.
/// - Writes go through to the origin before they are acknowledged, and are warm on disk then.
/// - Deletes are carried out at the origin and forgotten here in one step.
///
/// Safe to use from many threads; all calls block, none holds a lock while it does.
public final class EdgeCache: Sendable {
    public struct Configuration: Sendable {
        /// How long a tag learned from the origin is believed; zero asks each time, conditionally.
        public var tagTTL: Duration = .seconds(10)
        /// How long after its last confirmation a tag may be served while the origin is down.
        public var staleIfError: Duration = .seconds(24 * 3600)
        /// Transfers from the origin at once.
        public var fillThreads = 16
        /// Blobs that may wait for a transfer.
        public var fillQueueLimit = 4096
        /// Upload sessions at once.
        public var uploadSessionLimit = 1024
        /// How long an upload session may stay unused.
        public var uploadExpiry: Duration = .seconds(24 * 3600)

        public init() {}
    }

    /// How often a blob that is stored and evicted again at once is looked for.
    private static let maximumLooks = 4

    let registry: Registry
    let tier: DiskTier
    let configuration: Configuration
    let fileSystem: any FileSystem
    let time: any TimeSource
    let log: Logger
    let uploads: UploadSessions
    let manifestFlights = SingleFlight<ManifestFlight, Result<ManifestAnswer?, EdgeError>>()
    let listFlights = SingleFlight<NameList, Result<[String]?, EdgeError>>()
    private let fills = Monitor<[Digest: Fill]>([:])
    private let fillPool: WorkerPool
    private let isClosing = Atomic(false)

    public init(
        registry: Registry,
        tier: DiskTier,
        configuration: Configuration = Configuration(),
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(),
        log: Logger
    ) {
        self.registry = registry
        self.tier = tier
        self.configuration = configuration
        self.fileSystem = fileSystem
        self.time = time
        self.log = log
        uploads = UploadSessions(
            configuration,
            tier: tier,
            fileSystem: fileSystem,
            time: time,
            random: random,
            log: log
        )
        uploads.startSweeping()
        fillPool = WorkerPool(
            name: "fill",
            threads: configuration.fillThreads,
            queueLimit: configuration.fillQueueLimit
        )
    }

    /// Breaks off running fills, leaves unfinished uploads to the next run, and ends the threads. False when one still waits for the
    /// origin at the limit.
    @discardableResult
    public func close(within limit: Duration = .seconds(30)) -> Bool {
        isClosing.store(true, ordering: .relaxed)
        let deadline = Deadline.after(limit)
        let haveUploadsEnded = uploads.close(until: deadline)
        return fillPool.close(until: deadline) && haveUploadsEnded
    }

    /// Waits until no fill is under way.
    public func waitForFills() {
        _ = fills.wait { $0.isEmpty ? true : nil }
    }
}

// MARK: - Blobs

extension EdgeCache {
    /// A blob's bytes: from disk, or from the origin while they land on disk. `nil` when nobody has it.
    ///
    /// Blocks until the size is known, so that an answer can announce it.
    public func blob(_ digest: Digest) throws(EdgeError) -> BlobContent? {
        for _ in 0..<Self.maximumLooks {
            if let content = cached(digest) { return content }
            let fill = try fill(digest)
            switch fill.waitForOpening() {
            case .onDisk:
                continue
            case .unknownBlob:
                return nil
            case .bytes(let bytes):
                return .bytes(bytes)
            case .streaming(let size):
                let reader = FillReader(fill, fileSystem: fileSystem) { [registry] from in
                    PassThrough(registry: registry, digest: digest, size: size, alreadyRead: from)
                }
                return .stream(reader, size: size)
            case .notStored(let size):
                return .stream(PassThrough(registry: registry, digest: digest, size: size), size: size)
            case .failed(let error):
                throw error
            }
        }
        throw .busy("blob \(digest) is evicted as fast as it is stored")
    }

    /// A blob's size in bytes, without fetching it. `nil` when nobody has it.
    public func blobSize(_ digest: Digest) throws(EdgeError) -> Int64? {
        if let size = cachedSize(digest) { return size }
        return try atOrigin { () throws(RegistryError) in try registry.blobInfo(digest)?.size }
    }

    /// Removes a blob from the origin and from here; false when neither had it.
    public func deleteBlob(_ digest: Digest) throws(EdgeError) -> Bool {
        let existed = try atOrigin { () throws(RegistryError) in
            let exists = try registry.blobExists(digest)
            try registry.deleteBlob(digest)
            return exists
        }
        try onDisk { () throws(DiskTierError) in try tier.remove(digest) }
        return existed
    }

    /// A tier that cannot be read makes misses, not errors.
    private func cached(_ digest: Digest) -> BlobContent? {
        do throws(DiskTierError) {
            switch try tier.lookup(digest) {
            case .inline(let bytes): return .bytes(bytes)
            case .file(let file, let size): return .file(file, size: size)
            case .checking(let check): return .stream(CheckedFile(check, fileSystem), size: check.size)
            case nil: return nil
            }
        } catch {
            log.error("lookup failed", metadata: ["digest": "\(digest)", "error": "\(error)"])
            return nil
        }
    }

    func cachedSize(_ digest: Digest) -> Int64? {
        do throws(DiskTierError) {
            return try tier.size(of: digest)
        } catch {
            log.error("lookup failed", metadata: ["digest": "\(digest)", "error": "\(error)"])
            return nil
        }
    }

    /// The fill under way for this digest, begun now if there is none.
    private func fill(_ digest: Digest) throws(EdgeError) -> Fill {
        let (fill, isNew) = fills.withLock { fills in
            // One that ended without the blob may still be listed; what it found may be no longer true.
            if let running = fills[digest], !running.hasEndedInVain { return (running, false) }
            let fill = Fill(digest)
            fills[digest] = fill
            return (fill, true)
        }
        guard isNew else { return fill }
        // The one before may have ended after the caller's look and before ours.
        if cachedSize(digest) != nil {
            end(fill, .onDisk)
            return fill
        }
        let started = fillPool.submit { [self] in
            FillWorker(fill, registry: registry, tier: tier, fileSystem: fileSystem, log: log) { [self] in
                isClosing.load(ordering: .relaxed)
            }.run()
            forget(fill)
        }
        if !started {
            end(fill, .failed(.origin(.busy("\(configuration.fillQueueLimit) blobs already wait to be fetched"))))
        }
        return fill
    }

    private func end(_ fill: Fill, _ phase: Fill.Phase) {
        forget(fill)
        fill.update { $0.phase = phase }
    }

    /// The origin has the blob now: whoever asks from now on does not join a fill that may have looked before.
    func hasPushed(_ digest: Digest) {
        fills.update { $0[digest] = nil }
    }

    private func forget(_ fill: Fill) {
        fills.update { fills in
            if fills[fill.digest] === fill { fills[fill.digest] = nil }
        }
    }
}

// MARK: - Errors

extension EdgeCache {
    func atOrigin<Answer>(_ body: () throws(RegistryError) -> Answer) throws(EdgeError) -> Answer {
        do throws(RegistryError) {
            return try body()
        } catch {
            throw .origin(error)
        }
    }

    func onDisk<Answer: ~Copyable>(_ body: () throws(DiskTierError) -> Answer) throws(EdgeError) -> Answer {
        do throws(DiskTierError) {
            return try body()
        } catch {
            throw .tier(error)
        }
    }
}
