internal import System

/// Uploads that are not finished lie in a folder of their own, which a start leaves alone. Whoever puts a file there removes it.
extension DiskTier {
    /// Kept beside each small file, so that one that is no larger can replace it whatever else fills the disk.
    private static let spareBytes = Ledger.blockBytes
    private static let newSuffix = ".new"

    public var uploadDirectory: String { configuration.directory + "/uploads" }

    private func uploadPath(_ name: String) -> String { "\(uploadDirectory)/\(name)" }

    /// Without a byte yet, for a file of an unfinished upload: all of these together have a share of the ceiling, since clients that vanish
    /// leave theirs for as long as an upload may stay unused.
    ///
    /// - Parameter isSmall: it is one that ``replaceUploadFile(_:with:_:)`` writes. Those count, but are never refused for the share: there
    ///   are few for each upload, and without them it ends with the process.
    public func newUploadReservation(isSmall: Bool = false) -> Reservation {
        Reservation(
            self,
            uploadLimitBytes: isSmall ? .max : ledger.ceilingBytes / 100 * configuration.uploadSharePercent
        )
    }

    /// A new file in ``uploadDirectory``, whose bytes the reservation pays for, and whose record in the index too.
    public func newUploadFile(_ name: String, _ reservation: Reservation) throws(DiskTierError) -> IncomingFile {
        let path = uploadPath(name)
        try onDisk { () throws(FileError) in
            try fileSystem.createDirectory(uploadDirectory)
            // What has the name is left of an upload that got no further.
            try fileSystem.remove(path)
        }
        return try newFile(at: path, reservation, isKept: true)
    }

    /// A file of an earlier run, cut to `size`; `nil` when it is missing or shorter, or is no file.
    public func reopenUploadFile(
        _ name: String,
        size: Int64,
        _ reservation: Reservation
    ) throws(DiskTierError) -> IncomingFile? {
        let (file, status): (File, FileStatus)
        do throws(FileError) {
            (file, status) = try fileSystem.openRegular(uploadPath(name), .readWrite)
        } catch {
            guard error.isNotFound || error.isReplaced else { throw .file(error) }
            return nil
        }
        guard status.size >= size else { return nil }
        let incoming = IncomingFile(self, reservation, file, isKept: true)
        try incoming.cut(to: size)
        return incoming
    }

    /// Replaces a small file as a whole. The reservation is this file's alone, and pays for both as long as both are there.
    ///
    /// When it cannot be written there is none any more: one that is behind what happened since would be worse.
    public func replaceUploadFile(
        _ name: String,
        with bytes: [UInt8],
        _ reservation: Reservation
    ) throws(DiskTierError) {
        let path = uploadPath(name)
        // Nothing is there that a half-written one could spoil.
        let new = reservation.held == 0 ? path : uploadPath(name + Self.newSuffix)
        let size = Ledger.blocks(Int64(bytes.count))
        do throws(DiskTierError) {
            try reservation.grow(by: reservation.held == 0 ? size + Self.spareBytes : size - Self.spareBytes)
            try onDisk { () throws(FileError) in
                try fileSystem.write(bytes.span, to: createUploadFile(new), at: 0)
                if new != path { try fileSystem.rename(new, to: path) }
            }
        } catch {
            discard(new, bytes: size)
            removeUploadFile(name, reservation)
            throw error
        }
        ledger.unstrand(path)
        reservation.shrink(to: size + Self.spareBytes)
        reservation.hasLanded(size)
    }

    /// Where an earlier attempt may have ended half way. The directory is made when there is none.
    private func createUploadFile(_ path: String) throws(FileError) -> File {
        do throws(FileError) {
            return try fileSystem.open(path, .create)
        } catch {
            if error.isNotFound {
                try fileSystem.createDirectory(uploadDirectory)
            } else if error.isAlreadyThere {
                try fileSystem.remove(path)
            } else {
                throw error
            }
            return try fileSystem.open(path, .create)
        }
    }

    /// Removes a file if it is there, then gives back its room.
    public func removeUploadFile(_ name: String, _ reservation: Reservation) {
        guard reservation.held > 0 else { return }
        discard(uploadPath(name), bytes: reservation.held)
        reservation.release()
    }

    /// Enters what an earlier run has left on the disk: it is there whether or not there is room for it.
    ///
    /// - Parameter isSmall: it is one that ``replaceUploadFile(_:with:_:)`` wrote.
    public func reservationOfUploadFile(_ name: String, isSmall: Bool) throws(DiskTierError) -> Reservation {
        let status = try onDisk { () throws(FileError) in try fileSystem.status(at: uploadPath(name)) }
        let reservation = newUploadReservation(isSmall: isSmall)
        if let status {
            reservation.enter(status.allocated + (isSmall ? Self.spareBytes : Self.indexGrowthBytes))
        }
        return reservation
    }
}
