public import OCI
public import System

/// What the index knows of a blob.
struct BlobRecord: Sendable {
    enum Place: Sendable {
        case inline([UInt8])
        case file(FileFacts)
    }

    /// What a file was when its bytes were last known to be right.
    struct FileFacts: Sendable, Hashable {
        /// In bytes.
        let size: Int64
        /// The blocks that it takes, in bytes.
        let allocated: Int64
        let inode: UInt64
        /// The file's change time. Whoever touches the bytes moves it.
        let changedNanoseconds: Int64

        init(_ status: FileStatus) {
            size = status.size
            allocated = status.allocated
            inode = status.inode
            changedNanoseconds = status.changedNanoseconds
        }

        /// Nobody has touched the file since.
        func describes(_ status: FileStatus) -> Bool {
            size == status.size && inode == status.inode && changedNanoseconds == status.changedNanoseconds
        }
    }

    /// Tells it from an earlier or later record of the same digest.
    var sequence: UInt64
    /// The run of the program in which the bytes were last known to be right.
    var run: UInt64
    var place: Place
    /// In the eviction queue; given when it is entered.
    var standing = Standing(0, 0)
}

/// What the index knows of a tag.
struct TagRecord: Sendable {
    var digest: Digest
    var etag: String?
    var checkedAt: WallTime
}

/// A manifest with its type.
public struct CachedManifest: Sendable {
    public let mediaType: MediaType
    public let bytes: [UInt8]
}

/// A tag and what it named when the origin was last asked.
public struct CachedTag: Sendable {
    public let digest: Digest
    /// The ETag of the tag's object at the origin.
    public let etag: String?
    /// When the origin last confirmed it.
    public let checkedAt: WallTime
    /// `nil` when the manifest was evicted.
    public let manifest: CachedManifest?
}

// MARK: - Keys

enum Key {
    static func digest(_ digest: Digest) -> [UInt8] { [digest.algorithm == .sha256 ? 1 : 2] + digest.bytes }

    /// Empty when the text is no digest in hexadecimal. By the million: a name is not parsed into a value first.
    static func digest(hex: String, _ algorithm: DigestAlgorithm) -> [UInt8] {
        var key: [UInt8] = [algorithm == .sha256 ? 1 : 2]
        key.reserveCapacity(1 + algorithm.byteCount)
        var (high, isHalf) = (UInt8(0), false)
        for character in hex.utf8 {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            default: return []
            }
            if isHalf { key.append(high << 4 | digit) }
            (high, isHalf) = (digit, !isHalf)
        }
        return isHalf || key.count != 1 + algorithm.byteCount ? [] : key
    }

    static func manifest(_ name: RepositoryName, _ digest: Digest) -> [UInt8] {
        Array(name.description.utf8) + [0] + Self.digest(digest)
    }

    /// At most 255 + 1 + 128 bytes, within LMDB's 511.
    static func tag(_ name: RepositoryName, _ tag: Tag) -> [UInt8] {
        repository(name) + Array(tag.description.utf8)
    }

    static func repository(_ name: RepositoryName) -> [UInt8] { Array(name.description.utf8) + [0] }

    /// A repository's name never begins with a zero.
    static func list(_ list: NameList) -> [UInt8] {
        switch list {
        case .tags(let name): Array(name.description.utf8)
        case .repositories: [0]
        }
    }

    /// In the queue of files. Positions may repeat, sequence numbers do not.
    static func queued(_ place: QueuePlace, _ sequence: UInt64 = 0) -> [UInt8] {
        [place.segment] + bigEndian(place.position) + bigEndian(sequence)
    }

    /// In the queue of what lies in the index itself.
    static func small(_ rank: SmallRank, _ sequence: UInt64) -> [UInt8] { [rank.rawValue] + bigEndian(sequence) }

    /// For what is counted by hash: a digest is well mixed as it is.
    static func hash(_ blobKey: [UInt8]) -> UInt64 {
        blobKey.count > 8 ? bigEndianNumber(blobKey.span, at: 1) : 0
    }
}

// MARK: - Values

extension BlobRecord {
    /// What comes before the content.
    struct Header {
        static let bytes = 27

        let sequence: UInt64
        let run: UInt64
        let standing: Standing
        let isInline: Bool

        /// `nil` when the bytes are no record: the index is damaged there, and a miss repairs it.
        init?(_ record: Span<UInt8>) {
            guard record.count >= Self.bytes, record[26] <= 1 else { return nil }
            sequence = bigEndianNumber(record, at: 0)
            run = bigEndianNumber(record, at: 8)
            standing = Standing(record[16], bigEndianNumber(record, at: 17), frequency: record[25])
            isInline = record[26] == 0
        }
    }

    /// `sequence, run, segment, position, frequency, kind, then the inline bytes or the file's facts`; all numbers big-endian.
    var encoded: [UInt8] {
        var bytes = bigEndian(sequence) + bigEndian(run)
        bytes += [standing.place.segment] + bigEndian(standing.place.position) + [standing.frequency]
        switch place {
        case .inline(let content): bytes += [0] + content
        case .file(let facts): bytes += [1] + facts.encoded
        }
        return bytes
    }

