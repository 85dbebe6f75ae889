internal import LMDB
internal import OCI
internal import Synchronization
internal import Threading

/// The index of the tier: what is on disk, in which order it came, and what names it.
///
/// Writers that come together share one synced commit.
final class CacheIndex: Sendable {
    let blobs: Table
    /// Segment, position and sequence to blob key, for blobs in files: the order in which eviction looks at them.
    let files: Table
    /// Rank and sequence to a kind and a key, for what lies in the index itself.
    let small: Table
    let manifests: Table
    let tags: Table
    /// Tags of a repository, or all repositories, packed.
    let lists: Table
    /// The items of each pin, and how many pins hold an item.
    let pins: Table
    let pinned: Table
    /// Keys of configs, to how many manifests here name them.
    let configs: Table
    let policy: SharedPolicy
    private let meta: Table
    private let directory: String
    private let environment: Environment
    private let commits: Batcher<any IndexJob, LMDBError>
    private let lastSequence: Atomic<UInt64>
    private let failure = Mutex<LMDBError?>(nil)

    init(directory: String, mapBytes: Int, maximumReaders: Int, policy: SharedPolicy) throws(LMDBError) {
        let environment = try Environment(
            path: directory,
            mapBytes: mapBytes,
            maximumReaders: maximumReaders,
            tables: ["meta", "blobs", "files", "small", "manifests", "tags", "lists", "pins", "pinned", "configs"],
            sealedBytes: ["blobs": Self.sealedBytes, "manifests": Self.sealedBytes]
        )
        self.directory = directory
        self.environment = environment
        self.policy = policy
        meta = environment.table("meta")
        blobs = environment.table("blobs")
        files = environment.table("files")
        small = environment.table("small")
        manifests = environment.table("manifests")
        tags = environment.table("tags")
        lists = environment.table("lists")
        pins = environment.table("pins")
        pinned = environment.table("pinned")
        configs = environment.table("configs")
        // The sums that the ceiling rests on are here: a wrong one must not be missed like a blob.
        try environment.read { [meta] transaction throws(LMDBError) in try transaction.checkValues(meta) }
        commits = Batcher { jobs in Self.commit(jobs, in: environment) }
        lastSequence = Atomic(0)
    }

    /// Of a blob's or manifest's record: more than comes before the content, which its digest proves.
    private static let sealedBytes = 128

    /// LMDB has found pages that are not what they should be.
    var hasMetDamage: Bool { environment.hasMetDamage }

    /// The disk space that the index takes; what deletes freed stays with it for later writes.
    var statistics: Environment.Statistics { environment.statistics }

    /// Of this run. What was read after this was read still holds as long as it is the same.
    var commitCount: UInt64 { environment.commits }

    /// A hit: no reference to the policy is counted, which all loops would share.
    func visit(_ hash: UInt64) { policy.visit(hash) }

    var oldestReaderNanoseconds: Int { environment.oldestReaderNanoseconds }

    /// How much of it holds something.
    func liveBytes() throws(LMDBError) -> Int {
        try read { transaction throws(LMDBError) in
            var sum = 0
            for table in tables { sum += try transaction.liveBytes(table) }
            return sum
        }
    }

    func liveBytes(_ transaction: borrowing WriteTransaction) throws(LMDBError) -> Int {
        var sum = 0
        for table in tables { sum += try transaction.liveBytes(table) }
        return sum
    }

    private var tables: [Table] { [blobs, files, small, manifests, tags, lists, pins, pinned, configs] }

    /// Greater than any before, also than those of earlier runs.
    func nextSequence() -> UInt64 { lastSequence.wrappingAdd(1, ordering: .relaxed).newValue }

    func read<Result>(_ body: (borrowing ReadTransaction) throws(LMDBError) -> Result) throws(LMDBError) -> Result {
        try environment.read(body)
    }

