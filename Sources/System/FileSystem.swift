/// Every file operation of the program: one seam, so that a test can fail the n-th of them.
///
/// Paths are absolute or relative to the working directory. Interrupted calls are repeated, short ones continued.
public protocol FileSystem: Sendable {
    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> File
    func status(of file: File) throws(FileError) -> FileStatus
    /// `nil` when nothing is there.
    func status(at path: String) throws(FileError) -> FileStatus?
    /// Appends `count` bytes from `offset` on, fewer when `buffer` is full or the file ends; returns how many (`pread(2)`).
    @discardableResult
    func read(
        _ file: File,
        at offset: Int64,
        count: Int,
        into buffer: inout OutputSpan<UInt8>
    ) throws(FileError) -> Int
    /// Appends what of these bytes lies in memory, without waiting for the disk: maybe none, also where a read would fail (`preadv2(2)`);
    /// returns how many.
    func readFromMemory(_ file: File, at offset: Int64, count: Int, into buffer: inout OutputSpan<UInt8>) -> Int
    /// Writes all of `bytes` (`pwrite(2)`).
    func write(_ bytes: Span<UInt8>, to file: File, at offset: Int64) throws(FileError)
    /// Reserves blocks for `[0, size)` without changing the size (`fallocate(2)`); does nothing where the volume cannot.
    func allocate(_ file: File, size: Int64) throws(FileError)
    func truncate(_ file: File, to size: Int64) throws(FileError)
    /// Tells from now on what others do to an open file; `nil` where that is not to be had.
    func observe(_ file: File) -> (any FileObserver)?
    /// Says what becomes of some bytes; changes nothing but how fast they are.
    func advise(_ advice: FileAdvice, on range: Range<Int64>, of file: File)
    /// Returns once the bytes are on stable storage (`fdatasync(2)`).
    func synchronize(_ file: File) throws(FileError)
    /// Returns once the names in the directory are on stable storage (`fsync(2)`).
    func synchronize(directory: String) throws(FileError)
    /// Replaces what `destination` names, atomically (`rename(2)`).
    func rename(_ source: String, to destination: String) throws(FileError)
    /// Removes a file; false when there was none.
    @discardableResult
    func remove(_ path: String) throws(FileError) -> Bool
    /// Removes an empty directory; false when it is missing or not empty.
    @discardableResult
    func removeDirectory(_ path: String) throws(FileError) -> Bool
    /// Creates the directory and its missing parents, and makes each new name durable.
    func createDirectory(_ path: String) throws(FileError)
    /// The directory's entries, in no order; empty when it does not exist.
    func entries(of directory: String) throws(FileError) -> [DirectoryEntry]
    /// The path without symbolic links, `.` and `..`; everything on it must exist (`realpath(3)`).
    func resolve(_ path: String) throws(FileError) -> String
    /// Waits until this open file alone holds the lock on its inode, which ends when the file closes (`flock(2)`).
    func lock(_ file: File) throws(FileError)
    /// Sets the time of last modification, in nanoseconds since 1970 (`futimens(3)`).
    func setModified(_ file: File, nanoseconds: Int64) throws(FileError)
    /// Keeps a value beside the file's bytes; false when the volume cannot (`fsetxattr(2)`). A name begins with `user.`.
    @discardableResult
    func setAttribute(_ name: String, _ value: [UInt8], of file: File) throws(FileError) -> Bool
    /// At most `limitBytes`; `nil` when there is no such attribute, or none at all on this volume (`fgetxattr(2)`).
    func attribute(_ name: String, of file: File, limitBytes: Int) throws(FileError) -> [UInt8]?
    func space(at path: String) throws(FileError) -> VolumeSpace
}

/// A hint to the kernel about bytes of a file.
public enum FileAdvice: Sendable {
    /// They will be synced: writing them out begins now (`sync_file_range(2)`).
    case willBeSynced
    /// Nobody reads them soon: those on stable storage leave memory (`posix_fadvise(2)`).
    case isNotNeeded
}

extension FileSystem {
    public func observe(_ file: File) -> (any FileObserver)? { nil }

    public func advise(_ advice: FileAdvice, on range: Range<Int64>, of file: File) {}

    public func readFromMemory(_ file: File, at offset: Int64, count: Int, into buffer: inout OutputSpan<UInt8>) -> Int
    { 0 }

    /// Appends bytes from `offset` on until `buffer` is full or the file ends; returns how many.
    @discardableResult
    public func read(_ file: File, at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(FileError) -> Int {
        try read(file, at: offset, count: buffer.freeCapacity, into: &buffer)
    }

    /// At most `count` bytes from `offset` on; fewer only at the end of the file.
    public func read(_ file: File, at offset: Int64, count: Int) throws(FileError) -> [UInt8] {
        try [UInt8](capacity: count) { (buffer: inout OutputSpan<UInt8>) throws(FileError) in
            try read(file, at: offset, count: count, into: &buffer)
        }
    }

    /// Opens a file of our own. What else may lie there in its place is an error at once (``FileError/isReplaced``).
    public func openRegular(
        _ path: String,
        _ mode: OpenMode = .readOwn
    ) throws(FileError) -> (file: File, status: FileStatus) {
        let file = try open(path, mode)
        let status = try status(of: file)
        guard status.isRegular else { throw FileError.notRegular(path) }
        return (file, status)
    }

    /// The whole file, or `nil` when there is none.
    public func contents(at path: String, _ mode: OpenMode = .read) throws(FileError) -> [UInt8]? {
        let file: File
        do throws(FileError) {
            file = try open(path, mode)
        } catch {
            guard error.isNotFound else { throw error }
            return nil
        }
        let status = try status(of: file)
        guard mode == .read || status.isRegular else { throw FileError.notRegular(path) }
        return try read(file, at: 0, count: Int(status.size))
    }

    /// The durable order, written once: bytes, file sync, rename, directory sync.
    ///
    /// - Parameter watch: of the file. What another process has changed until all that is done is an error (``FileError/isOverwritten``).
    /// - Returns: what is known of the file as it gets its name: who changes it after that makes it another.
    @discardableResult
    public func publish(
        _ file: File,
        from temporary: String,
        as path: String,
        _ watch: WriteWatch? = nil
    ) throws(FileError) -> FileStatus {
        watch?.rest()
        try synchronize(file)
        try watch?.requireUntouched()
        try rename(temporary, to: path)
        let published = try status(of: file)
        watch?.expect(published)
        try synchronize(directory: parentDirectory(of: path))
        if watch?.isOverwritten() == true { throw FileError.overwritten(path) }
        return published
    }
}

/// The directory part of a path; `.` when it has none.
public func parentDirectory(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
