internal import CGlibc
internal import Glibc

/// A place that a user named for a result: a file is replaced as a whole, and into a pipe or a device is written.
public struct ResultFile: Sendable {
    public let path: String
    private let files = LocalFileSystem()

    public init(_ path: String) { self.path = path }

    /// The same for all names of one place, but for hard links.
    public var place: String {
        // What cannot be resolved has yet to be made.
        if let whole = try? files.resolve(path) { return whole }
        let name = path.lastIndex(of: "/").map { path[path.index(after: $0)...] } ?? path[...]
        let folder = path.count == name.count ? "." : String(path.dropLast(name.count))
        return (try? files.resolve(folder)).map { "\($0)/\(name)" } ?? path
    }

    /// Finds out before the work, not after it, that there is no place for its result.
    public func check() throws(FileError) {
        guard let target = try replaceable() else { return try checkWriting() }
        do throws(FileError) {
            let temporary = temporaryPath(beside: target)
            _ = try files.open(temporary, .create)
            try files.remove(temporary)
        } catch {
            guard error.forbidsReplacing else { throw named(error) }
            try checkWriting()
        }
    }

    public func write(_ bytes: [UInt8]) throws(FileError) {
        guard let target = try replaceable() else { return try writeOver(bytes) }
        let temporary = temporaryPath(beside: target)
        do throws(FileError) {
            try files.write(bytes.span, to: try files.open(temporary, .create), at: 0)
            try files.rename(temporary, to: target)
        } catch {
            _ = try? files.remove(temporary)  // what failed before is what is told
            guard error.forbidsReplacing else { throw named(error) }
            try writeOver(bytes)
        }
    }

    /// Where a new file can take the place of an old one or of none, behind all links.
    private func replaceable() throws(FileError) -> String? {
        guard let status = try files.status(at: path) else { return isLink ? nil : path }
        guard !status.isDirectory else { throw FileError(operation: "open", path: path, code: EISDIR) }
        return status.isRegular ? try files.resolve(path) : nil
    }

    private var isLink: Bool {
        var raw = stat()
        return lstat(path, &raw) == 0 && raw.st_mode & S_IFMT == S_IFLNK
    }

    private func temporaryPath(beside target: String) -> String {
        "\(target).\(String(SystemRandom().next(), radix: 16))"
    }

    /// Nobody knows the temporary file.
    private func named(_ error: FileError) -> FileError {
        FileError(operation: error.operation, path: path, code: error.code)
    }

    private func checkWriting() throws(FileError) {
        _ = try call("access", path) { access(path, W_OK) }
    }

    private func writeOver(_ bytes: [UInt8]) throws(FileError) {
        let descriptor = try call("open", path) { open(path, O_WRONLY | O_TRUNC | O_CLOEXEC) }
        defer { close(descriptor) }
        guard writeAll(bytes, to: descriptor) else { throw FileError(operation: "write", path: path, code: errno) }
    }
}

extension FileError {
    /// The directory takes no new file, or the name is a mount point: what is there may be writable all the same.
    fileprivate var forbidsReplacing: Bool { [EACCES, EPERM, EROFS, EBUSY].contains(code) }
}
