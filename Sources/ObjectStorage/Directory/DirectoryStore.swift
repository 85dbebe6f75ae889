internal import Synchronization
public import System

/// Objects as files below a directory, named by their keys: an origin that needs no server.
///
/// - A file appears whole, under its name, once its bytes are on stable storage; what a crash leaves half-written is in a folder of its own
///   (`.forebay/tmp`) and removed later; an upload in parts grows beside it (`.forebay/uploads`) until it is complete. Any number of processes may use one directory.
/// - The content type is kept in the extended attribute `user.forebay.content_type` of the file itself, so that it appears and disappears with the
///   bytes. A volume without such attributes keeps none (``StoreCapabilities/keepsContentType``).
/// - The ETag is made of the file's inode, time of modification and size: it changes with each write, but equal contents have different ones.
/// - Symbolic links below the directory are not followed, so no key leads out of it.
/// - A file and a directory cannot have one name: with an object `a/b`, storing `a` is a conflict, and the other way round.
public final class DirectoryStore: ObjectStore {
    /// Without symbolic links.
    let root: String
    let fileSystem: any FileSystem
    private let time: any TimeSource
    let random: any RandomSource
    private let keepsContentType: Bool
    /// As of the last ``check(isCancelled:)``. Whatever is asked for is tried all the same.
    public let availability = StoreAvailability(isDown: false)
    private let outages = Atomic(0)

    static let contentTypeAttribute = "user.forebay.content_type"
    static let contentTypeLimitBytes = 1_024
    /// The first segment of keys that are not available: the store's own folder.
    static let ownFolder = ".forebay"
    static let bufferBytes = 256 << 10
    static let listLimit = 100_000
    /// A file that nobody has written to for so long was left by a crash.
    static let temporaryFileLifeSeconds: Int64 = 3_600
    /// How often a directory may vanish, emptied by others, before a file is moved into it.
    static let placementAttempts = 100
    /// Longest name of a file in bytes, on all of Linux's usual volumes (`NAME_MAX`).
    static let maximumSegmentBytes = 255

    /// Creates the directory when it is missing.
    public init(
        root: String,
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom()
    ) throws(StoreError) {
        self.fileSystem = fileSystem
        self.time = time
        self.random = random
        do throws(FileError) {
            try fileSystem.createDirectory(root)
            self.root = try fileSystem.resolve(root)
            let own = "\(self.root)/\(Self.ownFolder)"
            try fileSystem.createDirectory("\(own)/tmp")
            try fileSystem.createDirectory("\(own)/uploads")
            let lock = try openLockFile(at: "\(own)/lock", in: fileSystem)
            keepsContentType = try fileSystem.setAttribute(Self.contentTypeAttribute, [], of: lock)
            try removeStaleTemporaryFiles()
        } catch {
            throw StoreError(.check, in: "file://\(root)", .file(error), "")
        }
        precondition(self.root != "/", "the root of the file system is no place for objects")
    }

    public var description: String { "file://\(root)" }

    public var capabilities: StoreCapabilities {
        StoreCapabilities(
            ifAbsent: true,
            ifMatch: true,
            etagIsContentHash: false,
            keepsContentType: keepsContentType,
            listLimit: Self.listLimit
        )
    }

    /// Everything is known without trying.
    public func probe(at key: ObjectKey) throws(StoreError) -> StoreCapabilities { capabilities }

    /// Creates a file and removes it. What comes of it is the store's ``availability``.
    public func check(isCancelled: @escaping @Sendable () -> Bool) throws(StoreError) {
        do throws(StoreError) {
            try reporting(.check, nil) {
                try checkPresence(.check, nil)
                let path = temporaryPath()
                _ = try fileSystem.open(path, .create)
                try fileSystem.remove(path)
            }
            availability.set(isDown: false)
        } catch {
            if !availability.set(isDown: true) { outages.add(1, ordering: .relaxed) }
            throw error
        }
    }

    public var health: StoreHealth {
        var health = StoreHealth()
        health.outages = outages.load(ordering: .relaxed)
        return health
    }

    // MARK: Paths

    /// Where an object's file is; `nil` when no file can have such a name.
    func path(of key: ObjectKey) -> String? {
        let segments = key.description.utf8.split(separator: UInt8(ascii: "/"))
        guard !segments.contains(where: { $0.count > Self.maximumSegmentBytes }),
            !segments[0].elementsEqual(Self.ownFolder.utf8)
        else { return nil }
        return "\(root)/\(key)"
    }

