internal import LMDB
public import OCI
internal import Synchronization
internal import System

/// What has landed of a blob whose fill did not end.
public struct FillNote: Sendable, Equatable {
    public struct Part: Sendable, Equatable {
        public let range: Range<Int64>
        /// Of the bytes in the range.
        public let digest: Digest

        public init(range: Range<Int64>, digest: Digest) {
            self.range = range
            self.digest = digest
        }
    }

    /// The blob's.
    public let digest: Digest
    /// Of the whole blob, in bytes.
    public let size: Int64
    /// Of the origin's object: with another one, the parts do not count.
    public let etag: String?
    public let landed: [Part]

    public init(digest: Digest, size: Int64, etag: String?, landed: [Part]) {
        self.digest = digest
        self.size = size
        self.etag = etag
        self.landed = landed
    }
}

/// A partly done fill, to go on with. Its bytes are to be checked against the note.
public struct LeftFill {
    public let file: IncomingFile
    public let note: FillNote
}

/// The partly done fills of a tier that nobody works on. Their bytes count as reserved, and go first when room is needed.
final class LeftFills: Sendable {
    /// More are not kept.
    static let limit = 256
    /// Kept no longer.
    static let expirySeconds: Int64 = 24 * 3600

    struct Entry: Sendable {
        let path: String
        let bytes: Int64
        let since: WallTime
    }

    let entries = Mutex<[Digest: Entry]>([:])
}

extension DiskTier {
    /// The partly done fill of this digest, which is the caller's from now on; `nil` when there is none.
    public func resumeFill(_ digest: Digest) throws(DiskTierError) -> LeftFill? {
        guard let entry = leftFills.entries.withLock({ $0.removeValue(forKey: digest) }) else { return nil }
        let reservation = Reservation(self, adopting: entry.bytes)
        let note: FillNote?
        let file: File
        do throws(FileError) {
            note = try FillNote.read(besides: entry.path, fileSystem)
            file = try fileSystem.open(entry.path, .readWrite)
        } catch {
            removeLeftFile(entry.path, entry.bytes)
            throw .file(error)
        }
        let incoming = IncomingFile(self, reservation, file, isNoted: true)
        guard let note, note.digest == digest else { return nil }
        try reservation.grow(by: note.size + Self.indexGrowthBytes - entry.bytes)
        try onDisk { () throws(FileError) in try fileSystem.allocate(file, size: note.size) }
        return LeftFill(file: incoming, note: note)
    }

    /// False when there is one already, or no room for more.
    func enterLeftFill(_ digest: Digest, path: String, bytes: Int64, _ reservation: Reservation) -> Bool {
        dropLeftFills(olderThan: LeftFills.expirySeconds)
        let now = time.wallTime()
        let isEntered = leftFills.entries.withLock { entries in
            guard entries[digest] == nil, entries.count < LeftFills.limit else { return false }
            entries[digest] = LeftFills.Entry(path: path, bytes: bytes, since: now)
            return true
        }
        if isEntered { reservation.handOver(bytes) }
        return isEntered
    }

    func dropLeftFill(_ digest: Digest) {
        guard let entry = leftFills.entries.withLock({ $0.removeValue(forKey: digest) }) else { return }
        removeLeftFile(entry.path, entry.bytes)
        ledger.update { $0.reservedBytes -= entry.bytes }
    }

    /// Makes room, the oldest first; false when there is none to drop.
    func dropLeftFills(atLeast bytes: Int64) -> Bool {
        var freed: Int64 = 0
        while freed < bytes {
            let oldest = leftFills.entries.withLock { $0.min { $0.value.since < $1.value.since } }
            guard let oldest else { break }
            dropLeftFill(oldest.key)
            freed += oldest.value.bytes
        }
        return freed > 0
    }

    private func dropLeftFills(olderThan seconds: Int64) {
        let limit = time.wallTime().seconds - seconds
        let old = leftFills.entries.withLock { $0.filter { $0.value.since.seconds < limit }.keys }
        for digest in old { dropLeftFill(digest) }
    }

    private func removeLeftFile(_ path: String, _ bytes: Int64) {
        discard(FillNote.path(besides: path), bytes: 0)
        discard(path, bytes: bytes)
    }

