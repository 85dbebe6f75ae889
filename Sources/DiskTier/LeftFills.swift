public import OCI
internal import Synchronization
internal import System

/// A partly done fill, to go on with.
public struct LeftFill {
    public enum Knowledge: Sendable {
        /// What was handed to ``IncomingFile/leave(_:size:end:knowing:since:)``.
        case own(any Sendable)
        /// What another process has noted. Its bytes are to be checked.
        case noted(FillNote)
    }

    public let file: IncomingFile
    public let knowledge: Knowledge
}

/// The partly done fills of a tier that nobody works on. Their bytes count as reserved, and go first when room is needed.
final class LeftFills: Sendable {
    /// More are not kept.
    static let limit = 256
    /// Kept no longer.
    static let expirySeconds: Int64 = 24 * 3600

    struct Entry: Sendable {
        let path: String
        /// Of the whole blob.
        let size: Int64
        /// Allocated, with the note.
        let bytes: Int64
        let since: WallTime
        /// What this process knows of it, so that nothing need be read, as long as nobody has touched the file since.
        var known: (any Sendable)?
        var changedNanoseconds: Int64 = 0
        /// As long as somebody who read along with the fill has it open.
        weak let file: File?
    }

    let entries = Mutex<[Digest: Entry]>([:])

    /// False when there is one already, or no room for more.
    func enter(_ digest: Digest, _ entry: Entry, if isWelcome: () -> Bool = { true }) -> Bool {
        entries.withLock { entries in
            guard entries[digest] == nil, entries.count < Self.limit, isWelcome() else { return false }
            entries[digest] = entry
            return true
        }
    }
}

extension DiskTier {
    /// The partly done fill of this digest, which is the caller's from now on; `nil` when there is none.
    public func resumeFill(_ digest: Digest) throws(DiskTierError) -> LeftFill? {
        guard let entry = leftFills.entries.withLock({ $0.removeValue(forKey: digest) }) else { return nil }
        let reservation = Reservation(self, adopting: entry.bytes)
        let knowledge: LeftFill.Knowledge?
        let noteRoom = FillNote.roomBytes(for: entry.size)
        let incoming: IncomingFile
        do throws(FileError) {
            let (file, _) = try fileSystem.openRegular(entry.path, .readWrite)
            incoming = IncomingFile(self, reservation, noteRoom: noteRoom, file, isNoted: true)
            // Now that it is watched.
            let status = try fileSystem.status(of: file)
            if let known = entry.known, status.changedNanoseconds == entry.changedNanoseconds {
                knowledge = .own(known)
            } else {
                knowledge = try FillNote.read(besides: entry.path, fileSystem).map { .noted($0) }
            }
        } catch {
            removeLeftFile(entry.path, entry.bytes)
            throw .file(error)
        }
        guard let knowledge else { return nil }
        try reservation.grow(by: entry.size + noteRoom + Self.indexGrowthBytes - entry.bytes)
        try incoming.allocate()
        return LeftFill(file: incoming, knowledge: knowledge)
    }

    /// False when there is one already, no room for more, or the digest was deleted since.
    func enterLeftFill(
        _ digest: Digest,
        _ entry: LeftFills.Entry,
        _ reservation: Reservation,
        since stamp: Stamp
    ) -> Bool {
        dropLeftFills(olderThan: LeftFills.expirySeconds)
        let isEntered = leftFills.enter(digest, entry) { stamps.allows(Key.digest(digest), since: stamp) }
        if isEntered { reservation.handOver(entry.bytes) }
        return isEntered
    }

    func dropLeftFill(_ digest: Digest) {
        guard let entry = leftFills.entries.withLock({ $0.removeValue(forKey: digest) }) else { return }
        removeLeftFile(entry.path, entry.bytes)
        let lingering = LingeringBlocks(entry.bytes, in: ledger)
        entry.file?.keep(lingering)
    }

    /// Makes room, the oldest first; false when there is none to drop.
    @discardableResult
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
                try removeRest(path)
                continue
            }
        }
        let kept = Set(leftFills.entries.withLock { $0.values.map { $0.path + FillNote.suffix } })
        for name in names where name.contains(".") && !kept.contains("\(directory)/\(name)") {
            try removeRest("\(directory)/\(name)")
        }
    }

    private func removeRest(_ path: String) throws(DiskTierError) {
        do throws(FileError) {
            _ = try fileSystem.remove(path)
        } catch {
            guard error.isDirectory, putAside(path) != nil else { throw .file(error) }
        }
    }

    private func adoptLeftFill(_ path: String, notBefore oldest: Int64) throws(DiskTierError) -> Bool {
        try onDisk { () throws(FileError) in
            guard let note = try FillNote.read(besides: path, isWhole: false, fileSystem),
                let status = try fileSystem.status(at: path),
                let noteStatus = try fileSystem.status(at: FillNote.path(besides: path)),
                status.modifiedNanoseconds / 1_000_000_000 >= oldest
            else { return false }
            let bytes = status.allocated + noteStatus.allocated
            let since = WallTime(seconds: status.modifiedNanoseconds / 1_000_000_000)
            let entry = LeftFills.Entry(path: path, size: note.size, bytes: bytes, since: since, file: nil)
            let isEntered = leftFills.enter(note.digest, entry)
            if isEntered { ledger.update { $0.reservedBytes += bytes } }
            return isEntered
        }
    }
}
