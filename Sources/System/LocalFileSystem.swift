internal import CGlibc
internal import Glibc

/// The kernel's file system.
public struct LocalFileSystem: FileSystem {
    public init() {}

    public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> File {
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .readOwn: O_RDONLY | O_NOFOLLOW | O_NONBLOCK
            case .readWrite: O_RDWR | O_NOFOLLOW | O_NONBLOCK
            case .create: O_RDWR | O_CREAT | O_EXCL
            }
        let descriptor = try call("open", path) { path.withCString { Glibc.open($0, flags | O_CLOEXEC, 0o644) } }
        return File(owning: descriptor, path: path)
    }

    public func status(of file: File) throws(FileError) -> FileStatus {
        var raw = stat()
        _ = try call("fstat", file.path) { fstat(file.descriptor, &raw) }
        return FileStatus(raw)
    }

    public func status(at path: String) throws(FileError) -> FileStatus? {
        var raw = stat()
        do throws(FileError) {
            _ = try call("stat", path) { stat(path, &raw) }
        } catch {
            guard error.isNotFound else { throw error }
            return nil
        }
        return FileStatus(raw)
    }

    @discardableResult
    public func read(
        _ file: File,
        at offset: Int64,
        count: Int,
        into buffer: inout OutputSpan<UInt8>
    ) throws(FileError) -> Int {
        let failure: FileError?
        var total = 0
        failure = buffer.withUnsafeMutableBufferPointer { memory, initialized in
            do throws(FileError) {
                let end = min(memory.count, initialized + count)
                while initialized < end {
                    let target = UnsafeMutableRawPointer(memory.baseAddress! + initialized)
                    let room = end - initialized
                    let got = try call("pread", file.path) {
                        pread(file.descriptor, target, room, off_t(offset) + off_t(total))
                    }
                    if got == 0 { break }
                    initialized += got
                    total += got
                }
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
        return total
    }

    public func readFromMemory(_ file: File, at offset: Int64, count: Int, into buffer: inout OutputSpan<UInt8>) -> Int
    {
        let room = min(count, buffer.freeCapacity)
        guard room > 0 else { return 0 }
        return buffer.withUnsafeMutableBufferPointer { memory, initialized in
            var piece = iovec(iov_base: memory.baseAddress! + initialized, iov_len: room)
            let got = max(0, preadv2(file.descriptor, &piece, 1, off_t(offset), Int32(forebay_READ_NOWAIT)))
            initialized += got
            return got
        }
    }

    public func write(_ bytes: Span<UInt8>, to file: File, at offset: Int64) throws(FileError) {
        let failure: FileError? = bytes.withUnsafeBufferPointer { memory in
            do throws(FileError) {
                var written = 0
                while written < memory.count {
                    let source = memory.baseAddress! + written
                    written += try call("pwrite", file.path) {
                        pwrite(file.descriptor, source, memory.count - written, off_t(offset) + off_t(written))
                    }
                }
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
    }

    public func allocate(_ file: File, size: Int64) throws(FileError) {
        guard size > 0 else { return }
        do throws(FileError) {
            _ = try call("fallocate", file.path) {
                fallocate(file.descriptor, Int32(forebay_FALLOC_FL_KEEP_SIZE), 0, off_t(size))
            }
        } catch {
            guard error.code == EOPNOTSUPP || error.code == ENOSYS else { throw error }
            return
        }
    }

    public func truncate(_ file: File, to size: Int64) throws(FileError) {
        _ = try call("ftruncate", file.path) { ftruncate(file.descriptor, off_t(size)) }
    }

    public func observe(_ file: File) -> (any FileObserver)? { Inotify.shared?.observe(file) }

    /// What fails here is found when the file is synced.
    public func advise(_ advice: FileAdvice, on range: Range<Int64>, of file: File) {
        let (offset, length) = (off_t(range.lowerBound), off_t(range.count))
        switch advice {
        case .willBeSynced:
            _ = sync_file_range(file.descriptor, offset, length, UInt32(forebay_SYNC_FILE_RANGE_WRITE))
        case .isNotNeeded: _ = posix_fadvise(file.descriptor, offset, length, POSIX_FADV_DONTNEED)
        }
    }

    public func synchronize(_ file: File) throws(FileError) {
        _ = try call("fdatasync", file.path) { fdatasync(file.descriptor) }
    }

    public func synchronize(directory: String) throws(FileError) {
        let descriptor = try call("open", directory) { Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        defer { close(descriptor) }
        _ = try call("fsync", directory) { fsync(descriptor) }
    }

    public func rename(_ source: String, to destination: String) throws(FileError) {
        _ = try call("rename", destination) { Glibc.rename(source, destination) }
    }

    @discardableResult
    public func remove(_ path: String) throws(FileError) -> Bool {
        do throws(FileError) {
            _ = try call("unlink", path) { unlink(path) }
        } catch {
            guard error.isNotFound else { throw error }
            return false
        }
        return true
    }

    @discardableResult
    public func removeDirectory(_ path: String) throws(FileError) -> Bool {
        do throws(FileError) {
            _ = try call("rmdir", path) { rmdir(path) }
        } catch {
            guard error.isNotFound || error.code == ENOTEMPTY || error.code == EEXIST else { throw error }
            return false
        }
        return true
    }

    public func createDirectory(_ path: String) throws(FileError) {
        let parent = parentDirectory(of: path)
        do throws(FileError) {
            _ = try call("mkdir", path) { mkdir(path, 0o755) }
        } catch {
            switch error.code {
            case EEXIST where try status(at: path)?.isDirectory == true:
                return
            // Where the parent is there, none can be made in it, as in /proc.
            case ENOENT where try status(at: parent) == nil && parent != path:
                try createDirectory(parent)
                return try createDirectory(path)
            default:
                throw error
            }
        }
        try synchronize(directory: parent)
    }

    public func entries(of directory: String) throws(FileError) -> [DirectoryEntry] {
        guard let stream = opendir(directory) else {
            let error = FileError(operation: "opendir", path: directory, code: errno)
            if error.isNotFound { return [] }
            throw error
        }
        defer { closedir(stream) }
        var entries: [DirectoryEntry] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw FileError(operation: "readdir", path: directory, code: errno) }
                return entries
            }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard name != ".", name != ".." else { continue }
            var type = Int32(entry.pointee.d_type)
            if type == Int32(DT_UNKNOWN) { type = try fileType(of: "\(directory)/\(name)") }
            let entryIsLink = type == Int32(DT_LNK)
            entries.append(
                DirectoryEntry(name: name, isDirectory: type == Int32(DT_DIR), isLink: entryIsLink)
            )
        }
    }

    /// The `d_type` of a name, for volumes that do not tell; `DT_UNKNOWN` when it is gone.
    private func fileType(of path: String) throws(FileError) -> Int32 {
        var raw = stat()
        do throws(FileError) {
            _ = try call("lstat", path) { lstat(path, &raw) }
        } catch {
            guard error.isNotFound else { throw error }
            return Int32(DT_UNKNOWN)
        }
        return Int32((raw.st_mode & S_IFMT) >> 12)
    }

    public func resolve(_ path: String) throws(FileError) -> String {
        guard let resolved = realpath(path, nil) else {
            throw FileError(operation: "realpath", path: path, code: errno)
        }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    public func lock(_ file: File) throws(FileError) {
        _ = try call("flock", file.path) { flock(file.descriptor, LOCK_EX) }
    }

    public func setModified(_ file: File, nanoseconds: Int64) throws(FileError) {
        let moment = timespec(
            tv_sec: Int(nanoseconds / 1_000_000_000),
            tv_nsec: Int(nanoseconds % 1_000_000_000)
        )
        _ = try call("futimens", file.path) {
            withUnsafeTemporaryAllocation(of: timespec.self, capacity: 2) { times in
                times.initialize(repeating: moment)
                return futimens(file.descriptor, times.baseAddress)
            }
        }
    }

    public func setAttribute(_ name: String, _ value: [UInt8], of file: File) throws(FileError) -> Bool {
        do throws(FileError) {
            _ = try call("fsetxattr", file.path) { fsetxattr(file.descriptor, name, value, value.count, 0) }
        } catch {
            guard error.code == EOPNOTSUPP || error.code == ENOSYS else { throw error }
            return false
        }
        return true
    }

    public func attribute(_ name: String, of file: File, limitBytes: Int) throws(FileError) -> [UInt8]? {
        var value = [UInt8](repeating: 0, count: limitBytes)
        do throws(FileError) {
            let length = try call("fgetxattr", file.path) { fgetxattr(file.descriptor, name, &value, limitBytes) }
            return Array(value.prefix(length))
        } catch {
            guard error.code == ENODATA || error.code == EOPNOTSUPP || error.code == ENOSYS else { throw error }
            return nil
        }
    }

    public func space(at path: String) throws(FileError) -> VolumeSpace {
        var raw = statvfs()
        _ = try call("statvfs", path) { statvfs(path, &raw) }
        let unit = Int64(raw.f_frsize)
        return VolumeSpace(
            capacity: Int64(raw.f_blocks) * unit,
            available: Int64(raw.f_bavail) * unit,
            used: Int64(raw.f_blocks - min(raw.f_bfree, raw.f_blocks)) * unit
        )
    }
}

/// Repeats an interrupted call; turns -1 into the error it stands for.
func call<Result: SignedInteger>(
    _ operation: String,
    _ path: String,
    _ body: () -> Result
) throws(FileError) -> Result {
    while true {
        let result = body()
        if result >= 0 { return result }
        let code = errno
        if code != EINTR { throw FileError(operation: operation, path: path, code: code) }
    }
}

extension FileStatus {
    fileprivate init(_ raw: stat) {
        self.init(
            size: Int64(raw.st_size),
            allocated: Int64(raw.st_blocks) * 512,
            isDirectory: raw.st_mode & S_IFMT == S_IFDIR,
            isRegular: raw.st_mode & S_IFMT == S_IFREG,
            modifiedNanoseconds: Int64(raw.st_mtim.tv_sec) * 1_000_000_000 + Int64(raw.st_mtim.tv_nsec),
            changedNanoseconds: Int64(raw.st_ctim.tv_sec) * 1_000_000_000 + Int64(raw.st_ctim.tv_nsec),
            inode: UInt64(raw.st_ino),
            links: UInt64(raw.st_nlink)
        )
    }
}
