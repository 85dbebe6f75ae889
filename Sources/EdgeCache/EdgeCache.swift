public import DiskTier
public import Logging
public import OCI
internal import ObjectStorage
public import Registry
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
        /// How long a client waits for an origin that says nothing, where a tag could be served stale.
        public var stalePatience: Duration = .seconds(3)
        /// Transfers from the origin at once, over all blobs.
        public var fillThreads = 32
        /// Transfers that may wait for a thread.
        public var fillQueueLimit = 4096
        /// Of one transfer, in bytes: larger blobs come in parts.
        public var fillPartBytes: Int64 = 8 << 20
        /// Parts of one blob at once. Readers who wait for bytes elsewhere in it may double that.
        public var fillPartsInFlight = 8
        /// How long a reader waits for bytes behind others of their part, before they are fetched by themselves.
        public var fillReaderPatience: Duration = .milliseconds(100)
        /// A fill whose last client left goes on as long as no more than this is still to fetch.
        public var fillUnattendedBytes: Int64 = 1 << 30
        /// How long a fill that is not to go on waits for a client to come back, before its parts on their way are ended.
        public var fillReturnPatience: Duration = .seconds(1)
        /// How long a blob that the origin does not have is believed to be nowhere; zero asks each time.
        public var absentTTL: Duration = .seconds(3)
        /// Blobs that are remembered to be nowhere.
        public var absentBlobLimit = 4096
        /// How long an object that proved not to be its blob counts as missing, so that it is pushed again.
        public var damagedTTL: Duration = .seconds(600)
        /// Blobs that are remembered to be damaged.
        public var damagedBlobLimit = 4096
        /// How long it is remembered at least that a client was told that something is here, and may leave it out of its push.
        public var toldTTL: Duration = .seconds(3600)
        /// About so much of that is remembered; about the latest half at least.
        public var toldLimit = 1 << 16
        /// Upload sessions at once.
        public var uploadSessionLimit = 1024
        /// How long an upload session may stay unused.
        public var uploadExpiry: Duration = .seconds(24 * 3600)
        /// Uploads at the origin that no session here owns are aborted when they are older; longer than any node's `uploadExpiry`.
        public var abandonedUploadGrace: Duration = .seconds(48 * 3600)
        /// Parts of uploads that are sent to the origin at once.
        public var pushThreads = 32
        /// Transfers at once of what the disk has no room for: each goes at the pace of the clients that read along.
        public var passingReadLimit = 32
        /// How long a read waits for the end of such a transfer when there are that many.
        public var passingReadPatience: Duration = .seconds(20)
        /// Uploads at once that go to the origin without the disk, when that has no room. Each holds two parts in memory.
        public var passingUploadLimit = 4
        /// Parts are sent before the digest is known; `nil`: to a store that then moves them to their name cheaply.
        public var sendsUnnamedParts: Bool?

        public init() {}
    }

    /// How often a blob that is stored and evicted again at once is looked for.
    private static let maximumLooks = 4

    /// Where the truth is, for people.
    public var originName: String { registry.store.description }

    let registry: Registry
    let tier: DiskTier
    let configuration: Configuration
    let fileSystem: any FileSystem
    let time: any TimeSource
    let log: Logger
    let uploads: UploadSessions
    let uploadTools: UploadTools
    let activity = ActivityCounters()
    let manifestFlights = SingleFlight<ManifestFlight, Result<ManifestAnswer?, EdgeError>>()
    let listFlights = SingleFlight<NameList, Result<[String]?, EdgeError>>()
    let fills: Fills
    let damages: DamagedBlobs
    let told: ToldContent
    let restoreFlights = SingleFlight<Digest, Result<Bool, EdgeError>>()
    /// What was confirmed before this may have been so by an index that was lost since.
    let confirmedSince: WallTime?
    private let origin: StoreAvailability

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
        origin = registry.store.availability
        self.tier = tier
        self.configuration = configuration
        self.fileSystem = fileSystem
        self.time = time
        self.log = log
        confirmedSince = tier.statistics.wasUnclean ? time.wallTime() : nil
        damages = DamagedBlobs(configuration, time: time)
        told = ToldContent(configuration, time: time)
        uploadTools = UploadTools(
            configuration,
            registry: registry,
            tier: tier,
            damages: damages,
            fileSystem: fileSystem,
            log: log
        )
        uploads = UploadSessions(configuration, uploadTools, time: time, random: random)
        uploads.startSweeping()
        fills = Fills(
            configuration,
            registry: registry,
            tier: tier,
            damages: damages,
            fileSystem: fileSystem,
            time: time,
            log: log
        )
    }

    /// Breaks off running fills, leaves unfinished uploads to the next run, and ends the threads. False when one still waits for the
    /// origin at the limit.
    @discardableResult
    public func close(within limit: Duration = .seconds(30)) -> Bool {
        let deadline = Deadline.after(limit)
        let haveUploadsEnded = uploads.close(until: deadline)
        return fills.close(until: deadline) && haveUploadsEnded
    }

    /// Waits until no fill is under way.
    public func waitForFills() {
        fills.waitUntilIdle()
    }

    /// Waits until this blob is not being filled.
    public func waitForFill(of digest: Digest) { fills.waitUntilIdle(digest) }

    public var fillStatistics: FillStatistics { fills.counters.statistics }

    /// Nobody asks the origin now: answers come from here alone. A relaxed load.
    public var isOriginDown: Bool { origin.isDown }
}

