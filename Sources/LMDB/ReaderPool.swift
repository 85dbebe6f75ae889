internal import CLMDB
internal import Glibc
internal import Synchronization
internal import Threading

/// Read transactions that are used again and again. Each thread comes back to the one it had: no lock, and no memory that all write to.
///
/// LMDB itself takes none either: a reset transaction keeps its slot in the reader table, and renewing it writes there only (`mdb_txn_renew`).
///
/// Sendable because a transaction is touched only by whoever has set its place to busy, and the environment by whoever has all of them.
final class ReaderPool: @unchecked Sendable {
    struct Reader {
        let transaction: OpaquePointer
        fileprivate let place: Int
    }

    private enum Place {
        static let empty = 0
        static let idle = 1
        /// Busy since this moment; the clock is long past the others.
        static var busy: Int {
            var now = timespec()
            clock_gettime(CLOCK_MONOTONIC_COARSE, &now)
            return now.tv_sec * 1_000_000_000 + now.tv_nsec
        }
    }

    /// Places that are tried before a thread waits for any.
    private static let spacing = 8

    private var env: OpaquePointer?
    private let limit: Int
    /// A cache line each.
    private let places: UnsafeMutablePointer<Atomic<Int>>
    private let transactions: UnsafeMutablePointer<OpaquePointer?>
    private let waiting = Atomic<Int>(0)
    private let released = Monitor(())

    init(_ env: OpaquePointer, limit: Int) {
        self.env = env
        self.limit = limit
        places = .allocate(capacity: limit * Self.spacing)
        for index in 0..<limit * Self.spacing { (places + index).initialize(to: Atomic(Place.empty)) }
        transactions = .allocate(capacity: limit)
        transactions.initialize(repeating: nil, count: limit)
    }

    deinit {
        places.deallocate()
        transactions.deallocate()
    }

    /// Before the environment closes. Nobody may read any more.
    func abortAll() {
        for place in 0..<limit {
            if let transaction = transactions[place] { mdb_txn_abort(transaction) }
            transactions[place] = nil
        }
    }

    /// Keeps everybody out once those who read are through, and gives up their transactions; false when one still reads at the deadline.
    func shut(until deadline: Deadline) -> Bool {
        waiting.add(1, ordering: .sequentiallyConsistent)
        defer { waiting.subtract(1, ordering: .relaxed) }
        for place in 0..<limit {
            let isTaken: Bool? = released.wait(until: deadline) { _ in takes(place, Place.busy) ? true : nil }
            guard isTaken != nil else {
                for taken in 0..<place { giveBack(taken) }
                return false
            }
        }
        abortAll()
        return true
    }

    /// Lets everybody in again.
    func open(_ env: OpaquePointer?) {
        self.env = env
        for place in 0..<limit { giveBack(place) }
    }

    private func giveBack(_ place: Int) { leave(place, transactions[place] == nil ? Place.empty : Place.idle) }

    func acquire() throws(LMDBError) -> Reader {
        if let place = take() { return try begin(place) }
        waiting.add(1, ordering: .sequentiallyConsistent)
        defer { waiting.subtract(1, ordering: .relaxed) }
        guard let place = released.wait(for: { _ in take() }) else {
            preconditionFailure("waiting without a deadline ended")
        }
        return try begin(place)
    }

    func release(_ reader: Reader) {
        mdb_txn_reset(reader.transaction)
        leave(reader.place, Place.idle)
    }

    /// How long the oldest read has lasted so far, in nanoseconds; 0 when nobody reads.
    var oldestAge: Int {
        let busy = (0..<limit).map { places[$0 * Self.spacing].load(ordering: .relaxed) }.filter { $0 > Place.idle }
        return busy.min().map { max(0, Place.busy - $0) } ?? 0
    }

    private func leave(_ place: Int, _ state: Int) {
        places[place * Self.spacing].store(state, ordering: .sequentiallyConsistent)
        if waiting.load(ordering: .sequentiallyConsistent) > 0 { released.update { _ in } }
    }

    /// Any place that nobody uses, this thread's last one first.
    private func take() -> Int? {
        let now = Place.busy
        let start = Int(threadMark() % UInt(limit))
        for step in 0..<limit {
            let place = (start + step) % limit
            if takes(place, now) { return place }
        }
        return nil
    }

    private func takes(_ place: Int, _ now: Int) -> Bool {
        takes(place, Place.idle, now) || takes(place, Place.empty, now)
    }

    private func takes(_ place: Int, _ expected: Int, _ now: Int) -> Bool {
        places[place * Self.spacing].compareExchange(
            expected: expected,
            desired: now,
            ordering: .sequentiallyConsistent
        )
        .exchanged
    }

    private func begin(_ place: Int) throws(LMDBError) -> Reader {
        do throws(LMDBError) {
            guard let env else { throw .panic("mdb_txn_begin") }
            if let transaction = transactions[place] {
                try check("mdb_txn_renew", mdb_txn_renew(transaction))
            } else {
                try check("mdb_txn_begin", mdb_txn_begin(env, nil, UInt32(MDB_RDONLY), &transactions[place]))
            }
        } catch {
            if let transaction = transactions[place] { mdb_txn_abort(transaction) }
            transactions[place] = nil
            leave(place, Place.empty)
            throw error
        }
        guard let transaction = transactions[place] else { preconditionFailure("LMDB gave no transaction") }
        return Reader(transaction: transaction, place: place)
    }
}
