import Glibc
import Synchronization
import System

/// The kernel's file system, until the n-th call that changes something or opens a file: that one fails, and perhaps all after it.
final class FailingFileSystem: FileSystem {
    private struct State {
        var calls = 0
        var log: [String] = []
        var failing: Int?
    }

    private let real = LocalFileSystem()
    private let state = Mutex(State())
    private let code: Int32
    /// As if the process had been killed.
    private let isFinal: Bool
    /// Whether the volume has extended attributes.
    private let hasAttributes: Bool
    /// Called before a name changes.
    private let beforeChange: @Sendable () -> Void

    init(
        code: Int32 = EIO,
        isFinal: Bool = false,
        hasAttributes: Bool = true,
        beforeChange: @escaping @Sendable () -> Void = {}
    ) {
        self.beforeChange = beforeChange
        self.code = code
        self.isFinal = isFinal
        self.hasAttributes = hasAttributes
    }

    /// Lets the `number`-th call from now fail, the first of which is 1; `nil`: none.
    func fail(at number: Int?) {
        state.withLock { state in
            state.failing = number.map { state.calls + $0 }
        }
    }

    /// False while calls could still be made to fail by waiting longer.
    var hasFailed: Bool { state.withLock { state in state.failing.map { state.calls >= $0 } ?? false } }

    var calls: Int { state.withLock { $0.calls } }

    /// System calls in their order, each with the last component of its path.
    var log: [String] { state.withLock { $0.log } }

    private func count(_ operation: String, _ path: String) throws(FileError) {
        let fails = state.withLock { state in
            state.calls += 1
            state.log.append("\(operation) \(path.split(separator: "/").last ?? "/")")
            guard let failing = state.failing else { return false }
            return isFinal ? state.calls >= failing : state.calls == failing
        }
        if fails { throw FileError(operation: operation, path: path, code: code) }
    }

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> File {
        try count("open", path)
        return try real.open(path, mode)
    }
    func status(of file: File) throws(FileError) -> FileStatus {
        try count("fstat", file.path)
        return try real.status(of: file)
    }
    func status(at path: String) throws(FileError) -> FileStatus? {
        try count("stat", path)
        return try real.status(at: path)
    }
    func read(
        _ file: File,
        at offset: Int64,
        count wanted: Int,
        into buffer: inout OutputSpan<UInt8>
    ) throws(FileError) -> Int {
        try count("pread", file.path)
        return try real.read(file, at: offset, count: wanted, into: &buffer)
    }
    func write(_ bytes: Span<UInt8>, to file: File, at offset: Int64) throws(FileError) {
        do throws(FileError) {
            try count("pwrite", file.path)
        } catch {
            // A full disk or a crash leaves a part.
            try real.write(bytes.extracting(first: bytes.count / 2), to: file, at: offset)
            throw error
        }
        try real.write(bytes, to: file, at: offset)
    }
    func allocate(_ file: File, size: Int64) throws(FileError) {
        try count("fallocate", file.path)
        try real.allocate(file, size: size)
    }
    func truncate(_ file: File, to size: Int64) throws(FileError) {
        try count("ftruncate", file.path)
        try real.truncate(file, to: size)
    }
    func synchronize(_ file: File) throws(FileError) {
        try count("fdatasync", file.path)
        try real.synchronize(file)
    }
    func synchronize(directory: String) throws(FileError) {
        try count("fsync", directory)
        try real.synchronize(directory: directory)
    }
    func rename(_ source: String, to destination: String) throws(FileError) {
        beforeChange()
        try count("rename", destination)
        try real.rename(source, to: destination)
    }
    func remove(_ path: String) throws(FileError) -> Bool {
        if !path.contains("/.forebay/") { beforeChange() }
        try count("unlink", path)
        return try real.remove(path)
    }
    func removeDirectory(_ path: String) throws(FileError) -> Bool {
        try count("rmdir", path)
        return try real.removeDirectory(path)
    }
    func createDirectory(_ path: String) throws(FileError) {
        try count("mkdir", path)
        try real.createDirectory(path)
    }
    func entries(of directory: String) throws(FileError) -> [DirectoryEntry] {
        try count("opendir", directory)
        return try real.entries(of: directory)
    }
    func resolve(_ path: String) throws(FileError) -> String {
        try count("realpath", path)
        return try real.resolve(path)
    }
    func lock(_ file: File) throws(FileError) {
        try count("flock", file.path)
        try real.lock(file)
    }
    func setModified(_ file: File, nanoseconds: Int64) throws(FileError) {
        try count("futimens", file.path)
        try real.setModified(file, nanoseconds: nanoseconds)
    }
    func setAttribute(_ name: String, _ value: [UInt8], of file: File) throws(FileError) -> Bool {
        try count("fsetxattr", file.path)
        return hasAttributes ? try real.setAttribute(name, value, of: file) : false
    }
    func attribute(_ name: String, of file: File, limitBytes: Int) throws(FileError) -> [UInt8]? {
        try count("fgetxattr", file.path)
        return hasAttributes ? try real.attribute(name, of: file, limitBytes: limitBytes) : nil
    }
    func space(at path: String) throws(FileError) -> VolumeSpace { try real.space(at: path) }
}
