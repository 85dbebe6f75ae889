public import LMDB
public import OCI
public import System

/// Why the disk tier could not do it.
public enum DiskTierError: Error, CustomStringConvertible {
    /// Larger than the whole tier may ever be.
    case neverFits(bytes: Int64, ceilingBytes: Int64)
    /// Everything that could make room is in use.
    case noRoomNow(bytes: Int64)
    /// The index has grown far beyond what it may take now, and leaves no room for it.
    case indexTooLarge(bytes: Int64, indexBytes: Int64, ceilingBytes: Int64)
    /// With it, unfinished uploads would hold more than they may.
    case uploadsBeyondShare(bytes: Int64, limitBytes: Int64)
    /// With it, pins would hold more than they may.
    case pinsNeverFit(bytes: Int64, limitBytes: Int64)
    /// It is not in the tier, and its size is not known.
    case notCached(TierItem)
    /// A pin's name is empty or too long.
    case pinName(String)
    case file(FileError)
    case index(LMDBError)
    /// Another process uses the directory.
    case held(directory: String, processID: Int32?)
    /// The directory was written by another version of the format; `nil` when it does not say which.
    case unknownFormat(directory: String, found: String?)
    /// The index is damaged.
    case unusableIndex(directory: String, LMDBError)
    /// Other users of the file system have left too little of it.
    case volumeFull(availableBytes: Int64, floorBytes: Int64)
    /// The file does not have the digest that it is named by.
    case damaged(Digest)
    /// The program is about to end.
    case cancelled

    /// There is no room, on the volume or below the ceiling.
    public var isNoSpace: Bool {
        switch self {
        case .neverFits, .noRoomNow, .indexTooLarge, .uploadsBeyondShare, .volumeFull: true
        case .file(let error): error.isNoSpace
        case .index(let error): error.isNoSpace || error.isMapFull
        case .held, .unknownFormat, .unusableIndex, .damaged, .cancelled, .pinsNeverFit, .notCached, .pinName: false
        }
    }

    /// The content's bytes are not what they were: it is put aside, or is hashed again when it is next looked at.
    public var isOfContent: Bool {
        switch self {
        case .damaged: true
        case .file(let error): error.isOverwritten
        default: false
        }
    }

    public var description: String {
        switch self {
        case .neverFits(let bytes, let ceiling):
            "\(bytes) bytes never fit into the cache of \(ceiling) bytes; raise cache-size"
        case .noRoomNow(let bytes):
            """
            no room for \(bytes) bytes: the cache is full of what is being written, or above a ceiling that was lowered; try again \
            later or raise cache-size
            """
        case .indexTooLarge(let bytes, let index, let ceiling):
            """
            no room for \(bytes) bytes: the index takes \(index) of the cache's \(ceiling) until it is made smaller; try again later or \
            raise cache-size
            """
        case .uploadsBeyondShare(let bytes, let limit):
            """
            no room for \(bytes) bytes more: unfinished uploads may take \(limit) bytes together; finish or cancel some, or raise \
            cache-size
            """
        case .pinsNeverFit(let bytes, let limit):
            "pins would hold \(bytes) bytes of the \(limit) that they may; unpin something or raise cache-size"
        case .notCached(let item):
            "\(item) is not in the cache, and nothing says how large it is; fetch it first"
        case .pinName(let name):
            "'\(name.prefix(60))' cannot name a pin: write 1 to \(PinTables.nameLimitBytes) bytes"
        case .file(let error) where error.isNoSpace: "the cache's file system is full (\(error))"
        case .index(let error) where error.isNoSpace: "the cache's file system has no room for its index (\(error))"
        case .file(let error): "\(error)"
        case .index(let error): "cache index: \(error)"
        case .held(let directory, let processID):
            "the cache directory \(directory) is in use by process \(processID.map(String.init) ?? "(unknown)")"
        case .unknownFormat(let directory, let found):
            "the cache directory \(directory) has \(found.map { "the unknown format '\($0)'" } ?? "no format mark"); \(Self.beginAnew)"
        case .unusableIndex(let directory, let error):
            "the index of the cache directory \(directory) is damaged (\(error)); \(Self.beginAnew)"
        case .volumeFull(let available, let floor):
            """
            the file system of the cache has \(available) bytes left, and cache-min-free keeps \(floor) of them free; free space \
            there or lower cache-min-free
            """
        case .damaged(let digest):
            "the file of \(digest) is damaged; it was put aside, and the same request fetches it again"
        case .cancelled: "the cache is closing"
        }
    }

    private static let beginAnew =
        "start with --cache-unreadable rebuild to begin a new index, or remove the directory: nothing but cache is lost"

    private static let freeSpace =
        "free space on the cache's file system or lower cache-size; until then content streams through"

    /// What an operator can do about a failure of the disk.
    var remedy: String? {
        switch self {
        case .file(let error) where error.isNoSpace:
            Self.freeSpace
        case .index(let error) where error.isNoSpace:
            Self.freeSpace
        case .index(let error) where error.isMapFull: "lower cache-size or inline-limit"
        case .index: "if this goes on, restart with --cache-unreadable rebuild"
        case .file: "check the cache's file system; until then content streams through"
        default: nil
        }
    }

    /// For clients: what to do about it, and nothing of this machine's files.
    public var answer: String {
        switch self {
        case .index(let error) where error.isMapFull:
            "the index of this registry's cache is full; lower cache-size or inline-limit"
        case .file where isNoSpace, .index where isNoSpace:
            "the file system of this registry's cache is full; free space there or lower cache-size"
        case .file(let error) where error.isOverwritten:
            "another process has changed a file of this registry's cache; ask again"
        case .file, .index: "this registry's cache failed; its log says why"
        default: description
        }
    }

    /// The disk failed, which ``DiskTier/note(_:)`` tells.
    public var isOfTheDisk: Bool { noticeKind != nil }

    /// Failures of one kind are told together; `nil` for what is no failure of the disk.
    var noticeKind: String? {
        switch self {
        case .file(let error): error.isOverwritten ? nil : "file \(error.code)"
        case .index(let error): "index \(error.code)"
        case .volumeFull: "volume"
        default: nil
        }
    }
}

func onDisk<Answer>(_ body: () throws(FileError) -> Answer) throws(DiskTierError) -> Answer {
    do throws(FileError) {
        return try body()
    } catch {
        throw .file(error)
    }
}

func inIndex<Answer>(_ body: () throws(LMDBError) -> Answer) throws(DiskTierError) -> Answer {
    do throws(LMDBError) {
        return try body()
    } catch {
        throw .index(error)
    }
}