    /// Returns once the commit is on stable storage.
    func write<Answer: Sendable>(
        _ body: @escaping @Sendable (borrowing WriteTransaction) throws(LMDBError) -> Answer
    ) throws(LMDBError) -> Answer {
        let job = AnsweringJob(body)
        do throws(LMDBError) {
            try commits.perform(job)
        } catch {
            let explained = error.explained(byVolumeOf: directory)
            failure.withLock { $0 = explained }
            throw explained
        }
        failure.withLock { $0 = nil }
        return job.answer
    }

    /// Of the last write; `nil` when it succeeded.
    var writeFailure: LMDBError? { failure.withLock { $0 } }

    /// A job that fails must not take its neighbours with it, so after a failure each runs alone.
    private static func commit(_ jobs: [any IndexJob], in environment: Environment) -> [Result<Void, LMDBError>] {
        let together = Result { () throws(LMDBError) in
            try environment.write { transaction throws(LMDBError) in
                for job in jobs { try job.run(transaction) }
            }
        }
        if jobs.count == 1 { return [together] }
        if case .success = together { return jobs.map { _ in together } }
        return jobs.map { job in
            Result { () throws(LMDBError) in
                try environment.write { transaction throws(LMDBError) in try job.run(transaction) }
            }
        }
    }
}

/// Something to do in a write transaction that others share.
private protocol IndexJob: Sendable {
    func run(_ transaction: borrowing WriteTransaction) throws(LMDBError)
}

private final class AnsweringJob<Answer: Sendable>: IndexJob {
    private let body: @Sendable (borrowing WriteTransaction) throws(LMDBError) -> Answer
    private let result = Mutex<Answer?>(nil)

    init(_ body: @escaping @Sendable (borrowing WriteTransaction) throws(LMDBError) -> Answer) {
        self.body = body
    }

    func run(_ transaction: borrowing WriteTransaction) throws(LMDBError) {
        let answer = try body(transaction)
        result.withLock { $0 = answer }
    }

    /// Of the run that was committed.
    var answer: Answer {
        guard let answer = result.withLock({ $0 }) else { preconditionFailure("a committed job has an answer") }
        return answer
    }
}

// MARK: - What concerns the whole

extension CacheIndex {
    private static let runKey = Array("run".utf8)
    private static let trustedKey = Array("trusted".utf8)
    private static let scrubKey = Array("scrub".utf8)

    /// Of a record's number; above them is the run that entered it.
    private static let sequenceBits: UInt64 = 34

    static func run(of number: UInt64) -> UInt64 { number >> sequenceBits }

    struct Run: Sendable {
        /// Counts the openings.
        let number: UInt64
        /// Content last verified in a run before this one may have suffered from an unclean stop.
        let trustedSince: UInt64
        /// Nothing was ever committed to the index before.
        let isFirst: Bool
        let wasUnclean: Bool
    }

    /// Of the last run; zero in a new index.
    func runNumber() throws(LMDBError) -> UInt64 {
        try read { transaction throws(LMDBError) in try transaction.number(meta, Self.runKey) }
    }

    /// Opens a run.
    ///
    /// - Parameter isClean: the last one was closed, and this index is what it left.
    func beginRun(isClean: Bool) throws(LMDBError) -> Run {
        let meta = meta
        let run = try write { transaction throws(LMDBError) in
            let number = try transaction.number(meta, Self.runKey) + 1
            let isFirst = number == 1
            let wasUnclean = !isFirst && !isClean
            let trusted = wasUnclean || isFirst ? number : try transaction.number(meta, Self.trustedKey)
            try transaction.put(meta, Self.runKey, bigEndian(number))
            try transaction.put(meta, Self.trustedKey, bigEndian(trusted))
            return Run(number: number, trustedSince: trusted, isFirst: isFirst, wasUnclean: wasUnclean)
        }
        // No run enters so many, and none reads the queues for the last number at its start.
        lastSequence.store(run.number << Self.sequenceBits, ordering: .relaxed)
        try recallPolicy()
        return run
    }

    /// So much of it may stay in memory.
    private static let keptBytes = 32 << 20

    /// After a walk over all of it. What cannot be done now is of no harm.
    func releaseMemory() {
        if environment.statistics.usedBytes > Self.keptBytes { try? environment.releaseMemory() }
    }

