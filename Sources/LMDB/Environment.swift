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
/// When LMDB gives up on an environment, because the disk failed it at the one moment that matters, it is closed and opened again: what was
/// committed before is there.
///
/// Sendable because LMDB is used as it allows (MDB_NOTLS): each pooled read transaction has one user at a time, kept so by `readers`,
/// a write transaction lives within one call on one thread, and `env` changes only when there is none of either.
public final class Environment: @unchecked Sendable {
    private static let open = Mutex<Set<String>>([])

    /// The file is so much longer than its pages at least, or an eighth, without taking room for it: behind the end of a file some file systems
    /// allocate far more than is written (XFS, `allocsize`).
    private static let leastLengthAhead = 128 << 10

    /// How long those who read may take to let the environment be opened again.
    private static let quietLimit: Duration = .seconds(1)

    private let opening: Opening
    /// `nil` while it cannot be opened again.
    private(set) var env: OpaquePointer?
    private let tables: [String: Table]
    private let readers: ReaderPool
    let writing = Mutex(())
    private let writerThread = Atomic<UInt>(0)
    /// Held by whoever changes `env`, and by whoever looks at it without a transaction; with the last look.
    private let looking: Mutex<Statistics>
    private let openings = Atomic<Int>(0)
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
        opening = Opening(
            path: path,
            mapBytes: mapBytes,
            maximumReaders: maximumReaders,
            names: names,
            sealedBytes: sealedBytes,
            durability: durability
        )
        let opened: (env: OpaquePointer, tables: [String: Table])
        do throws(LMDBError) {
            opened = try opening.open()
        } catch {
            Self.open.withLock { _ = $0.remove(path) }
            throw error
        }
        (env, tables) = (opened.env, opened.tables)
        looking = Mutex(Statistics(of: opened.env))
        readers = ReaderPool(opened.env, limit: maximumReaders)
    }

    deinit {
        readers.abortAll()
        if let env { mdb_env_close(env) }
        Self.open.withLock { _ = $0.remove(opening.path) }
    }

    public func table(_ name: String) -> Table {
        guard let table = tables[name] else { preconditionFailure("the table \(name) was not named at opening") }
        return table
    }
}

// MARK: - Transactions

extension Environment {
    /// Runs `body` on a snapshot. It must not do I/O: a reader that stays pins every page freed meanwhile.
    public func read<Result>(_ body: (borrowing ReadTransaction) throws(LMDBError) -> Result) throws(LMDBError)
        -> Result
    {
        let reader = try beginReading()
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
        var result: Result?
        try writing.withLock { _ throws(LMDBError) in
            let transaction = try beginWriting()
            writerThread.store(thread, ordering: .relaxed)
            defer { writerThread.store(0, ordering: .relaxed) }
            result = try commit(transaction, body)
        }
        guard let result else { preconditionFailure("a committed transaction has a result") }
        return result
    }

    private func commit<Result>(
        _ transaction: OpaquePointer,
        _ body: (borrowing WriteTransaction) throws(LMDBError) -> Result
    ) throws(LMDBError) -> Result {
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
            throw noted(error)
        }
        commitCount.wrappingAdd(1, ordering: .releasing)
        return result
    }
}

// MARK: - Opening it again

extension Environment {
    /// Takes the file's pages out of this process' memory; those that are used come back from the kernel's. Everybody waits for a moment.
    public func releaseMemory() throws(LMDBError) {
        try writing.withLock { _ throws(LMDBError) in try reopen() }
    }

    private func beginReading() throws(LMDBError) -> ReaderPool.Reader {
        let seen = openings.load(ordering: .acquiring)
        do throws(LMDBError) {
            return try readers.acquire()
        } catch {
            guard error.isPanic else { throw error }
            try writing.withLock { _ throws(LMDBError) in
                if openings.load(ordering: .acquiring) == seen { try reopen() }
            }
            return try readers.acquire()
        }
    }

    private func beginWriting() throws(LMDBError) -> OpaquePointer {
        do throws(LMDBError) {
            return try beginTransaction()
        } catch {
            guard error.isPanic else { throw error }
            try reopen()
            return try beginTransaction()
        }
    }

    private func beginTransaction() throws(LMDBError) -> OpaquePointer {
        guard let env else { throw .panic("mdb_txn_begin") }
        Self.lengthen(env)
        var transaction: OpaquePointer?
        try check("mdb_txn_begin", mdb_txn_begin(env, nil, 0, &transaction))
        guard let transaction else { preconditionFailure("mdb_txn_begin gave no transaction") }
        return transaction
    }

    /// Where that does not work, LMDB makes the file longer itself.
    private static func lengthen(_ env: OpaquePointer) {
        let statistics = Statistics(of: env)
        var descriptor: Int32 = -1
        var status = stat()
        let (used, ahead) = (statistics.usedBytes, max(leastLengthAhead, statistics.usedBytes / 8))
        guard mdb_env_get_fd(env, &descriptor) == 0, fstat(descriptor, &status) == 0,
            Int(status.st_size) < min(statistics.mapBytes, used + ahead)
        else { return }
        _ = ftruncate(descriptor, off_t(min(statistics.mapBytes, used + 2 * ahead)))
    }

    /// With no write under way: `writing` is held. A commit that failed may be there or not, so what was read before holds no more.
    ///
    /// - Parameter change: while it is closed.
    func reopen(after change: () -> Void = {}) throws(LMDBError) {
        guard readers.shut(until: .after(Self.quietLimit)) else {
            throw .panic("a read that lasts, when the environment is to be opened again")
        }
        defer { readers.open(env) }
        try looking.withLock { last throws(LMDBError) in
            if let env { mdb_env_close(env) }
            env = nil
            change()
            let opened = try opening.open()
            precondition(tables.allSatisfy { opened.tables[$0]?.handle == $1.handle }, "a table has another handle")
            env = opened.env
            last = Statistics(of: opened.env)
        }
        commitCount.wrappingAdd(1, ordering: .releasing)
        openings.add(1, ordering: .releasing)
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
        looking.withLock { last in
            if let env { last = Statistics(of: env) }
            return last
        }
    }
}

extension Environment.Statistics {
    fileprivate init(of env: OpaquePointer) {
        var info = MDB_envinfo()
        var stat = MDB_stat()
        mdb_env_info(env, &info)
        mdb_env_stat(env, &stat)
        mapBytes = info.me_mapsize
        usedBytes = (info.me_last_pgno + 1) * Int(stat.ms_psize)
        readers = Int(info.me_numreaders)
        lastTransaction = UInt64(info.me_last_txnid)
    }
}
