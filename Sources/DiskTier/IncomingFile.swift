public import OCI
public import System

/// A file of the tier that is being written. Without ``commit(as:size:since:)`` it disappears with the value.
public final class IncomingFile {
    public let file: File
    private let tier: DiskTier
    private let reservation: Reservation
    private var isCommitted = false
    /// There is a note of what has landed.
    private var isNoted: Bool

    init(_ tier: DiskTier, _ reservation: Reservation, _ file: File, isNoted: Bool = false) {
        self.tier = tier
        self.reservation = reservation
        self.file = file
        self.isNoted = isNoted
    }

    private var notePath: String { FillNote.path(besides: file.path) }

    deinit {
        guard !isCommitted else { return }
        // What stays behind is removed at the next start.
        _ = try? tier.fileSystem.remove(file.path)
        if isNoted { _ = try? tier.fileSystem.remove(notePath) }
    }

    /// Makes the bytes part of the tier, durably. The caller has verified that they have this digest.
    ///
    /// - Returns: false, and nothing is kept, when the digest was deleted after the stamp was taken.
    public func commit(as digest: Digest, size: Int64, since stamp: DiskTier.Stamp) throws(DiskTierError) -> Bool {
        let path = tier.path(of: digest)
        let (fileSystem, file) = (tier.fileSystem, file)
        let allocated = try onDisk { () throws(FileError) in
            try fileSystem.truncate(file, to: size)
            try fileSystem.createDirectory(parentDirectory(of: path))
            try fileSystem.publish(file, from: file.path, as: path)
            return try fileSystem.status(of: file).allocated
        }
        isCommitted = true
        // One that stays behind is removed at the next start: it lacks its file.
        if isNoted { _ = try? fileSystem.remove(notePath) }
        tier.dropLeftFill(digest)
        return try tier.enter(digest, size: size, allocated: allocated, reservation, since: stamp)
    }

    /// Notes durably which bytes are there, for a run after this one. Not to be called by two threads at once.
    public func note(_ note: FillNote) throws(DiskTierError) {
        let (fileSystem, path) = (tier.fileSystem, notePath)
        let new = FillNote.newPath(besides: file.path)
        try onDisk { () throws(FileError) in
            // The note must not promise bytes that a power cut can take.
            try fileSystem.synchronize(file)
            _ = try fileSystem.remove(new)
            let noteFile = try fileSystem.open(new, .create)
            isNoted = true
            try fileSystem.write(note.encoded.span, to: noteFile, at: 0)
            try fileSystem.publish(noteFile, from: new, as: path)
        }
    }

    /// Leaves the bytes that are there for a later fill, which gets them from ``DiskTier/resumeFill(_:)``.
    public func leave(_ note: FillNote) throws(DiskTierError) {
        let (fileSystem, path, end) = (tier.fileSystem, notePath, note.landed.map(\.range.upperBound).max() ?? 0)
        guard end > 0 else { return }
        // Gives back what was allocated beyond.
        try onDisk { () throws(FileError) in try fileSystem.truncate(file, to: end) }
        try self.note(note)
        let allocated = try onDisk { () throws(FileError) in
            try fileSystem.status(of: file).allocated + (fileSystem.status(at: path)?.allocated ?? 0)
        }
        guard tier.enterLeftFill(note.digest, path: file.path, bytes: allocated, reservation) else { return }
        isCommitted = true
    }
}
