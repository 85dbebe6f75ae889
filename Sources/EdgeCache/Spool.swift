internal import DiskTier
internal import Hashing
internal import OCI
internal import ObjectStorage
internal import System

/// The bytes of one upload on their way in: hashed as they arrive, small ones in memory, larger ones in a reserved file of the tier.
///
/// Not thread-safe: the session sees to it that one request uses it at a time.
final class Spool {
    /// How much room is reserved at once when a client does not say how much it sends.
    private static let reservationStepBytes: Int64 = 8 << 20

    private let tier: DiskTier
    private let fileSystem: any FileSystem
    private let reservation: Reservation
    /// That of the file; `nil` where nobody comes back to the upload.
    private let name: String?
    /// An earlier run has left the file; it is not open yet.
    private var isAsleep = false
    private var reserved: Int64 = 0
    private let algorithm: DigestAlgorithm
    private var hash: ContentHash
    private var memory: [UInt8] = []
    private var incoming: IncomingFile?
    private var writer: FileWriter?
    private(set) var size: Int64 = 0

    /// Where a chunk began, to come back to when it fails.
    struct Mark: ~Copyable {
        fileprivate let hash: ContentHash
        fileprivate let size: Int64
    }

    /// - Parameter id: of the session; `nil` for an upload in one request.
    init(
        _ algorithm: DigestAlgorithm,
        named id: String? = nil,
        tier: DiskTier,
        fileSystem: any FileSystem
    ) throws(DiskTierError) {
        self.tier = tier
        self.fileSystem = fileSystem
        name = id.map(UploadJournal.dataName)
        self.algorithm = algorithm
        reservation = try tier.reserve(0)
        hash = ContentHash(algorithm)
    }

    /// As an earlier run has left it; `nil` when that cannot be taken up again. The file is not opened yet.
    init?(resuming record: UploadRecord, named id: String, tier: DiskTier, fileSystem: any FileSystem) {
        let name = UploadJournal.dataName(id)
        guard let hash = ContentHash(record.algorithm, resuming: record.hashState),
            // A file that cannot even be looked at is as good as gone.
            let reservation = try? tier.reservationOfUploadFile(name)
        else { return nil }
        self.tier = tier
        self.fileSystem = fileSystem
        self.name = name
        self.reservation = reservation
        self.hash = hash
        algorithm = record.algorithm
        size = record.offset
        reserved = record.isInFile ? size : 0
        memory = record.tail
        isAsleep = record.isInFile
    }

    /// Opens what an earlier run has left; false when it is not all there.
    func wake() throws(DiskTierError) -> Bool {
        guard isAsleep, let name else { return true }
        guard let file = try tier.reopenUploadFile(name, size: size, reservation) else { return false }
        incoming = file
        writer = FileWriter(file.file, at: size, in: fileSystem)
        isAsleep = false
        return true
    }

    /// What the next run needs to go on from here. Everything is in the file by then that belongs there.
    func record(_ repository: RepositoryName, lastUsed: Int64, verified: Digest?) -> UploadRecord {
        UploadRecord(
            repository: repository,
            algorithm: algorithm,
            offset: size,
            lastUsed: lastUsed,
            verified: verified,
            hashState: hash.state,
            tail: memory
        )
    }

    /// Everything before the mark is in the file then, so that going back needs no write.
    func mark() throws(DiskTierError) -> Mark {
        try flush()
        return Mark(hash: hash.copy(), size: size)
    }

    /// Forgets everything since the mark.
    func rewind(to mark: consuming Mark) throws(DiskTierError) {
        hash = mark.hash.copy()
        size = mark.size
        guard let file = incoming?.file else {
            memory.removeLast(memory.count - Int(size))
            return
        }
        writer = FileWriter(file, at: size, in: fileSystem)
        try onDisk { () throws(FileError) in try fileSystem.truncate(file, to: size) }
    }

    /// Makes sure that `bytes` more will fit, where the client announced how many come.
    func expect(_ bytes: Int64) throws(DiskTierError) {
        let needed = size + bytes - reserved
        guard size + bytes > Int64(tier.inlineLimitBytes), needed > 0 else { return }
        try reservation.grow(by: needed)
        reserved += needed
    }

    func append(_ bytes: Span<UInt8>) throws(DiskTierError) {
        hash.update(bytes)
        size += Int64(bytes.count)
        if incoming == nil {
            guard size > tier.inlineLimitBytes else { return memory.append(bytes) }
            try spill()
        }
        if size > reserved { try expect(Self.reservationStepBytes) }
        try onDisk { () throws(FileError) in try writer?.append(bytes) }
    }

    /// The digest of everything so far, in whatever algorithm the client names in the end.
    func digest(_ algorithm: DigestAlgorithm) throws(DiskTierError) -> Digest {
        let running = hash.digest()
        if running.algorithm == algorithm { return running }
        guard let file = incoming?.file else { return Digest(of: memory, algorithm) }
        try flush()
        var hash = ContentHash(algorithm)
        var offset: Int64 = 0
        while offset < size {
            let piece = try onDisk { () throws(FileError) in
                try fileSystem.read(file, at: offset, count: Int(min(1 << 20, size - offset)))
            }
            hash.update(piece.span)
            offset += Int64(piece.count)
        }
        return hash.digest()
    }

    /// What goes to the origin.
    func body() throws(DiskTierError) -> ObjectBody {
        guard let file = incoming?.file else { return .bytes(memory) }
        try flush()
        return .file(file, offset: 0, length: size)
    }

    /// Makes the content part of the tier; false when it was deleted meanwhile. The spool is spent.
    func commit(as digest: Digest, since stamp: DiskTier.Stamp) throws(DiskTierError) -> Bool {
        guard let incoming = incoming.take() else {
            return try tier.insertInline(digest, memory, since: stamp)
        }
        return try incoming.commit(as: digest, size: size, since: stamp)
    }

    /// Hands everything to the file, where there is one.
    func flush() throws(DiskTierError) {
        try onDisk { () throws(FileError) in try writer?.flush() }
    }

    /// Too large for memory: from here on a file takes it.
    private func spill() throws(DiskTierError) {
        if size > reserved { try expect(0) }
        let file =
            if let name { try tier.newUploadFile(name, reservation) } else { try tier.newFile(reservation) }
        writer = FileWriter(file.file, in: fileSystem)
        let start = memory
        // A mark may lie within these bytes.
        try onDisk { () throws(FileError) in try writer?.append(start.span) }
        try flush()
        memory = []
        incoming = file
    }
}

private func onDisk<Answer>(_ body: () throws(FileError) -> Answer) throws(DiskTierError) -> Answer {
    do throws(FileError) {
        return try body()
    } catch {
        throw .file(error)
    }
}
