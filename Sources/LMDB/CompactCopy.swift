internal import CLMDB
internal import Glibc

extension Environment {
    /// Writes what the environment holds, without the pages that deletes have freed, to a new file, durably (`mdb_env_copyfd2`,
    /// `MDB_CP_COMPACT`). Writers go on meanwhile; what they commit is not in it.
    public func copyCompacted(to path: String) throws(LMDBError) {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw LMDBError(operation: "open \(path)", code: errno) }
        do throws(LMDBError) {
            defer { close(descriptor) }
            try withEnvironment { env throws(LMDBError) in
                try check("mdb_env_copyfd2 \(path)", mdb_env_copyfd2(env, descriptor, UInt32(MDB_CP_COMPACT)))
            }
            guard fsync(descriptor) == 0 else { throw LMDBError(operation: "fsync \(path)", code: errno) }
        } catch {
            unlink(path)
            throw error
        }
    }
}
