internal import Glibc

/// A failed file operation: which one, on what, and the kernel's reason (`errno(3)`).
public struct FileError: Error, Equatable, CustomStringConvertible {
    /// The system call's name, for example `open` or `fdatasync`.
    public let operation: String
    public let path: String
    /// The `errno` value.
    public let code: Int32

    public init(operation: String, path: String, code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    /// Nothing exists at the path (`ENOENT`), or one of its parents is no directory (`ENOTDIR`).
    public var isNotFound: Bool { code == ENOENT || code == ENOTDIR }
    /// Something exists at the path already (`EEXIST`).
    public var isAlreadyThere: Bool { code == EEXIST }
    /// The volume or the quota is full (`ENOSPC`, `EDQUOT`).
    public var isNoSpace: Bool { code == ENOSPC || code == EDQUOT }

    /// Something else lies there in the place of a file: a link (`ELOOP`), a directory (`EISDIR`), a socket (`ENXIO`), a pipe or a device.
    public var isReplaced: Bool { [ELOOP, EISDIR, ENXIO, EMEDIUMTYPE].contains(code) }
    /// A link that was not followed (`ELOOP`).
    public var isLink: Bool { code == ELOOP }
    /// A directory, where a file was meant (`EISDIR`).
    public var isDirectory: Bool { code == EISDIR }

    /// Whoever runs this may not open it (`EACCES`, `EPERM`).
    public var isForbidden: Bool { code == EACCES || code == EPERM }

    /// The disk cannot give the bytes back (`EIO`).
    public var isUnreadable: Bool { code == EIO }

    /// Another process has changed it (`ETXTBSY`).
    public var isOverwritten: Bool { code == ETXTBSY }

    public var description: String {
        if isOverwritten { return "\(operation) \(path): another process has changed it meanwhile" }
        if code == EMEDIUMTYPE { return "\(operation) \(path): it is no regular file; take it away" }
        if isDirectory { return "\(operation) \(path): it is a directory; take it away" }
        return "\(operation) \(path): \(String(cString: strerror(code))) (errno \(code))"
    }
}

extension FileError {
    /// A file that ended before the bytes it should have.
    public static func truncated(_ path: String) -> FileError { FileError(operation: "pread", path: path, code: EIO) }

    /// The kernel has no number of its own for it.
    public static func notRegular(_ path: String) -> FileError {
        FileError(operation: "open", path: path, code: EMEDIUMTYPE)
    }

    /// Nor for a file that another process has changed while it was synced or read.
    public static func overwritten(_ path: String, _ operation: String = "fdatasync") -> FileError {
        FileError(operation: operation, path: path, code: ETXTBSY)
    }
}