    func temporaryPath() -> String { "\(root)/\(Self.ownFolder)/tmp/\(random.token())" }

    private func removeStaleTemporaryFiles() throws(FileError) {
        let folder = "\(root)/\(Self.ownFolder)/tmp"
        let now = time.wallTime().seconds
        for entry in try fileSystem.entries(of: folder) where !entry.isDirectory {
            guard let status = try fileSystem.status(at: "\(folder)/\(entry.name)"),
                status.modifiedNanoseconds / 1_000_000_000 < now - Self.temporaryFileLifeSeconds
            else { continue }
            try fileSystem.remove("\(folder)/\(entry.name)")
        }
    }

    // MARK: Shared parts

    /// Runs `body` while no other thread or process changes the directory's names. It must only look and rename: bytes and syncs are slow.
    func withLock<Result>(_ body: () throws -> Result) throws -> Result {
        let lock = try openLockFile(at: "\(root)/\(Self.ownFolder)/lock", in: fileSystem)
        try fileSystem.lock(lock)
        // The lock ends with the file.
        defer { withExtendedLifetime(lock) {} }
        return try body()
    }

    func linkOnPath(_ operation: StoreError.Operation, _ key: ObjectKey) -> StoreError {
        failure(operation, key, .denied, "a symbolic link is on its path")
    }

    func wallNanoseconds() -> Int64 {
        let now = time.wallTime()
        return now.seconds * 1_000_000_000 + Int64(now.nanoseconds)
    }

    /// Runs a piece of work that meets both kinds of errors, and throws one.
    func reporting<Result>(
        _ operation: StoreError.Operation,
        _ key: ObjectKey?,
        _ body: () throws -> Result
    ) throws(StoreError) -> Result {
        do {
            return try body()
        } catch let error as StoreError {
            throw error
        } catch let error as FileError {
            // Where that cannot be told, the first error stands.
            if error.isNotFound, (try? isGone()) == true { throw gone(operation, key) }
            guard error.isNoSpace else { throw failure(operation, key, .file(error), "") }
            throw failure(operation, key, .noSpace, "\(error)")
        } catch {
            throw failure(operation, key, .other, "\(error)")
        }
    }

    /// A volume that is not mounted has no objects, and says nothing of what there is.
    func checkPresence(_ operation: StoreError.Operation, _ key: ObjectKey?) throws {
        if try isGone() { throw gone(operation, key) }
    }

    private func isGone() throws(FileError) -> Bool { try fileSystem.status(at: "\(root)/\(Self.ownFolder)") == nil }

    func gone(_ operation: StoreError.Operation, _ key: ObjectKey?) -> StoreError {
        failure(operation, key, .unreachable, "\(root)/\(Self.ownFolder) is gone: is the volume mounted?")
    }

    func failure(
        _ operation: StoreError.Operation,
        _ key: ObjectKey?,
        _ kind: StoreError.Kind,
        _ message: String
    ) -> StoreError {
        StoreError(operation, in: description, key: key, kind, message)
    }
}

/// Creates the file when it is missing.
private func openLockFile(at path: String, in fileSystem: any FileSystem) throws(FileError) -> File {
    do throws(FileError) {
        return try fileSystem.open(path, .readWrite)
    } catch {
        guard error.isNotFound else { throw error }
    }
    try fileSystem.createDirectory(parentDirectory(of: path))
    do throws(FileError) {
        return try fileSystem.open(path, .create)
    } catch {
        // Another process was faster.
        guard error.isAlreadyThere else { throw error }
        return try fileSystem.open(path, .readWrite)
    }
}

extension FileStatus {
    /// The modification time is set to the nanosecond when an object is stored, so that a reused inode cannot bring back an old tag.
    var etag: String {
        [inode, UInt64(bitPattern: modifiedNanoseconds), UInt64(size)]
            .map { String($0, radix: 16) }.joined(separator: "-")
    }

    var modified: WallTime {
        WallTime(
            seconds: modifiedNanoseconds / 1_000_000_000,
            nanoseconds: Int32(modifiedNanoseconds % 1_000_000_000)
        )
    }
}

func starts(_ text: String, with prefix: String) -> Bool { text.utf8.starts(with: prefix.utf8) }