    /// Goes on with a copy of its file, without the pages that deletes have freed; false when that was not wanted to its end.
    func compact(through path: String, while isWanted: () -> Bool, install: () -> Void) throws(LMDBError) -> Bool {
        try environment.compact(through: path, while: isWanted, install: install)
    }

    /// Where the scrub stands.
    func scrubState() throws(LMDBError) -> ScrubState? {
        try read { transaction throws(LMDBError) in
            try transaction.get(meta, Self.scrubKey).flatMap { ScrubState($0) }
        }
    }

    func setScrubState(_ state: ScrubState) throws(LMDBError) {
        let meta = meta
        try write { transaction throws(LMDBError) in try transaction.put(meta, Self.scrubKey, state.encoded) }
    }

    /// The blocks of all files in the index.
    func committedBytes() throws(LMDBError) -> Int64 {
        try read { transaction throws(LMDBError) in
            SegmentBytes(try transaction.get(meta, Self.segmentsKey) ?? []).sum
        }
    }

    private static let segmentsKey = Array("segments".utf8)
    private static let policyKey = Array("policy".utf8)

    func segmentBytes(_ transaction: borrowing WriteTransaction) throws(LMDBError) -> SegmentBytes {
        SegmentBytes(try transaction.get(meta, Self.segmentsKey) ?? [])
    }

    /// Adds to the sum of a segment's blocks, in the same transaction as the files' records.
    func addBytes(_ bytes: Int64, _ segment: UInt8, _ transaction: borrowing WriteTransaction) throws(LMDBError) {
        var sums = try segmentBytes(transaction)
        guard segment < SegmentBytes.count else { return }
        sums[segment] = max(0, sums[segment] + bytes)
        try transaction.put(meta, Self.segmentsKey, sums.encoded)
    }

    /// The policy goes on where the last run left it, if it is the same.
    private func recallPolicy() throws(LMDBError) {
        let stored = try read { transaction throws(LMDBError) in try transaction.get(meta, Self.policyKey) }
        guard let stored, stored.count == 9 else { return }
        policy { policy in
            if policy.segments.lowerBound == stored[0] { policy.state = bigEndianNumber(stored.span, at: 1) }
        }
    }

    func notePolicy(_ transaction: borrowing WriteTransaction) throws(LMDBError) {
        try transaction.put(meta, Self.policyKey, policy { [$0.segments.lowerBound] + bigEndian($0.state) })
    }

    private static let pinnedBytesKey = Array("pinned-bytes".utf8)

    /// What all pins hold together.
    func pinnedBytes() throws(LMDBError) -> Int64 {
        try read { transaction throws(LMDBError) in Int64(try transaction.number(meta, Self.pinnedBytesKey)) }
    }

    func pinnedBytes(_ transaction: borrowing WriteTransaction) throws(LMDBError) -> Int64 {
        Int64(try transaction.number(meta, Self.pinnedBytesKey))
    }

    func setPinnedBytes(_ bytes: Int64, _ transaction: borrowing WriteTransaction) throws(LMDBError) {
        try transaction.put(meta, Self.pinnedBytesKey, bigEndian(UInt64(max(0, bytes))))
    }
}

extension SegmentBytes {
    var encoded: [UInt8] { (0..<Self.count).flatMap { bigEndian(UInt64(self[$0])) } }

    init(_ bytes: [UInt8]) {
        self.init()
        guard bytes.count == Int(Self.count) * 8 else { return }
        for segment in 0..<Self.count { self[segment] = Int64(bigEndianNumber(bytes.span, at: Int(segment) * 8)) }
    }
}

extension ReadTransaction {
    fileprivate func number(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> UInt64 {
        guard let bytes = try get(table, key), bytes.count == 8 else { return 0 }
        return bigEndianNumber(bytes.span, at: 0)
    }
}

extension WriteTransaction {
    fileprivate func number(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> UInt64 {
        guard let bytes = try get(table, key), bytes.count == 8 else { return 0 }
        return bigEndianNumber(bytes.span, at: 0)
    }
}