// MARK: - Blobs

extension EdgeCache {
    /// A blob's bytes: from disk, or from the origin while they land on disk. `nil` when nobody has it.
    ///
    /// Blocks until the size is known, so that an answer can announce it.
    ///
    /// - Parameter near: where the client wants to read, as far as is known: of a blob that is nowhere here, these bytes come first.
    public func blob(_ digest: Digest, near: Int64 = 0) throws(EdgeError) -> BlobContent? {
        try find(digest, near: near) { _ in }
    }

    /// ``blob(_:near:)`` for a client.
    ///
    /// - Parameter note: told where the answer came from, also where there is none.
    public func find(
        _ digest: Digest,
        near: Int64 = 0,
        noting note: (CacheStatus) -> Void
    ) throws(EdgeError) -> BlobContent? {
        var status = CacheStatus.hit
        defer { count(status, note) }
        return try look(digest, near, &status)
    }

    /// ``blobSize(_:)`` for a client. What the origin has said a moment ago is from the origin too.
    public func findSize(_ digest: Digest, noting note: (CacheStatus) -> Void) throws(EdgeError) -> Int64? {
        var status = CacheStatus.hit
        defer { count(status, note) }
        var size = sizeHere(digest)
        if size == nil {
            status = .miss
            size = try sizeAtOrigin(digest)
        }
        if size != nil { told.insert(digest) }
        return size
    }

    /// What is counted is what is told.
    func count(_ status: CacheStatus, _ note: (CacheStatus) -> Void) {
        activity.count(status)
        note(status)
    }

    private func look(_ digest: Digest, _ near: Int64, _ status: inout CacheStatus) throws(EdgeError) -> BlobContent? {
        for _ in 0..<Self.maximumLooks {
            if let content = cached(digest) { return content }
            status = .miss
            if let size = fills.sizeOfTooLarge(digest), near < size { return passThrough(digest, size) }
            let joined = try fills.join(digest, near: near) { cachedSize(digest) != nil }
            guard let (member, isNew) = joined else { return nil }
            if !isNew { status = member.fill.verifiedSize != nil ? .hit : .joined }
            switch member.fill.waitForOpening() {
            case .onDisk:
                continue
            case .unknownBlob:
                return nil
            case .bytes(let bytes):
                return .bytes(bytes)
            case .streaming(let size):
                return .stream(FillReader(member, fills, size: size), size: size)
            case .notStored(let size):
                return passThrough(digest, size)
            case .failed(let error):
                throw error
            }
        }
        // It is evicted as fast as it is stored, or the disk cannot be read.
        guard let size = try sizeAtOrigin(digest, anew: true) else { return nil }
        return passThrough(digest, size)
    }