    /// `nil` when the bytes are no record.
    init?(_ bytes: Span<UInt8>) {
        guard let header = Header(bytes) else { return nil }
        (sequence, run, standing) = (header.sequence, header.run, header.standing)
        let content = bytes.extracting(droppingFirst: Header.bytes)
        if header.isInline {
            place = .inline([UInt8](content))
        } else {
            guard let facts = FileFacts(content) else { return nil }
            place = .file(facts)
        }
    }
}

extension BlobRecord.FileFacts {
    static let encodedBytes = 32

    /// `size, blocks, inode, change time`.
    var encoded: [UInt8] {
        bigEndian(UInt64(size)) + bigEndian(UInt64(allocated)) + bigEndian(inode)
            + bigEndian(UInt64(bitPattern: changedNanoseconds))
    }

    init?(_ bytes: Span<UInt8>) {
        guard bytes.count == Self.encodedBytes else { return nil }
        size = Int64(truncatingIfNeeded: bigEndianNumber(bytes, at: 0))
        allocated = Int64(truncatingIfNeeded: bigEndianNumber(bytes, at: 8))
        inode = bigEndianNumber(bytes, at: 16)
        changedNanoseconds = Int64(bitPattern: bigEndianNumber(bytes, at: 24))
    }
}

extension TagRecord {
    /// `seconds, nanoseconds, digest, ETag`.
    var encoded: [UInt8] {
        let key = Key.digest(digest)
        return bigEndian(UInt64(bitPattern: checkedAt.seconds)) + bigEndian(UInt64(checkedAt.nanoseconds))
            + [UInt8(key.count)] + key + Array((etag ?? "").utf8)
    }

    init?(_ bytes: [UInt8]) {
        guard bytes.count > 17, bytes.count >= 17 + Int(bytes[16]),
            let digest = Digest(key: bytes[17..<17 + Int(bytes[16])])
        else { return nil }
        checkedAt = WallTime(
            seconds: Int64(bitPattern: bigEndianNumber(bytes.span, at: 0)),
            nanoseconds: Int32(truncatingIfNeeded: bigEndianNumber(bytes.span, at: 8))
        )
        self.digest = digest
        let text = bytes[(17 + Int(bytes[16]))...]
        etag = text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }
}

extension CachedManifest {
    /// `what the queue knows, length of the type, type, manifest`.
    func encoded(_ header: ManifestHeader) -> [UInt8] {
        let type = Array(mediaType.rawValue.utf8.prefix(255))
        return header.encoded + [UInt8(type.count)] + type + bytes
    }

    init?(_ record: Span<UInt8>) {
        guard let parts = Self.parts(record) else { return nil }
        mediaType = MediaType(
            rawValue: String(decoding: [UInt8](record.extracting(parts.type)), as: UTF8.self)
        )
        bytes = [UInt8](record.extracting(parts.manifest))
    }

    /// Where the type and the manifest lie in a record; `nil` when it is none.
    static func parts(_ record: Span<UInt8>) -> (type: Range<Int>, manifest: Range<Int>)? {
        guard let start = ManifestHeader.count(record), record.count > start else { return nil }
        let end = start + 1 + Int(record[start])
        guard record.count >= end else { return nil }
        return (start + 1..<end, end..<record.count)
    }
}

/// What the queue has to know of a manifest.
struct ManifestHeader: Sendable {
    var sequence: UInt64
    var rank: SmallRank
    /// Key of its config; empty when it has none.
    var config: [UInt8]

    init(sequence: UInt64, rank: SmallRank, config: [UInt8]) {
        self.sequence = sequence
        self.rank = rank
        self.config = config
    }

    var count: Int { 10 + config.count }

    /// `sequence, rank, length of the config's key, key`.
    var encoded: [UInt8] { bigEndian(sequence) + [rank.rawValue, UInt8(config.count)] + config }

    /// How many bytes of a record it takes; `nil` when that is none.
    static func count(_ record: Span<UInt8>) -> Int? {
        guard record.count >= 10, SmallRank(rawValue: record[8]) != nil, record.count >= 10 + Int(record[9])
        else { return nil }
        return 10 + Int(record[9])
    }

    init?(_ record: Span<UInt8>) {
        guard let end = Self.count(record), let rank = SmallRank(rawValue: record[8]) else { return nil }
        sequence = bigEndianNumber(record, at: 0)
        self.rank = rank
        config = [UInt8](record.extracting(10..<end))
    }
}

extension Digest {
    /// Reads what ``Key/digest(_:)`` wrote.
    init?(key: some Collection<UInt8>) {
        let algorithm: DigestAlgorithm? =
            switch key.first {
            case 1: .sha256
            case 2: .sha512
            default: nil
            }
        guard let algorithm, key.count == algorithm.byteCount + 1 else { return nil }
        self.init(algorithm, bytes: Array(key.dropFirst()).span)
    }
}

func bigEndian(_ number: UInt64) -> [UInt8] {
    (0..<8).map { UInt8(truncatingIfNeeded: number >> UInt64(56 - $0 * 8)) }
}

func bigEndianNumber(_ bytes: Span<UInt8>, at offset: Int) -> UInt64 {
    (0..<8).reduce(0) { $0 << 8 | UInt64(bytes[offset + $1]) }
}
