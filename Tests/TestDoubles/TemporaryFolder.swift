public import System

/// A folder of a test's own, removed with the value.
public final class TemporaryFolder {
    public let path = "/tmp/forebay-test-\(SystemRandom().token())"

    public init() {
        do {
            try LocalFileSystem().createDirectory(path)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    deinit {
        // What stays behind lies in /tmp and harms no other test.
        try? clear(path)
    }

    private func clear(_ directory: String) throws(FileError) {
        let files = LocalFileSystem()
        for entry in try files.entries(of: directory) {
            let child = "\(directory)/\(entry.name)"
            if entry.isDirectory { try clear(child) } else { try files.remove(child) }
        }
        try files.removeDirectory(directory)
    }

    /// Copies everything below to another folder.
    public func copy(to target: String) throws(FileError) { try copy(path, to: target) }

    private func copy(_ source: String, to target: String) throws(FileError) {
        let files = LocalFileSystem()
        try files.createDirectory(target)
        for entry in try files.entries(of: source) {
            let (from, to) = ("\(source)/\(entry.name)", "\(target)/\(entry.name)")
            if entry.isDirectory {
                try copy(from, to: to)
            } else if let bytes = try files.contents(at: from) {
                try files.write(bytes.span, to: files.open(to, .create), at: 0)
            }
        }
    }

    /// A new file of the folder's own.
    public func write(_ bytes: [UInt8], to name: String) throws(FileError) {
        let files = LocalFileSystem()
        try files.write(bytes.span, to: files.open("\(path)/\(name)", .create), at: 0)
    }

    /// The blocks that all files and folders below take, in bytes: what `du` says.
    public func allocatedBytes() throws(FileError) -> Int64 { try Self.allocatedBytes(below: path) }

    public static func allocatedBytes(below directory: String) throws(FileError) -> Int64 {
        let files = LocalFileSystem()
        var sum: Int64 = 0
        for entry in try files.entries(of: directory) {
            let child = "\(directory)/\(entry.name)"
            // It may go while it is counted.
            sum += try files.status(at: child)?.allocated ?? 0
            if entry.isDirectory { sum += try allocatedBytes(below: child) }
        }
        return sum
    }
}
