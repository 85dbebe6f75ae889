internal import DiskTier
internal import Hashing
internal import OCI
internal import Synchronization
internal import System

/// The bytes of a fill on disk, and the running hash over them.
///
/// Sendable because `hash` belongs to the thread that has the fill's hashing turn, `incoming` to the one that writes the note while others may,
/// then to the one that ends the fill; the rest does not change, or has a lock.
final class FillContent: @unchecked Sendable {
    /// How much is hashed, or read for it, at a time.
    static let blockBytes = FillNote.unitBytes
    /// So many blocks are noted at once.
    private static let notedAtOnce = 4

    private struct Unnoted {
        var blocks: [FillNote.Block] = []
        var isWriting = false
        /// The disk did not take the note.
        var isGivenUp = false

        mutating func takeDue(_ least: Int) -> [FillNote.Block] {
            guard !isWriting, blocks.count >= least else { return [] }
            isWriting = true
            defer { blocks = [] }
            return blocks
        }
    }

    let digest: Digest
    let size: Int64
    /// Of the origin's object.
    let etag: String?
    let file: File
    /// What an earlier run has noted, in order.
    private let noted: [FillNote.Block]
    private let fileSystem: any FileSystem
    private var incoming: IncomingFile?
    private var hash: ContentHash
    private let watch: WriteWatch
    private let unnoted = Mutex(Unnoted())

    init(
        _ digest: Digest,
        size: Int64,
        etag: String?,
        _ incoming: IncomingFile,
        in fileSystem: any FileSystem
    ) throws(FileError) {
        self.digest = digest
        self.size = size
        self.etag = etag
        self.incoming = incoming
        self.fileSystem = fileSystem
        file = incoming.file
        watch = try Self.watch(incoming, size: size)
        noted = []
        hash = ContentHash(digest.algorithm)
    }

    /// What an earlier fill has left.
    private init(
        _ remains: FillRemains,
        _ incoming: IncomingFile,
        in fileSystem: any FileSystem
    ) throws(FileError) {
        digest = remains.digest
        size = remains.map.size
        etag = remains.etag
        self.incoming = incoming
        self.fileSystem = fileSystem
        file = incoming.file
        watch = try Self.watch(incoming, size: size)
        if remains.isSuspect { watch.distrust() }
        noted = remains.noted
        hash = remains.hash.copy()
    }

    /// The file has its full length from the start: one that is shorter has been cut, by somebody else.
    private static func watch(_ incoming: IncomingFile, size: Int64) throws(FileError) -> WriteWatch {
        try incoming.watch.resize(to: size)
        return incoming.watch
    }

    func write(_ block: [UInt8], at offset: Int64) throws(FileError) {
        try watch.write(block.span, at: offset)
    }

    /// Somebody else may have written to the file: what was hashed on its way there may not be what it has.
    func isSuspect() throws(FileError) -> Bool { try watch.isSuspect() }

    /// All is written.
    func rest() { watch.rest() }

    /// Somebody else has written to the file since all of it proved right.
    var isOverwritten: Bool { watch.isOverwritten() }

    /// Whether the file, read from its start, has the blob; false also when somebody goes on changing it, or it is no longer wanted.
    func proves(isWanted: () -> Bool) throws(FileError) -> Bool {
        try watch.proves { () throws(FileError) in
            var hash = ContentHash(digest.algorithm)
            var offset: Int64 = 0
            while offset < size, isWanted() {
                let bytes = try read(offset..<size)
                hash.update(bytes.span)
                offset += Int64(bytes.count)
            }
            return offset == size && hash.digest() == digest
        }
    }

    /// Hashes at most ``blockBytes`` from the start of `range` on, from `block` when it lies there; returns where it stopped.
    func hash(_ range: Range<Int64>, from block: [UInt8], at start: Int64) throws(FileError) -> Int64 {
        if range.lowerBound == start, Int64(block.count) <= range.upperBound - start, !block.isEmpty {
            hash.update(block.span)
            return start + Int64(block.count)
        }
        let bytes = try read(range)
        hash.update(bytes.span)
        return range.lowerBound + Int64(bytes.count)
    }

    /// Of everything hashed so far.
    var hashedDigest: Digest { hash.digest() }

    private func read(_ range: Range<Int64>) throws(FileError) -> [UInt8] {
        let count = min(Self.blockBytes, range.upperBound - range.lowerBound)
        let bytes = try fileSystem.read(file, at: range.lowerBound, count: Int(count))
        guard !bytes.isEmpty else {
            watch.distrust()
            throw .truncated(file.path)
        }
        return bytes
    }

    /// Makes the bytes part of the tier.
    func commit(since stamp: DiskTier.Stamp) throws(DiskTierError) -> Bool {
        try incoming.take()?.commit(as: digest, size: size, since: stamp) ?? false
    }
}

// MARK: - What outlives the process

extension FillContent {
    /// Notes that bytes are in the file, so that a later run need not fetch them. They do not cross a multiple of ``blockBytes``.
    ///
    /// To be called before the last of them count as landed: when all have, nothing is being noted any more.
    ///
    /// - Parameter block: the bytes, as far as they are at hand; it ends where they do.
    func note(_ range: Range<Int64>, from block: [UInt8]) throws(DiskTierError) {
        guard unnoted.withLock({ !$0.isGivenUp }) else { return }
        do throws(DiskTierError) {
            let sum = try checksum(range, from: block)
            try write(take(FillNote.Block(range: range, checksum: sum)))
        } catch {
            unnoted.withLock { $0.isGivenUp = true }
            throw error
        }
    }

