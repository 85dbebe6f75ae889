import System

/// The kernel's file system without its promises: fills a directory that can be thrown away, in minutes instead of hours.
struct FastFileSystem: FileSystem {
    private let real = LocalFileSystem()

    func synchronize(_ file: File) throws(FileError) {}
    func synchronize(directory: String) throws(FileError) {}

    func open(_ path: String, _ mode: OpenMode) throws(FileError) -> File { try real.open(path, mode) }
    func status(of file: File) throws(FileError) -> FileStatus { try real.status(of: file) }
    func status(at path: String) throws(FileError) -> FileStatus? { try real.status(at: path) }

    func read(
        _ file: File,
        at offset: Int64,
        count: Int,
        into buffer: inout OutputSpan<UInt8>
    ) throws(FileError) -> Int {
        try real.read(file, at: offset, count: count, into: &buffer)
    }

    func write(_ bytes: Span<UInt8>, to file: File, at offset: Int64) throws(FileError) {
        try real.write(bytes, to: file, at: offset)
    }

    func allocate(_ file: File, size: Int64) throws(FileError) { try real.allocate(file, size: size) }
    func truncate(_ file: File, to size: Int64) throws(FileError) { try real.truncate(file, to: size) }
    func rename(_ source: String, to destination: String) throws(FileError) { try real.rename(source, to: destination) }
    func remove(_ path: String) throws(FileError) -> Bool { try real.remove(path) }
    func removeDirectory(_ path: String) throws(FileError) -> Bool { try real.removeDirectory(path) }
    func createDirectory(_ path: String) throws(FileError) { try real.createDirectory(path) }
    func entries(of directory: String) throws(FileError) -> [DirectoryEntry] { try real.entries(of: directory) }
    func resolve(_ path: String) throws(FileError) -> String { try real.resolve(path) }
    func lock(_ file: File) throws(FileError) { try real.lock(file) }

    func setModified(_ file: File, nanoseconds: Int64) throws(FileError) {
        try real.setModified(file, nanoseconds: nanoseconds)
    }

    func setAttribute(_ name: String, _ value: [UInt8], of file: File) throws(FileError) -> Bool {
        try real.setAttribute(name, value, of: file)
    }

    func attribute(_ name: String, of file: File, limitBytes: Int) throws(FileError) -> [UInt8]? {
        try real.attribute(name, of: file, limitBytes: limitBytes)
    }

    func space(at path: String) throws(FileError) -> VolumeSpace { try real.space(at: path) }
}
