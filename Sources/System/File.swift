internal import Glibc
internal import Synchronization

/// An open file. It closes itself when the last reference goes.
///
/// A `File` only owns its descriptor; every operation on it goes through a ``FileSystem``, so that tests can fail any of them.
public final class File: Sendable {
    /// The path that it was opened by, for messages.
    public let path: String
    public let descriptor: Int32
    private let companion = Mutex<(any Sendable)?>(nil)

    public init(owning descriptor: Int32, path: String) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Keeps a value alive until the file closes.
    public func keep(_ value: any Sendable) { companion.withLock { $0 = value } }
}

/// What `stat(2)` tells of a file.
public struct FileStatus: Sendable, Equatable {
    /// Bytes a reader sees.
    public let size: Int64
    /// Bytes that the file takes on the volume (`st_blocks` × 512).
    public let allocated: Int64
    public let isDirectory: Bool
    /// Neither a directory nor a pipe, a device or a socket.
    public let isRegular: Bool
    /// Last modification, in nanoseconds since 1970.
    public let modifiedNanoseconds: Int64
    /// Last change of bytes or attributes, in nanoseconds since 1970: nobody can set it back (`st_ctim`).
    public let changedNanoseconds: Int64
    public let inode: UInt64
    /// How many names the file has (`st_nlink`).
    public let links: UInt64

    public init(
        size: Int64,
        allocated: Int64,
        isDirectory: Bool,
        isRegular: Bool,
        modifiedNanoseconds: Int64,
        changedNanoseconds: Int64,
        inode: UInt64,
        links: UInt64
    ) {
        self.size = size
        self.allocated = allocated
        self.isDirectory = isDirectory
        self.isRegular = isRegular
        self.modifiedNanoseconds = modifiedNanoseconds
        self.changedNanoseconds = changedNanoseconds
        self.inode = inode
        self.links = links
    }

    /// Nobody has touched the file since, as far as a later look at it tells. Whoever writes to it moves the change time, and so does who takes
    /// a name from it, as when it is evicted: then the time of modification has to do.
    public func stillDescribes(_ later: FileStatus) -> Bool {
        guard later.size == size else { return false }
        return later.changedNanoseconds == changedNanoseconds
            || later.links < links && later.modifiedNanoseconds == modifiedNanoseconds
    }
}

/// One name in a directory.
public struct DirectoryEntry: Sendable, Equatable {
    public let name: String
    public let isDirectory: Bool
    /// A symbolic link; `isDirectory` is then false, whatever it leads to.
    public let isLink: Bool

    public init(name: String, isDirectory: Bool, isLink: Bool = false) {
        self.name = name
        self.isDirectory = isDirectory
        self.isLink = isLink
    }
}

/// Room on a volume, in bytes (`statvfs(3)`).
public struct VolumeSpace: Sendable, Equatable {
    public let capacity: Int64
    public let available: Int64
    /// What all its files take; what is kept for root is neither used nor available.
    public let used: Int64

    public init(capacity: Int64, available: Int64, used: Int64? = nil) {
        self.capacity = capacity
        self.available = available
        self.used = used ?? capacity - available
    }
}

/// How to open a file.
public enum OpenMode: Sendable {
    /// An existing file of somebody else's, for reading: through links, and waiting for a pipe's other end.
    case read
    /// An existing file of our own, for reading. It may have been replaced: links are not followed, and nothing waits for a pipe
    /// (`O_NOFOLLOW`, `O_NONBLOCK`).
    case readOwn
    /// The same, for reading and writing.
    case readWrite
    /// A new file, for reading and writing; it is an error if one exists (`O_EXCL`).
    case create
}
