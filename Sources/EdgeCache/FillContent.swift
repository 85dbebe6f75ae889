internal import DiskTier
internal import Hashing
internal import OCI
internal import System

/// The bytes of a fill on disk, and the running hash over them.
///
/// Sendable because `hash` belongs to the thread that has the fill's hashing turn, `digests` to the one that notes what landed, and
/// `incoming` to the one that ends the fill; the rest does not change.
final class FillContent: @unchecked Sendable {
    /// How much is hashed, or read for it, at a time.
    static let blockBytes: Int64 = 256 << 10

    let digest: Digest
    let size: Int64
    /// Of the origin's object.
    let etag: String?
    let file: File
    private let fileSystem: any FileSystem
    private var incoming: IncomingFile?
    private var hash: ContentHash
    /// Digests of ranges that the running hash has not come to.
    private var digests: [Range<Int64>: Digest] = [:]

    init(_ digest: Digest, size: Int64, etag: String?, _ incoming: IncomingFile, in fileSystem: any FileSystem) {
        self.digest = digest
        self.size = size
        self.etag = etag
        self.incoming = incoming
        self.fileSystem = fileSystem
        file = incoming.file
        hash = ContentHash(digest.algorithm)
    }

    func write(_ block: [UInt8], at offset: Int64) throws(FileError) {
        try fileSystem.write(block.span, to: file, at: offset)
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
        // What was written is gone: an input/output error, `EIO`.
        guard !bytes.isEmpty else { throw FileError(operation: "pread", path: file.path, code: 5) }
        return bytes
    }

    /// Makes the bytes part of the tier.
    func commit(since stamp: DiskTier.Stamp) throws(DiskTierError) -> Bool {
        try incoming.take()?.commit(as: digest, size: size, since: stamp) ?? false
    }

    /// Removes the file.
    func discard() { incoming = nil }
}

// MARK: - What outlives the process

extension FillContent {
    /// A fill that an earlier one, or an earlier run, has left. What of its bytes does not have the digest that was noted does not count.
    ///
    /// - Returns: with the ranges that are there, and how far the hash got.
    static func resumed(
        _ left: LeftFill,
        in fileSystem: any FileSystem
    ) throws(FileError) -> (FillContent, landed: [Range<Int64>], hashed: Int64) {
        let note = left.note
        let content = FillContent(note.digest, size: note.size, etag: note.etag, left.file, in: fileSystem)
        var landed: [Range<Int64>] = []
        var hashed: Int64 = 0
        for part in note.landed {
            var hash = ContentHash(note.digest.algorithm)
            try content.update(&hash, with: part.range)
            guard hash.digest() == part.digest else { continue }
            landed.append(part.range)
            content.digests[part.range] = part.digest
            guard part.range.lowerBound == 0, part.range.upperBound < note.size else { continue }
            content.hash = hash
            hashed = part.range.upperBound
        }
        return (content, landed, hashed)
    }

    /// Notes what has landed, so that a later run need not fetch it; without a sync, which would cost more than what a power cut can take.
    ///
    /// - Parameters:
    ///   - hashed: where the running hash stood when it was `prefix`.
    ///   - landed: ranges beyond it. What the hash comes to soon, within `horizon`, is left out: hashing it twice would cost more.
    func note(hashed: Int64, prefix: Digest, landed: [Range<Int64>], horizon: Int64) throws(DiskTierError) {
        let note = try makeNote(hashed, prefix, landed, horizon)
        try incoming?.note(note, isDurable: false)
    }

    /// Leaves the file for a later fill.
    func leave(hashed: Int64, landed: [Range<Int64>]) throws(DiskTierError) {
        let note = try makeNote(hashed, hash.digest(), landed, 0)
        try incoming.take()?.leave(note)
    }

    private func makeNote(
        _ hashed: Int64,
        _ prefix: Digest,
        _ landed: [Range<Int64>],
        _ horizon: Int64
    ) throws(DiskTierError) -> FillNote {
        var parts = hashed > 0 ? [FillNote.Part(range: 0..<hashed, digest: prefix)] : []
        var current: [Range<Int64>: Digest] = [:]
        for range in landed where range.upperBound > hashed {
            let start = max(range.lowerBound, hashed)
            guard start >= hashed + horizon, start < range.upperBound else { continue }
            let known = start == range.lowerBound ? digests[range] : nil
            let digest = if let known { known } else { try self.digest(of: start..<range.upperBound) }
            current[start..<range.upperBound] = digest
            parts.append(FillNote.Part(range: start..<range.upperBound, digest: digest))
        }
        digests = current
        return FillNote(digest: digest, size: size, etag: etag, landed: parts)
    }

    private func digest(of range: Range<Int64>) throws(DiskTierError) -> Digest {
        var hash = ContentHash(digest.algorithm)
        do throws(FileError) {
            try update(&hash, with: range)
        } catch {
            throw .file(error)
        }
        return hash.digest()
    }

    private func update(_ hash: inout ContentHash, with range: Range<Int64>) throws(FileError) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let bytes = try read(offset..<range.upperBound)
            hash.update(bytes.span)
            offset += Int64(bytes.count)
        }
    }
}
