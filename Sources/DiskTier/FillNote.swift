internal import LMDB
public import OCI
internal import System

/// What has landed of a blob whose fill did not end.
public struct FillNote: Sendable, Equatable {
    /// A block does not cross a multiple of this.
    public static let unitBytes: Int64 = 256 << 10

    public struct Block: Sendable, Equatable {
        public let range: Range<Int64>
        /// Of the bytes in the range.
        public let checksum: UInt64

        public init(range: Range<Int64>, checksum: UInt64) {
            self.range = range
            self.checksum = checksum
        }
    }

    /// The blob's.
    public let digest: Digest
    /// Of the whole blob, in bytes.
    public let size: Int64
    /// Of the origin's object: with another one, the blocks do not count.
    public let etag: String?
    /// One that is read from the disk has them in the order of their offsets, and none overlaps another.
    public let landed: [Block]

    public init(digest: Digest, size: Int64, etag: String?, landed: [Block]) {
        self.digest = digest
        self.size = size
        self.etag = etag
        self.landed = landed
    }

    /// What the note of a blob may take on the disk.
    public static func roomBytes(for size: Int64) -> Int64 { size / 4096 }
}

// MARK: - On disk

// A text of `forebay-fill 2`, `digest D`, `size N`, and `etag E` if there is one, a line each; then empty lines, up to the next multiple of a
// record's length. A record for each block follows, in the order in which they landed: offset, length, checksum. Where two overlap, the later
// one says what the bytes are. What was not written as a whole is no record.

extension FillNote {
    static let suffix = ".parts"
    private static let format = "forebay-fill 2"
    private static let recordBytes = 24
    /// Enough for 700 GiB.
    private static let limitBytes: Int64 = 64 << 20
    private static let headLimitBytes: Int64 = 4 << 10
    /// No blob is larger; sums of what is do not overflow.
    private static let blobLimitBytes: Int64 = 1 << 50

    static func path(besides path: String) -> String { path + suffix }

    /// Where the next record goes in a note of this size.
    static func end(of bytes: Int64) -> Int64 { bytes / Int64(recordBytes) * Int64(recordBytes) }

    var encodedHead: [UInt8] {
        var text = "\(Self.format)\ndigest \(digest)\nsize \(size)\n"
        if let etag { text += "etag \(etag)\n" }
        text += "\n"
        let rest = text.utf8.count % Self.recordBytes
        return Array(text.utf8) + Array(repeating: UInt8(ascii: "\n"), count: rest == 0 ? 0 : Self.recordBytes - rest)
    }

    var encodedBlocks: [UInt8] {
        landed.flatMap { block in
            bigEndian(UInt64(block.range.lowerBound)) + bigEndian(UInt64(block.range.count)) + bigEndian(block.checksum)
        }
    }

    /// `nil` when it is no note, or one of another version.
    init?(_ bytes: [UInt8]) {
        let newline = UInt8(ascii: "\n")
        guard let headEnd = bytes.indices.first(where: { bytes[$0...].starts(with: [newline, newline]) }) else {
            return nil
        }
        let lines = String(decoding: bytes[..<headEnd], as: UTF8.self).split(separator: "\n")
        guard lines.first == Self.format[...] else { return nil }
        var fields: [Substring: Substring] = [:]
        for line in lines.dropFirst() {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2 else { return nil }
            fields[words[0]] = words[1]
        }
        guard let digest = fields["digest"].flatMap({ try? Digest(String($0)) }),
            let size = fields["size"].flatMap({ Int64(digits: $0.utf8) }), size <= Self.blobLimitBytes
        else { return nil }
        let first = (headEnd + 2 + Self.recordBytes - 1) / Self.recordBytes * Self.recordBytes
        self.init(
            digest: digest,
            size: size,
            etag: fields["etag"].map(String.init),
            landed: Self.blocks(bytes.span, from: first, size: size)
        )
    }

    /// The blocks that count. A record that cannot be one is left out.
    private static func blocks(_ bytes: Span<UInt8>, from first: Int, size: Int64) -> [Block] {
        var units: [Int64: [Block]] = [:]
        for start in stride(from: first, through: bytes.count - recordBytes, by: recordBytes).reversed() {
            guard let offset = Int64(exactly: bigEndianNumber(bytes, at: start)),
                let length = Int64(exactly: bigEndianNumber(bytes, at: start + 8)),
                offset < size, 0 < length, length <= min(size - offset, unitBytes - offset % unitBytes)
            else { continue }
            let block = Block(range: offset..<offset + length, checksum: bigEndianNumber(bytes, at: start + 16))
            let unit = units[offset / unitBytes] ?? []
            if unit.allSatisfy({ !$0.range.overlaps(block.range) }) { units[offset / unitBytes] = unit + [block] }
        }
        return units.values.joined().sorted { $0.range.lowerBound < $1.range.lowerBound }
    }

    /// `nil` when there is none.
    ///
    /// - Parameter isWhole: with its blocks, or only some of them.
    static func read(
        besides path: String,
        isWhole: Bool = true,
        _ fileSystem: any FileSystem
    ) throws(FileError) -> FillNote? {
        let notePath = FillNote.path(besides: path)
        let (file, status): (File, FileStatus)
        do throws(FileError) {
            (file, status) = try fileSystem.openRegular(notePath)
        } catch {
            guard error.isNotFound || error.isReplaced else { throw error }
            return nil
        }
        guard status.size <= limitBytes else { return nil }
        let count = isWhole ? status.size : min(status.size, headLimitBytes)
        return try FillNote(fileSystem.read(file, at: 0, count: Int(count)))
    }
}
