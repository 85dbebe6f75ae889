internal import CLMDB
internal import Glibc
internal import Synchronization
internal import Threading

/// A named table of an environment (`MDB_dbi`).
public struct Table: Sendable {
    let handle: MDB_dbi
    public let name: String
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
    private struct Readers {
        var idle: [PooledReader] = []
        var made = 0
    }

    /// Sendable because a reader is either in the pool or with one user.
    private struct PooledReader: @unchecked Sendable {
        let transaction: OpaquePointer
    }

    private enum Grant {
        case pooled(PooledReader)
        case new
    }

    private static let open = Mutex<Set<String>>([])

    private let env: OpaquePointer
    private let path: String
    private let tables: [String: Table]
    private let maximumReaders: Int
    private let readers = Monitor(Readers())
    private let writerThread = Atomic<UInt>(0)
    private let isPoisoned = Atomic<Bool>(false)

    /// Opens the environment in an existing folder. At most one for each folder in a process: a second drops the first one's locks.
    ///
    /// - Parameters:
    ///   - mapBytes: address space, and the largest size that the data can grow to.
    ///   - maximumReaders: read transactions at once; more wait.
    public init(
        path: String,
        mapBytes: Int,
        maximumReaders: Int = 126,
        tables names: [String],
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
                var dead: Int32 = 0
                try check("mdb_reader_check", mdb_reader_check(env, &dead))
                tables = try Self.open(names, in: env)
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
        self.maximumReaders = maximumReaders
    }

    deinit {
        readers.withLock { readers in
            for reader in readers.idle { mdb_txn_abort(reader.transaction) }
        }
        mdb_env_close(env)
        Self.open.withLock { _ = $0.remove(path) }
    }

    public func table(_ name: String) -> Table {
        guard let table = tables[name] else { preconditionFailure("the table \(name) was not named at opening") }
        return table
    }

    private static func open(_ names: [String], in env: OpaquePointer) throws(LMDBError) -> [String: Table] {
        var transaction: OpaquePointer?
        try check("mdb_txn_begin", mdb_txn_begin(env, nil, 0, &transaction))
        var tables: [String: Table] = [:]
        do throws(LMDBError) {
            for name in names {
                var handle: MDB_dbi = 0
                try check("mdb_dbi_open \(name)", mdb_dbi_open(transaction, name, UInt32(MDB_CREATE), &handle))
                tables[name] = Table(handle: handle, name: name)
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
        let transaction = try acquire()
        defer { release(transaction) }
        return try body(ReadTransaction(transaction))
    }

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
            throw error
        }
        do throws(LMDBError) {
            try check("mdb_txn_commit", mdb_txn_commit(transaction))
        } catch {
            if error.code == MDB_PANIC { isPoisoned.store(true, ordering: .relaxed) }
            throw error
        }
        return result
    }

    private func acquire() throws(LMDBError) -> OpaquePointer {
        let grant: Grant? = readers.wait { readers in
            if let idle = readers.idle.popLast() { return .pooled(idle) }
            guard readers.made < maximumReaders else { return nil }
            readers.made += 1
            return .new
        }
        var transaction: OpaquePointer?
        do throws(LMDBError) {
            if case .pooled(let reader)? = grant {
                transaction = reader.transaction
                try check("mdb_txn_renew", mdb_txn_renew(transaction))
            } else {
                try check("mdb_txn_begin", mdb_txn_begin(env, nil, UInt32(MDB_RDONLY), &transaction))
            }
        } catch {
            if let transaction { mdb_txn_abort(transaction) }
            readers.update { $0.made -= 1 }
            throw error
        }
        guard let transaction else { preconditionFailure("LMDB gave no transaction") }
        return transaction
    }

    private func release(_ transaction: OpaquePointer) {
        mdb_txn_reset(transaction)
        let reader = PooledReader(transaction: transaction)
        readers.update { $0.idle.append(reader) }
    }
}

// MARK: - Statistics

extension Environment {
    public struct Statistics: Sendable {
        public let mapBytes: Int
        /// Of the map, as far as pages were ever used.
        public let usedBytes: Int
        public let readers: Int
    }

    public var statistics: Statistics {
        var info = MDB_envinfo()
        var stat = MDB_stat()
        mdb_env_info(env, &info)
        mdb_env_stat(env, &stat)
        return Statistics(
            mapBytes: info.me_mapsize,
            usedBytes: (info.me_last_pgno + 1) * Int(stat.ms_psize),
            readers: Int(info.me_numreaders)
        )
    }
}
