public import LMDB
public import System

/// Why the disk tier could not do it.
public enum DiskTierError: Error, CustomStringConvertible {
    /// Larger than the whole tier may ever be.
    case neverFits(bytes: Int64, ceilingBytes: Int64)
    /// Everything that could make room is in use.
    case noRoomNow(bytes: Int64)
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
        case .held, .unknownFormat: false
        }
    }

    public var description: String {
        switch self {
        case .neverFits(let bytes, let ceiling):
            "\(bytes) bytes never fit into the cache of \(ceiling) bytes; raise cache-size"
        case .noRoomNow(let bytes):
            "no room for \(bytes) bytes: the cache is full of what is being written; try again later or raise cache-size"
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
