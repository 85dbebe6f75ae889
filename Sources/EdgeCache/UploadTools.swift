internal import DiskTier
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import Synchronization
internal import System
internal import Threading

/// What every upload of this node works with.
final class UploadTools: Sendable {
    let registry: Registry
    let tier: DiskTier
    let damages: DamagedBlobs
    let fileSystem: any FileSystem
    let log: Logger
    let journal: UploadJournal
    /// Sends parts to the origin.
    let pool: WorkerPool
    /// Parts are sent to the origin before the digest is known; `nil`: where moving them to their name is cheap.
    let sendsUnnamed: Bool?
    /// Uploads that may hold parts in memory because the disk has no room.
    private let passing: Mutex<(count: Int, limit: Int)>
    private let closing = Atomic(false)
    private let isTryingMoves = Atomic(false)

    init(
        _ configuration: EdgeCache.Configuration,
        registry: Registry,
        tier: DiskTier,
        damages: DamagedBlobs,
        fileSystem: any FileSystem,
        log: Logger
    ) {
        self.registry = registry
        self.tier = tier
        self.damages = damages
        self.fileSystem = fileSystem
        self.log = log
        journal = UploadJournal(tier: tier, fileSystem: fileSystem, log: log)
        sendsUnnamed = configuration.sendsUnnamedParts
        passing = Mutex((0, configuration.passingUploadLimit))
        pool = WorkerPool(name: "push", threads: configuration.pushThreads, queueLimit: configuration.pushThreads * 64)
    }

    /// Nothing more is sent ahead.
    var isClosing: Bool { closing.load(ordering: .relaxed) }
    func close() { closing.store(true, ordering: .relaxed) }

    /// How long the object under this name is; `nil` also when it is not the blob, or may not be: who asks has the bytes.
    func lengthAtOrigin(_ digest: Digest) throws(RegistryError) -> Int64? {
        try damages.contains(digest) ? nil : registry.blobInfo(digest)?.size
    }

    /// Whether the caller may try out what moving parts costs: one upload at a time does. It calls ``endTrial()``.
    func beginTrial() -> Bool { !isClosing && !isTryingMoves.exchange(true, ordering: .relaxed) }
    func endTrial() { isTryingMoves.store(false, ordering: .relaxed) }

    var hasPassage: Bool { passing.withLock { $0.count < $0.limit } }

    /// The right to hold parts in memory, for one upload; `nil` when too many do.
    func takePassage() -> Passage? {
        let isFree = passing.withLock { passing in
            guard passing.count < passing.limit else { return false }
            passing.count += 1
            return true
        }
        return isFree ? Passage(self) : nil
    }

    final class Passage: Sendable {
        private let tools: UploadTools

        fileprivate init(_ tools: UploadTools) { self.tools = tools }

        deinit { tools.passing.withLock { $0.count -= 1 } }
    }
}
