internal import CLMDB
internal import Glibc
internal import Synchronization
internal import Threading

/// A named table of an environment (`MDB_dbi`).
public struct Table: Sendable {
    let handle: MDB_dbi
    public let name: String
    /// How much of each value its seal covers.
    let sealedBytes: Int
}

/// What a commit promises.
public enum Durability: Sendable {
    /// A commit is on stable storage when it returns.
    case full
    /// A crash of the machine may lose or damage everything (`MDB_NOSYNC`): only for what can be thrown away.
    case disposable
}

/// An LMDB environment: a folder, memory-mapped, with one writer at a time and readers that never wait (`mdb_env_open`).
///
/// Sendable because LMDB is used as it allows (MDB_NOTLS): each pooled read transaction has one user at a time, kept so by `readers`,
/// and a write transaction lives within one call on one thread.
public final class Environment: @unchecked Sendable {
    private static let open = Mutex<Set<String>>([])

    let env: OpaquePointer
    private let path: String
    private let tables: [String: Table]
    private let readers: ReaderPool
    private let writerThread = Atomic<UInt>(0)
    private let isPoisoned = Atomic<Bool>(false)
    private let metDamage = Atomic<Bool>(false)
    private let commitCount = Atomic<UInt64>(0)

    /// Opens the environment in an existing folder. At most one for each folder in a process: a second drops the first one's locks.
    ///
    /// - Parameters:
    ///   - mapBytes: address space, and the largest size that the data can grow to.
    ///   - maximumReaders: read transactions at once; more wait.
    ///   - sealedBytes: of tables whose values prove themselves further on: how much of each is sealed all the same.
    public init(
        path: String,
        mapBytes: Int,
        maximumReaders: Int = 126,
        tables names: [String],
        sealedBytes: [String: Int] = [:],
        durability: Durability = .full
    ) throws(LMDBError) {
        precondition(
            Self.open.withLock { $0.insert(path).inserted },
            "the environment \(path) is open in this process already"
        )
        do throws(LMDBError) {
            var created: OpaquePointer?
            try check("mdb_env_create", mdb_env_create(&created))
            guard let env = created else { preconditionFailure("mdb_env_create gave no environment") }
            do throws(LMDBError) {
                try check("mdb_env_set_mapsize", mdb_env_set_mapsize(env, mapBytes))
                try check("mdb_env_set_maxreaders", mdb_env_set_maxreaders(env, UInt32(maximumReaders)))
                try check("mdb_env_set_maxdbs", mdb_env_set_maxdbs(env, UInt32(names.count)))
                let flags = UInt32(MDB_NOTLS | MDB_NORDAHEAD) | (durability == .disposable ? UInt32(MDB_NOSYNC) : 0)
                try check("mdb_env_open \(path)", mdb_env_open(env, path, flags, 0o644))
                try Self.checkLength(of: env, path)
                var dead: Int32 = 0
                try check("mdb_reader_check", mdb_reader_check(env, &dead))
                tables = try Self.open(names, sealedBytes, in: env)
            } catch {
                mdb_env_close(env)
                throw error
            }
            self.env = env
        } catch {
            Self.open.withLock { _ = $0.remove(path) }
            throw error
        }
        self.path = path
        readers = ReaderPool(env, limit: maximumReaders)
    }

    deinit {
        readers.abortAll()
        mdb_env_close(env)
        Self.open.withLock { _ = $0.remove(path) }
    }

    public func table(_ name: String) -> Table {
        guard let table = tables[name] else { preconditionFailure("the table \(name) was not named at opening") }
        return table
    }

    /// A file that lost its end would be read past it, which is no error but the end of the process.
    private static func checkLength(of env: OpaquePointer, _ path: String) throws(LMDBError) {
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

    private static func open(
        _ names: [String],
        _ sealedBytes: [String: Int],
        in env: OpaquePointer
    ) throws(LMDBError) -> [String: Table] {
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

// MARK: - Transactions

extension Environment {
    /// Runs `body` on a snapshot. It must not do I/O: a reader that stays pins every page freed meanwhile.
    public func read<Result>(_ body: (borrowing ReadTransaction) throws(LMDBError) -> Result) throws(LMDBError)
        -> Result
    {
        let reader = try readers.acquire()
        defer { readers.release(reader) }
        do throws(LMDBError) {
            return try body(ReadTransaction(reader.transaction))
        } catch {
            throw noted(error)
        }
    }

    /// LMDB has found pages that are not what they should be.
    public var hasMetDamage: Bool { metDamage.load(ordering: .relaxed) }

    private func noted(_ error: LMDBError) -> LMDBError {
        if error.isDamage { metDamage.store(true, ordering: .relaxed) }
        return error
    }

    /// What was read after this was read still holds as long as it is the same.
    public var commits: UInt64 { commitCount.load(ordering: .acquiring) }

    /// Runs `body` in the only write transaction; commits when it returns, aborts when it throws.
    public func write<Result>(_ body: (borrowing WriteTransaction) throws(LMDBError) -> Result) throws(LMDBError)
        -> Result
    {
        let thread = UInt(pthread_self())
        precondition(writerThread.load(ordering: .relaxed) != thread, "a write transaction inside another one")
        if isPoisoned.load(ordering: .relaxed) {
            throw LMDBError(operation: "write after a failed commit", code: MDB_PANIC)
        }
        var transaction: OpaquePointer?
        try check("mdb_txn_begin", mdb_txn_begin(env, nil, 0, &transaction))
        guard let transaction else { preconditionFailure("mdb_txn_begin gave no transaction") }
        writerThread.store(thread, ordering: .relaxed)
        defer { writerThread.store(0, ordering: .relaxed) }
        let result: Result
        do throws(LMDBError) {
            result = try body(WriteTransaction(transaction))
        } catch {
            mdb_txn_abort(transaction)
            throw noted(error)
        }
        do throws(LMDBError) {
            try check("mdb_txn_commit", mdb_txn_commit(transaction))
        } catch {
            if error.code == MDB_PANIC { isPoisoned.store(true, ordering: .relaxed) }
            throw noted(error)
        }
        commitCount.wrappingAdd(1, ordering: .releasing)
        return result
    }
}

// MARK: - Statistics

extension Environment {
    public struct Statistics: Sendable {
        public let mapBytes: Int
        /// Of the map, as far as pages were ever used.
        public let usedBytes: Int
        public let readers: Int
        /// Counts the commits (`me_last_txnid`).
        public let lastTransaction: UInt64
    }

    /// How long the oldest read has lasted so far, in nanoseconds: as long, nothing that was freed since can be used again.
    public var oldestReaderNanoseconds: Int { readers.oldestAge }

    public var statistics: Statistics {
        var info = MDB_envinfo()
        var stat = MDB_stat()
        mdb_env_info(env, &info)
        mdb_env_stat(env, &stat)
        return Statistics(
            mapBytes: info.me_mapsize,
            usedBytes: (info.me_last_pgno + 1) * Int(stat.ms_psize),
            readers: Int(info.me_numreaders),
            lastTransaction: UInt64(info.me_last_txnid)
        )
    }
}
