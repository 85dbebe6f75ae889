internal import CLMDB
internal import Glibc

/// How an environment is opened, for the first time and again.
struct Opening {
    let path: String
    let mapBytes: Int
    let maximumReaders: Int
    let names: [String]
    let sealedBytes: [String: Int]
    let durability: Durability

    func open() throws(LMDBError) -> (env: OpaquePointer, tables: [String: Table]) {
        var created: OpaquePointer?
        try check("mdb_env_create", mdb_env_create(&created))
        guard let env = created else { preconditionFailure("mdb_env_create gave no environment") }
        do throws(LMDBError) {
            try check("mdb_env_set_mapsize", mdb_env_set_mapsize(env, mapBytes))
            try check("mdb_env_set_maxreaders", mdb_env_set_maxreaders(env, UInt32(maximumReaders)))
            try check("mdb_env_set_maxdbs", mdb_env_set_maxdbs(env, UInt32(names.count)))
            let flags = UInt32(MDB_NOTLS | MDB_NORDAHEAD) | (durability == .disposable ? UInt32(MDB_NOSYNC) : 0)
            try check("mdb_env_open \(path)", mdb_env_open(env, path, flags, 0o644))
            try checkLength(of: env)
            var dead: Int32 = 0
            try check("mdb_reader_check", mdb_reader_check(env, &dead))
            return (env, try openTables(of: env))
        } catch {
            mdb_env_close(env)
            throw error
        }
    }

    /// A file that lost its end would be read past it, which is no error but the end of the process.
    private func checkLength(of env: OpaquePointer) throws(LMDBError) {
        var info = MDB_envinfo()
        var pages = MDB_stat()
        mdb_env_info(env, &info)
        mdb_env_stat(env, &pages)
        var status = stat()
        // By its name: closing a second descriptor would drop the library's locks.
        guard stat("\(path)/data.mdb", &status) == 0 else {
            throw LMDBError(operation: "stat \(path)/data.mdb", code: errno)
        }
        guard Int(status.st_size) >= (info.me_last_pgno + 1) * Int(pages.ms_psize) else {
            throw LMDBError(operation: "\(path)/data.mdb is shorter than its pages", code: MDB_CORRUPTED)
        }
    }

    /// In the order of their names' list, so that each has the same handle every time.
    private func openTables(of env: OpaquePointer) throws(LMDBError) -> [String: Table] {
        var transaction: OpaquePointer?
        try check("mdb_txn_begin", mdb_txn_begin(env, nil, 0, &transaction))
        var tables: [String: Table] = [:]
        do throws(LMDBError) {
            for name in names {
                var handle: MDB_dbi = 0
                try check("mdb_dbi_open \(name)", mdb_dbi_open(transaction, name, UInt32(MDB_CREATE), &handle))
                tables[name] = Table(handle: handle, name: name, sealedBytes: sealedBytes[name] ?? .max)
            }
        } catch {
            mdb_txn_abort(transaction)
            throw error
        }
        try check("mdb_txn_commit", mdb_txn_commit(transaction))
        return tables
    }
}
