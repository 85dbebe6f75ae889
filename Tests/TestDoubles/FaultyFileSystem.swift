public import Glibc
internal import Synchronization
public import System

/// The real file system, counting its calls; a test chooses which of them fails.
public final class FaultyFileSystem: FileSystem {
    private struct State {
        var calls = 0
        var failing: ClosedRange<Int>?
        var operations: Set<String>?
        var code: Int32 = EIO
        var hasFailed = false
        var available: (@Sendable () -> Int64)?
        var clockNanoseconds: Int64 = 0
        var looksWithoutBlocks = 0
        var hook: (@Sendable (_ operation: String, _ path: String) -> Void)?
    }

    private let real = LocalFileSystem()
    private let state = Mutex(State())

    public init() {}

    /// Fails the n-th call from now on, counted from 1, with this `errno`; `lasting` fails all after it too.
    ///
    /// - Parameter operations: only these are counted and failed, by the names of their system calls.
    public func failCall(_ number: Int, code: Int32 = EIO, lasting: Bool = false, of operations: Set<String>? = nil) {
        state.withLock { state in
            state.calls = 0
            state.failing = number...(lasting ? Int.max : number)
            state.operations = operations
            state.code = code
            state.hasFailed = false
        }
    }

    /// Called before each call from now on; it may wait.
    public func beforeCalls(_ hook: @escaping @Sendable (_ operation: String, _ path: String) -> Void) {
        state.withLock { $0.hook = hook }
    }

    /// From now on the volume seems to have so much room left.
    public func leave(_ available: @escaping @Sendable () -> Int64) {
        state.withLock { $0.available = available }
    }

    /// From now on files seem to have been changed so much later, or earlier.
    public func setClock(by nanoseconds: Int64) {
        state.withLock { $0.clockNanoseconds = nanoseconds }
    }

    /// So many looks from now on find that files take nothing on the volume.
    public func hideBlocks(from looks: Int) {
        state.withLock { $0.looksWithoutBlocks = looks }
    }

    private func onClock(_ status: FileStatus) -> FileStatus {
        let hidesBlocks = state.withLock { state in
            state.looksWithoutBlocks -= 1
            return state.looksWithoutBlocks >= 0
        }
        return FileStatus(
            size: status.size,
            allocated: hidesBlocks ? 0 : status.allocated,
            isDirectory: status.isDirectory,
            isRegular: status.isRegular,
            modifiedNanoseconds: status.modifiedNanoseconds,
            changedNanoseconds: status.changedNanoseconds + state.withLock { $0.clockNanoseconds },
            inode: status.inode,
            links: status.links
        )
    }

    /// Whether a call was failed since.
    public var hasFailed: Bool { state.withLock { $0.hasFailed } }

    private func enter(_ operation: String, _ path: String) throws(FileError) {
        state.withLock { $0.hook }?(operation, path)
        let code: Int32? = state.withLock { state in
            guard state.operations?.contains(operation) ?? true else { return nil }
            state.calls += 1
            guard state.failing?.contains(state.calls) == true else { return nil }
            state.hasFailed = true
            return state.code
        }
        if let code { throw FileError(operation: operation, path: path, code: code) }
    }

    public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> File {
        try enter("open", path)
        return try real.open(path, mode)
    }

    public func status(of file: File) throws(FileError) -> FileStatus {
        try enter("fstat", file.path)
        return onClock(try real.status(of: file))
    }

    public func status(at path: String) throws(FileError) -> FileStatus? {
        try enter("stat", path)
        return try real.status(at: path).map(onClock)
    }

    @discardableResult
    public func read(
        _ file: File,
        at offset: Int64,
        count: Int,
        into buffer: inout OutputSpan<UInt8>
    ) throws(FileError) -> Int {
        try enter("pread", file.path)
        return try real.read(file, at: offset, count: count, into: &buffer)
    }

    public func write(_ bytes: Span<UInt8>, to file: File, at offset: Int64) throws(FileError) {
        try enter("pwrite", file.path)
        try real.write(bytes, to: file, at: offset)
    }

    public func allocate(_ file: File, size: Int64) throws(FileError) {
        try enter("fallocate", file.path)
        try real.allocate(file, size: size)
    }

    public func observe(_ file: File) -> (any FileObserver)? {
        guard (try? enter("inotify_add_watch", file.path)) != nil else { return nil }
        return real.observe(file)
    }

    public func truncate(_ file: File, to size: Int64) throws(FileError) {
        try enter("ftruncate", file.path)
        try real.truncate(file, to: size)
    }

    public func synchronize(_ file: File) throws(FileError) {
        try enter("fdatasync", file.path)
        try real.synchronize(file)
    }

    public func synchronize(directory: String) throws(FileError) {
        try enter("fsync", directory)
        try real.synchronize(directory: directory)
    }

    public func rename(_ source: String, to destination: String) throws(FileError) {
        try enter("rename", destination)
        try real.rename(source, to: destination)
    }

    @discardableResult
    public func remove(_ path: String) throws(FileError) -> Bool {
        try enter("unlink", path)
        return try real.remove(path)
    }

    @discardableResult
    public func removeDirectory(_ path: String) throws(FileError) -> Bool {
        try enter("rmdir", path)
        return try real.removeDirectory(path)
    }

    public func createDirectory(_ path: String) throws(FileError) {
        try enter("mkdir", path)
        try real.createDirectory(path)
    }

    public func entries(of directory: String) throws(FileError) -> [DirectoryEntry] {
        try enter("readdir", directory)
        return try real.entries(of: directory)
    }

    public func space(at path: String) throws(FileError) -> VolumeSpace {
        try enter("statvfs", path)
        let space = try real.space(at: path)
        guard let available = state.withLock({ $0.available }) else { return space }
        return VolumeSpace(capacity: space.capacity, available: available())
    }

    public func resolve(_ path: String) throws(FileError) -> String {
        try enter("realpath", path)
        return try real.resolve(path)
    }

    public func lock(_ file: File) throws(FileError) {
        try enter("flock", file.path)
        try real.lock(file)
    }

    public func setModified(_ file: File, nanoseconds: Int64) throws(FileError) {
        try enter("futimens", file.path)
        try real.setModified(file, nanoseconds: nanoseconds)
    }

    @discardableResult
    public func setAttribute(_ name: String, _ value: [UInt8], of file: File) throws(FileError) -> Bool {
        try enter("fsetxattr", file.path)
        return try real.setAttribute(name, value, of: file)
    }

    public func attribute(_ name: String, of file: File, limitBytes: Int) throws(FileError) -> [UInt8]? {
        try enter("fgetxattr", file.path)
        return try real.attribute(name, of: file, limitBytes: limitBytes)
    }
}