    /// What is to be noted now, with one more block: nothing until it pays.
    private func take(_ block: FillNote.Block) -> [FillNote.Block] {
        unnoted.withLock { unnoted in
            unnoted.blocks.append(block)
            return unnoted.takeDue(Self.notedAtOnce)
        }
    }

    /// Whoever writes goes on with what has come meanwhile: nobody else may come to do it.
    private func write(_ blocks: [FillNote.Block]) throws(DiskTierError) {
        guard let incoming else { return }
        var due = blocks
        while !due.isEmpty {
            try incoming.note(FillNote(digest: digest, size: size, etag: etag, landed: due))
            due = unnoted.withLock { unnoted in
                unnoted.isWriting = false
                return unnoted.takeDue(Self.notedAtOnce)
            }
        }
    }

    private func checksum(_ range: Range<Int64>, from block: [UInt8]) throws(DiskTierError) -> UInt64 {
        if range.count == block.count { return Hashing.checksum(block.span) }
        do throws(FileError) {
            let bytes = try read(range)
            return Hashing.checksum(bytes.span)
        } catch {
            throw .file(error)
        }
    }

    /// What was noted of a range.
    func notedBlocks(in range: Range<Int64>) -> ArraySlice<FillNote.Block> {
        let (first, end) = (noted.firstIndex(from: range.lowerBound), noted.firstIndex(from: range.upperBound))
        return noted[first..<end]
    }

    /// The bytes of a block, if they are what was noted.
    func proved(_ block: FillNote.Block) -> [UInt8]? {
        // What cannot be read is as good as lost: it is fetched again.
        guard let bytes = try? read(block.range), bytes.count == block.range.count else { return nil }
        return Hashing.checksum(bytes.span) == block.checksum ? bytes : nil
    }

    /// Leaves the file for a later fill.
    ///
    /// - Parameters:
    ///   - hashed: how far the hash got.
    ///   - confirmed: when the origin said last that it has the blob.
    func leave(
        _ map: PartMap,
        hashed: Int64,
        confirmed: UInt64?,
        since stamp: DiskTier.Stamp
    ) throws(DiskTierError) {
        let ends = [map.landed.ranges.last, map.noted.ranges.last].compactMap { $0?.upperBound }
        guard let end = ends.max(), let incoming = incoming.take() else { return }
        let rest = unnoted.withLock { $0.isGivenUp ? [] : $0.blocks }
        if !rest.isEmpty { try incoming.note(FillNote(digest: digest, size: size, etag: etag, landed: rest)) }
        try incoming.leave(digest, size: size, end: end, knowing: { remains($0, map, hashed, confirmed) }, since: stamp)
    }

    private func remains(_ isSuspect: Bool, _ map: PartMap, _ hashed: Int64, _ confirmed: UInt64?) -> FillRemains {
        FillRemains(
            digest,
            etag: etag,
            map,
            noted: map.noted.ranges.isEmpty ? [] : noted,
            // A fill that was ended while its last byte was hashed: the next one hashes again.
            hashed == size ? ContentHash(digest.algorithm) : hash.copy(),
            hashed: hashed == size ? 0 : hashed,
            confirmed: confirmed,
            isSuspect: isSuspect
        )
    }

    /// What an earlier fill has left, of this process or another.
    static func resumed(
        _ left: LeftFill,
        partBytes: Int64,
        in fileSystem: any FileSystem
    ) throws(FileError) -> (FillContent, FillRemains) {
        let remains: FillRemains =
            switch left.knowledge {
            case .own(let remains as FillRemains): remains
            case .own: preconditionFailure("fills leave what fills take up")
            case .noted(let note): FillRemains(note, partBytes: partBytes)
            }
        return (try FillContent(remains, left.file, in: fileSystem), remains)
    }
}

/// What is known of a fill that was left, so that the next one goes on at once.
final class FillRemains: Sendable {
    let digest: Digest
    let etag: String?
    let map: PartMap
    let noted: [FillNote.Block]
    let hash: ContentHash
    /// How far the hash got.
    let hashed: Int64
    /// When the origin said last that it has the blob.
    let confirmed: UInt64?
    /// Somebody may have written to what this process knows already.
    let isSuspect: Bool

    init(
        _ digest: Digest,
        etag: String?,
        _ map: PartMap,
        noted: [FillNote.Block],
        _ hash: consuming ContentHash,
        hashed: Int64,
        confirmed: UInt64?,
        isSuspect: Bool = false
    ) {
        self.digest = digest
        self.etag = etag
        self.map = map
        self.noted = noted
        self.hash = hash
        self.hashed = hashed
        self.confirmed = confirmed
        self.isSuspect = isSuspect
    }

    convenience init(_ note: FillNote, partBytes: Int64) {
        var map = PartMap(size: note.size, partBytes: partBytes)
        for block in note.landed { map.note(block.range) }
        let hash = ContentHash(note.digest.algorithm)
        self.init(note.digest, etag: note.etag, map, noted: note.landed, hash, hashed: 0, confirmed: nil)
    }
}

extension [FillNote.Block] {
    /// Of the first block that begins at `offset` or behind it.
    fileprivate func firstIndex(from offset: Int64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle].range.lowerBound < offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