    /// Takes over what an earlier run left, and removes the rest of what was being written then. It is as much as was under way, so this
    /// does not delay a start.
    func adoptLeftFills() throws(DiskTierError) {
        let directory = configuration.directory + "/incoming"
        let names = Set(try onDisk { () throws(FileError) in try fileSystem.entries(of: directory).map(\.name) })
        let oldest = time.wallTime().seconds - LeftFills.expirySeconds
        for name in names.sorted() where !name.contains(".") {
            let path = "\(directory)/\(name)"
            guard names.contains(name + FillNote.suffix), try adoptLeftFill(path, notBefore: oldest) else {
                try onDisk { () throws(FileError) in _ = try fileSystem.remove(path) }
                continue
            }
        }
        let kept = Set(leftFills.entries.withLock { $0.values.map { $0.path + FillNote.suffix } })
        for name in names where name.contains(".") && !kept.contains("\(directory)/\(name)") {
            try onDisk { () throws(FileError) in _ = try fileSystem.remove("\(directory)/\(name)") }
        }
    }

    private func adoptLeftFill(_ path: String, notBefore oldest: Int64) throws(DiskTierError) -> Bool {
        try onDisk { () throws(FileError) in
            guard let note = try FillNote.read(besides: path, fileSystem), let status = try fileSystem.status(at: path),
                let noteStatus = try fileSystem.status(at: FillNote.path(besides: path)),
                status.modifiedNanoseconds / 1_000_000_000 >= oldest
            else { return false }
            let bytes = status.allocated + noteStatus.allocated
            let since = WallTime(seconds: status.modifiedNanoseconds / 1_000_000_000)
            let isEntered = leftFills.entries.withLock { entries in
                guard entries[note.digest] == nil, entries.count < LeftFills.limit else { return false }
                entries[note.digest] = LeftFills.Entry(path: path, bytes: bytes, since: since)
                return true
            }
            if isEntered { ledger.update { $0.reservedBytes += bytes } }
            return isEntered
        }
    }
}

// MARK: - On disk

/// `digest D`, `size N`, `etag E` if there is one, and `part FIRST END DIGEST` for each part: a line each, beside the bytes.
extension FillNote {
    static let suffix = ".parts"
    private static let limitBytes: Int64 = 4 << 20

    static func path(besides path: String) -> String { path + suffix }
    static func newPath(besides path: String) -> String { path + suffix + ".new" }

    var encoded: [UInt8] {
        var text = "digest \(digest)\nsize \(size)\n"
        if let etag { text += "etag \(etag)\n" }
        for part in landed { text += "part \(part.range.lowerBound) \(part.range.upperBound) \(part.digest)\n" }
        return Array(text.utf8)
    }

    /// `nil` when it is no note.
    init?(_ bytes: [UInt8]) {
        var fields: [String: String] = [:]
        var parts: [Part] = []
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1)
            guard words.count == 2 else { return nil }
            guard words[0] == "part" else {
                fields[String(words[0])] = String(words[1])
                continue
            }
            guard let part = Part(words[1]) else { return nil }
            parts.append(part)
        }
        guard let digest = fields["digest"].flatMap({ try? Digest($0) }),
            let size = fields["size"].flatMap({ Int64($0) }),
            parts.allSatisfy({ $0.range.upperBound <= size && $0.digest.algorithm == digest.algorithm })
        else { return nil }
        self.init(digest: digest, size: size, etag: fields["etag"], landed: parts)
    }

    /// `nil` when there is none.
    static func read(besides path: String, _ fileSystem: any FileSystem) throws(FileError) -> FillNote? {
        let notePath = FillNote.path(besides: path)
        guard let status = try fileSystem.status(at: notePath), status.size <= limitBytes else { return nil }
        return try fileSystem.contents(at: notePath).flatMap { FillNote($0) }
    }
}

extension FillNote.Part {
    fileprivate init?(_ text: Substring) {
        let words = text.split(separator: " ")
        guard words.count == 3, let first = Int64(words[0]), let end = Int64(words[1]), 0 <= first, first < end,
            // A digest that is none makes a part that does not count.
            let digest = try? Digest(String(words[2]))
        else { return nil }
        self.init(range: first..<end, digest: digest)
    }
}