    private func passThrough(_ digest: Digest, _ size: Int64) -> BlobContent {
        .stream(PassThrough(fills, digest, size: size), size: size)
    }

    /// A blob's size in bytes, without fetching it. `nil` when nobody has it.
    public func blobSize(_ digest: Digest) throws(EdgeError) -> Int64? {
        try findSize(digest) { _ in }
    }

    /// A blob's size for somebody who says that it is there: the origin is asked, also when it did not have the blob a moment ago.
    public func sizeAnew(_ digest: Digest) throws(EdgeError) -> Int64? {
        if let size = cachedSize(digest) { return size }
        return try confirmedSize(digest)
    }

    /// Whether a blob is here, without asking anybody.
    public func holds(_ digest: Digest) -> Bool { sizeHere(digest) != nil }

    /// What a fill has, too: it is looked at first, for the tier has it when the fill is gone.
    private func sizeHere(_ digest: Digest) -> Int64? { fills.verifiedSize(digest) ?? cachedSize(digest) }

    func sizeAtOrigin(_ digest: Digest, anew: Bool = false) throws(EdgeError) -> Int64? {
        if !anew, fills.isAbsent(digest) { return nil }
        let pushes = fills.pushes
        let info = try atOrigin { () throws(RegistryError) in try registry.blobInfo(digest) }
        if info == nil { fills.foundAbsent(digest, since: pushes) }
        return damages.size(digest, info)
    }

    /// Removes a blob from the origin and from here; false when neither had it.
    public func deleteBlob(_ digest: Digest) throws(EdgeError) -> Bool {
        let existed = try atOrigin { () throws(RegistryError) in try registry.blobExists(digest) }
        do throws(EdgeError) {
            try atOrigin { () throws(RegistryError) in try registry.deleteBlob(digest) }
        } catch {
            // Its answer may be lost: whether the blob is there still only the origin knows.
            if error.mayBeDone { drop("\(digest)") { () throws(DiskTierError) in try forget(digest) } }
            throw error
        }
        try onDisk { () throws(DiskTierError) in try forget(digest) }
        return existed
    }

    /// What the tier had of it is gone before others may begin anew.
    private func forget(_ digest: Digest) throws(DiskTierError) {
        defer { fills.hasDeleted(digest) }
        try tier.remove(digest)
    }

    /// A tier that cannot be read makes misses, not errors.
    func cached(_ digest: Digest) -> BlobContent? {
        do throws(DiskTierError) {
            switch try tier.lookup(digest) {
            case .inline(let bytes): return .bytes(bytes)
            case .file(let file, let status): return .file(file, status)
            case .checking(let check): return .stream(CheckedFile(check, fileSystem), size: check.size)
            case nil: return nil
            }
        } catch {
            tier.note(error)
            return nil
        }
    }

    func cachedSize(_ digest: Digest) -> Int64? {
        do throws(DiskTierError) {
            return try tier.size(of: digest)
        } catch {
            tier.note(error)
            return nil
        }
    }

    /// The origin has the blob now, and its client hears so.
    func hasPushed(_ digest: Digest) {
        fills.hasPushed(digest)
        told.insert(digest)
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

extension DiskTier {
    /// Only the cache is poorer. What ails the disk is told once for all, and not once for each that it does not keep.
    func tellNotKept(_ what: String, _ error: DiskTierError, _ log: Logger) {
        note(error)
        let level: Logger.Level = error.isOfTheDisk ? .debug : .notice
        log.log(level: level, "not kept on disk", metadata: ["what": "\(what)", "error": "\(error)"])
    }
}
