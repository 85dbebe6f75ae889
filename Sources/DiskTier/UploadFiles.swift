internal import System

/// Uploads that are not finished lie in a folder of their own, which a start leaves alone. Whoever puts a file there removes it.
extension DiskTier {
    public var uploadDirectory: String { configuration.directory + "/uploads" }

    /// A new file in ``uploadDirectory``, whose bytes the reservation pays for, and whose record in the index too.
    public func newUploadFile(_ name: String, _ reservation: Reservation) throws(DiskTierError) -> IncomingFile {
        try reservation.grow(by: Self.indexGrowthBytes)
        let path = "\(uploadDirectory)/\(name)"
        let file = try onDisk { () throws(FileError) in
            try fileSystem.createDirectory(uploadDirectory)
            // What has the name is left of an upload that got no further.
            try fileSystem.remove(path)
            return try fileSystem.open(path, .create)
        }
        return IncomingFile(self, reservation, file, isKept: true)
    }

    /// A file of an earlier run, cut to `size`; `nil` when it is missing or shorter.
    public func reopenUploadFile(
        _ name: String,
        size: Int64,
        _ reservation: Reservation
    ) throws(DiskTierError) -> IncomingFile? {
        do throws(FileError) {
            let file = try fileSystem.open("\(uploadDirectory)/\(name)", .readWrite)
            guard try fileSystem.status(of: file).size >= size else { return nil }
            try fileSystem.truncate(file, to: size)
            return IncomingFile(self, reservation, file, isKept: true)
        } catch {
            guard error.isNotFound else { throw .file(error) }
            return nil
        }
    }

    /// Enters what an earlier run has left on the disk: it is there whether or not there is room for it.
    public func reservationOfUploadFile(_ name: String) throws(DiskTierError) -> Reservation {
        let status = try onDisk { () throws(FileError) in try fileSystem.status(at: "\(uploadDirectory)/\(name)") }
        let reservation = Reservation(self)
        if let status { reservation.enter(status.allocated + Self.indexGrowthBytes) }
        return reservation
    }
}
