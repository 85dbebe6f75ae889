internal import CLMDB
internal import Glibc

/// A failed LMDB call: which one, and its code (`mdb_strerror`).
public struct LMDBError: Error, Equatable, CustomStringConvertible {
    public let operation: String
    public let code: Int32

    /// The data has grown to the size of the map.
    public var isMapFull: Bool { code == MDB_MAP_FULL }
    /// The volume is full (`ENOSPC`, `EDQUOT`).
    public var isNoSpace: Bool { code == ENOSPC || code == EDQUOT }

    /// Where only some of a commit's pages found room, the library has no other code than for the disk's own trouble (`mdb_page_flush`): the
    /// volume with this path tells one from the other.
    public func explained(byVolumeOf path: String) -> LMDBError {
        guard code == EIO, operation == "mdb_txn_commit" else { return self }
        var volume = statvfs()
        guard statvfs(path, &volume) == 0 else { return self }
        let isFull = UInt64(volume.f_bavail) * UInt64(volume.f_frsize) < 1 << 20
        return isFull ? LMDBError(operation: operation, code: ENOSPC) : self
    }

    /// The file is not LMDB's, or not whole: it cannot be used and will not get better.
    public var isDamage: Bool {
        [MDB_INVALID, MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_VERSION_MISMATCH, MDB_INCOMPATIBLE].contains(code)
    }

    /// The environment is of no use until it is opened again.
    var isPanic: Bool { code == MDB_PANIC }

    static func panic(_ operation: String) -> LMDBError { LMDBError(operation: operation, code: MDB_PANIC) }

    public var description: String { "\(operation): \(String(cString: mdb_strerror(code))) (code \(code))" }
}

func check(_ operation: @autoclosure () -> String, _ code: Int32) throws(LMDBError) {
    if code != 0 { throw LMDBError(operation: operation(), code: code) }
}
