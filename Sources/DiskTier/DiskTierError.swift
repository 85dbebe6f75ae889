public import LMDB
public import System

/// Why the disk tier could not do it.
public enum DiskTierError: Error, CustomStringConvertible {
    /// Larger than the whole tier may ever be.
    case neverFits(bytes: Int64, ceilingBytes: Int64)
    /// Everything that could make room is in use.
    case noRoomNow(bytes: Int64)
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
    /// The directory was written by another version of the format.
    case unknownFormat(directory: String, found: String)

    /// There is no room, on the volume or below the ceiling.
    public var isNoSpace: Bool {
        switch self {
        case .neverFits, .noRoomNow: true
        case .file(let error): error.isNoSpace
        case .index(let error): error.isNoSpace || error.isMapFull
        case .held, .unknownFormat, .pinsNeverFit, .notCached, .pinName: false
        }
    }

    public var description: String {
        switch self {
        case .neverFits(let bytes, let ceiling):
            "\(bytes) bytes never fit into the cache of \(ceiling) bytes; raise cache-size"
        case .noRoomNow(let bytes):
            "no room for \(bytes) bytes: the cache is full of what is being written; try again later or raise cache-size"
        case .pinsNeverFit(let bytes, let limit):
            "pins would hold \(bytes) bytes of the \(limit) that they may; unpin something or raise cache-size"
        case .notCached(let item):
            "\(item) is not in the cache, and nothing says how large it is; fetch it first"
        case .pinName(let name):
            "'\(name.prefix(60))' cannot name a pin: write 1 to \(PinTables.nameLimitBytes) bytes"
        case .file(let error): "\(error)"
        case .index(let error): "cache index: \(error)"
        case .held(let directory, let processID):
            "the cache directory \(directory) is in use by process \(processID.map(String.init) ?? "(unknown)")"
        case .unknownFormat(let directory, let found):
            "the cache directory \(directory) has the unknown format '\(found)'; remove the directory to start afresh, nothing but cache is lost"
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
