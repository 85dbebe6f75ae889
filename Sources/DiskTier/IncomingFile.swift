public import OCI
public import System

/// A file of the tier that is being written. Without ``commit(as:size:since:)`` it disappears with the value, unless it is an upload's, or
/// left for a later fill.
public final class IncomingFile {
    /// Whoever writes to the file does so through it.
    public let watch: WriteWatch
    private let tier: DiskTier
    private let reservation: Reservation
    /// Of what is reserved, in bytes: for the note.
    private let noteRoom: Int64
    /// It outlives the value, and the process.
    var isKept: Bool
    /// There is a note of what has landed.
    private var isNoted: Bool
    private var note: (file: File, end: Int64)?
    private var isCommitted = false

    init(
        _ tier: DiskTier,
        _ reservation: Reservation,
        noteRoom: Int64 = 0,
        _ file: File,
        isKept: Bool = false,
        isNoted: Bool = false
    ) {
        self.tier = tier
        self.reservation = reservation
        self.noteRoom = noteRoom
        watch = WriteWatch(file, in: tier.fileSystem)
        self.isKept = isKept
        self.isNoted = isNoted
        if !watch.isExact { tier.noteUnobserved() }
    }

    public var file: File { watch.file }

    /// Reserves more, and takes it from the volume at once.
    public func grow(by more: Int64) throws(DiskTierError) {
        let held = reservation.held
        try reservation.grow(by: more)
        do throws(DiskTierError) {
            try allocate()
        } catch {
            reservation.shrink(to: held)
            throw error
        }
    }

    /// Cuts the bytes to `size`, and gives back the room of the others.
    public func cut(to size: Int64) throws(DiskTierError) {
        try onDisk { () throws(FileError) in try watch.resize(to: size) }
        reservation.shrink(to: Ledger.blocks(size) + DiskTier.indexGrowthBytes)
    }

    /// Reserved for the bytes.
    private var room: Int64 { reservation.held - noteRoom - DiskTier.indexGrowthBytes }

    /// Takes all that is reserved for the bytes from the volume: what only the books know, others there may take.
    func allocate() throws(DiskTierError) {
        let (fileSystem, size) = (tier.fileSystem, room)
        guard size > 0 else { return }
        try onDisk { () throws(FileError) in
            try watch.change { () throws(FileError) in try fileSystem.allocate(file, size: size) }
        }
        reservation.hasLanded(size)
    }

    private var notePath: String { FillNote.path(besides: file.path) }

    deinit {
        guard !isCommitted, !isKept else { return }
        if isNoted { tier.discard(notePath, bytes: 0) }
        discard(file.path)
    }

    /// Its blocks are free, and count until then, when the last one who has the file open is through.
    private func discard(_ path: String) {
        tier.discard(path, bytes: reservation.held)
        let blocks = max(0, room)
        reservation.handOver(blocks)
        file.keep(LingeringBlocks(blocks, in: tier.ledger))
    }

    /// Makes the bytes part of the tier, durably. The caller has verified that they have this digest.
    ///
    /// - Returns: false, and nothing is kept, when the digest was deleted after the stamp was taken.
    public func commit(as digest: Digest, size: Int64, since stamp: DiskTier.Stamp) throws(DiskTierError) -> Bool {
        let path = tier.path(of: digest)
        let (fileSystem, watch, isTooLarge) = (tier.fileSystem, watch, room > Ledger.blocks(size))
        do throws(DiskTierError) {
            // An index that does not answer will not take it either, and may know the file that is there.
            _ = try tier.record(of: digest)
            let status = try onDisk { () throws(FileError) in
                if isTooLarge { try watch.resize(to: size) }
                // That was the last change, whatever fails after it.
                watch.rest()
                try fileSystem.createDirectory(parentDirectory(of: path))
                tier.settlement.publishes(path)
                return try fileSystem.publish(watch.file, from: watch.file.path, as: path, watch)
            }
            tier.measureFolder(parentDirectory(of: path))
            isCommitted = true
            // Who reads along with the fill goes on reading this file.
            file.keep(tier.readers.begin(Key.hash(Key.digest(digest))))
            tier.ledger.unstrand(path)
            if isNoted { tier.discard(notePath, bytes: 0) }
            tier.dropLeftFill(digest)
            let isKept = try tier.enter(digest, BlobRecord.FileFacts(status), reservation, since: stamp)
            if !isKept { discard(path) }
            return isKept
        } catch {
            clear(path, digest)
            tier.note(error)
            throw error
        }
    }

    /// After a failure: the name may be there already.
    private func clear(_ path: String, _ digest: Digest) {
        switch (isCommitted, mayBeKnown(digest)) {
        case (true, true): reservation.commit(room)
        case (true, false): discard(path)
        case (false, true): break
        case (false, false): tier.discard(path, bytes: 0)
        }
    }

    /// The index leads to a file of this content; then one must be there, whichever it is.
    private func mayBeKnown(_ digest: Digest) -> Bool {
        do throws(DiskTierError) {
            guard case .file? = try tier.record(of: digest)?.place else { return false }
            return true
        } catch {
            return true
        }
    }

    /// Adds to the note of what has landed, for a run after this one. Not to be called by two threads at once.
    ///
    /// Nothing waits for the disk: what a power cut takes of the bytes is found missing by the checksums.
    public func note(_ note: FillNote) throws(DiskTierError) {
        try onDisk { () throws(FileError) in
            let (file, end) = if let open = self.note { open } else { try openNote() }
            let bytes = (end == 0 ? note.encodedHead : []) + note.encodedBlocks
            try tier.fileSystem.write(bytes.span, to: file, at: end)
            self.note = (file, end + Int64(bytes.count))
        }
    }

    private func openNote() throws(FileError) -> (File, end: Int64) {
        isNoted = true
        if try tier.fileSystem.status(at: notePath) != nil {
            let (file, status) = try tier.fileSystem.openRegular(notePath, .readWrite)
            return (file, FillNote.end(of: status.size))
        }
        return (try tier.fileSystem.open(notePath, .create), 0)
    }

    /// Leaves the bytes that are there for a later fill, which gets them from ``DiskTier/resumeFill(_:)``, unless the digest was deleted after
    /// the stamp was taken.
    ///
    /// - Parameters:
    ///   - size: of the whole blob.
    ///   - end: where the last of the bytes ends.
    ///   - knowledge: handed to that fill, if it is of this process; told whether somebody else may have changed the file.
    public func leave(
        _ digest: Digest,
        size: Int64,
        end: Int64,
        knowing knowledge: (_ isSuspect: Bool) -> any Sendable,
        since stamp: DiskTier.Stamp
    ) throws(DiskTierError) {
        let (fileSystem, watch, path) = (tier.fileSystem, watch, notePath)
        let (status, noteBytes) = try onDisk { () throws(FileError) in
            // Gives back what was allocated beyond.
            try watch.resize(to: end)
            return (try fileSystem.status(of: watch.file), try fileSystem.status(at: path)?.allocated ?? 0)
        }
        let entry = LeftFills.Entry(
            path: file.path,
            size: size,
            bytes: status.allocated + noteBytes,
            since: tier.time.wallTime(),
            // What cannot be looked at is. What comes after this moves the time on.
            known: knowledge((try? watch.isSuspect()) ?? true),
            changedNanoseconds: status.changedNanoseconds,
            file: file
        )
        isKept = tier.enterLeftFill(digest, entry, reservation, since: stamp)
    }
}
