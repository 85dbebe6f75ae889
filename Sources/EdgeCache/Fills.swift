internal import DiskTier
internal import Hashing
internal import Logging
internal import OCI
internal import Registry
internal import Synchronization
internal import System
internal import Threading

/// All fills of this node: who joins which, which of their parts come next, and what was found nowhere lately.
final class Fills: Sendable {
    /// How long a client waits for a fill that has failed to be put away, so that its bytes are not fetched again.
    private static let wayOutLimit: Duration = .seconds(2)

    private struct State {
        var running: [Digest: Fill] = [:]
        /// What the origin did not have a moment ago.
        var absent: RecentBlobs<Void>
        /// The sizes of those that the tier can never take.
        var tooLarge: RecentBlobs<Int64>
        /// Counts what was pushed here.
        var pushes: UInt64 = 0
    }

    let registry: Registry
    let tier: DiskTier
    let fileSystem: any FileSystem
    let time: any TimeSource
    let log: Logger
    let limits: FillLimits
    let counters = FillCounters()
    let passages: Passages
    let damages: DamagedBlobs
    private let queueLimit: Int
    private let pool: WorkerPool
    private let state: Monitor<State>
    private let closing = Atomic(false)

    init(
        _ configuration: EdgeCache.Configuration,
        registry: Registry,
        tier: DiskTier,
        damages: DamagedBlobs,
        fileSystem: any FileSystem,
        time: any TimeSource,
        log: Logger
    ) {
        self.registry = registry
        self.damages = damages
        self.tier = tier
        self.fileSystem = fileSystem
        self.time = time
        self.log = log
        limits = FillLimits(
            partBytes: configuration.fillPartBytes,
            partsInFlight: configuration.fillPartsInFlight,
            readerPatience: configuration.fillReaderPatience,
            unattendedBytes: configuration.fillUnattendedBytes,
            returnPatience: configuration.fillReturnPatience
        )
        passages = Passages(
            limit: configuration.passingReadLimit,
            patience: configuration.passingReadPatience,
            time: time
        )
        queueLimit = configuration.fillQueueLimit
        let threads = configuration.fillThreads
        pool = WorkerPool(name: "fill", threads: threads, urgentThreads: threads / 4, queueLimit: queueLimit)
        state = Monitor(
            State(
                absent: RecentBlobs(limit: configuration.absentBlobLimit, for: configuration.absentTTL),
                tooLarge: RecentBlobs(limit: configuration.absentBlobLimit, for: FillOpening.believedFor)
            )
        )
    }

    var isClosing: Bool { closing.load(ordering: .relaxed) }

    /// Breaks off what runs; false when something still waits for the origin at the limit.
    func close(until deadline: Deadline) -> Bool {
        closing.store(true, ordering: .relaxed)
        passages.close()
        return pool.close(until: deadline)
    }

    /// The size of a blob of which all is here, though the tier may not have it yet.
    func verifiedSize(_ digest: Digest) -> Int64? { state.withLock { $0.running[digest] }?.verifiedSize }

    var underWay: [Fill] { state.withLock { Array($0.running.values) } }

    func waitUntilIdle(_ digest: Digest) {
        _ = state.wait { $0.running[digest] == nil ? true : nil }
    }

    func waitUntilIdle() {
        _ = state.wait { $0.running.isEmpty ? true : nil }
    }
}

// MARK: - Clients

extension Fills {
    private enum Step {
        case joined(FillMember)
        case begun(FillMember)
        case wait(Fill)
        case absent
    }

    /// The fill of this digest under way, begun now if there is none. `nil` when the blob was nowhere a moment ago.
    ///
    /// - Parameter near: where the client wants to read first.
    func join(_ digest: Digest, near: Int64, isCached: () -> Bool) throws(EdgeError) -> (FillMember, isNew: Bool)? {
        var patience: Deadline?
        while true {
            switch step(digest, near: near, isPatient: patience.map { !$0.hasPassed } ?? true) {
            case .joined(let member):
                counters.coalesced.wrappingAdd(1, ordering: .relaxed)
                return (member, false)
            case .absent:
                return nil
            case .wait(let fill):
                let deadline = patience ?? .after(Self.wayOutLimit)
                patience = deadline
                fill.waitUntilOver(deadline)
            case .begun(let member):
                begin(member.fill, isCached)
                return (member, true)
            }
        }
    }

    private func step(_ digest: Digest, near: Int64, isPatient: Bool) -> Step {
        let now = time.monotonicNanoseconds()
        let stamp = tier.stamp()
        return state.withLock { state in
            if let running = state.running[digest] {
                if let member = FillMember(of: running) { return .joined(member) }
                if isPatient, !running.isOver { return .wait(running) }
            }
            if state.absent.finding(digest, at: now) != nil { return .absent }
            let fill = Fill(digest, near: near, since: stamp)
            guard let member = FillMember(of: fill) else { preconditionFailure("a new fill has ended") }
            state.running[digest] = fill
            return .begun(member)
        }
    }

    private func begin(_ fill: Fill, _ isCached: () -> Bool) {
        // The one before may have ended after the caller's look and before ours.
        if isCached() { return end(fill, .onDisk) }
        guard !pool.submit(urgent: true, { [self] in FillOpening(self, fill).run() }) else { return }
        end(fill, .failed(.origin(.busy("\(queueLimit) blobs already wait to be fetched"))))
    }

    /// The origin has the blob now: whoever asks from now on does not join a fill that may have looked before.
    func hasPushed(_ digest: Digest) {
        damages.remove(digest)
        state.update { state in
            state.running[digest] = nil
            state.absent.remove(digest)
            state.tooLarge.remove(digest)
            state.pushes += 1
        }
    }

    /// The origin has the blob no more: whoever asks from now on does not join a fill from before.
    func hasDeleted(_ digest: Digest) {
        state.update { state in
            state.running[digest] = nil
            state.tooLarge.remove(digest)
        }
    }

    // MARK: What is nowhere

    func isAbsent(_ digest: Digest) -> Bool {
        let now = time.monotonicNanoseconds()
        return state.withLock { $0.absent.finding(digest, at: now) != nil }
    }

    /// The size of a blob that the origin had a moment ago, and that never fits in here: there is nothing to begin for it.
    func sizeOfTooLarge(_ digest: Digest) -> Int64? {
        let now = time.monotonicNanoseconds()
        return state.withLock { $0.tooLarge.finding(digest, at: now) }
    }

    /// The origin may have another object now.
    func doubtSize(_ digest: Digest) { state.withLock { $0.tooLarge.remove(digest) } }

    /// The origin has it, whatever it said a moment ago.
    func foundPresent(_ digest: Digest) { state.withLock { $0.absent.remove(digest) } }

    /// Counts pushes, to be taken before the origin is asked.
    var pushes: UInt64 { state.withLock { $0.pushes } }

    /// The origin did not have it. Unless something was pushed since: that may have been it.
    func foundAbsent(_ digest: Digest, since pushes: UInt64) {
        let now = time.monotonicNanoseconds()
        state.withLock { state in
            if state.pushes == pushes { state.absent.insert((), of: digest, at: now) }
        }
    }
}

// MARK: - The course of a fill

extension Fills {
    /// Ends a fill that has begun nothing.
    func end(_ fill: Fill, _ phase: Fill.Phase) {
        fill.update { $0.phase = phase }
        forget(fill)
    }

    /// Nothing more comes of it.
    private func forget(_ fill: Fill) {
        state.update { state in
            if state.running[fill.digest] === fill { state.running[fill.digest] = nil }
        }
        fill.update { $0.isOver = true }
    }

    /// Queues as many jobs as there is work for.
    func schedule(_ fill: Fill) {
        while let job = fill.admitJob(limits) {
            guard submit(job, of: fill) else { return fill.dismiss(job) }
        }
    }

    /// Begins with the parts that nobody waits for, if that was not done yet: the first bytes come first.
    func readAhead(_ fill: Fill) {
        if fill.readAhead() { schedule(fill) }
    }

    private func submit(_ job: Fill.Job, of fill: Fill) -> Bool {
        pool.submit(urgent: job == .urgent) { [self] in
            if fill.begin(job) { work(job, of: fill) }
        }
    }

    /// Fetches a part, and another when the queue is full.
    func work(_ first: Fill.Job, of fill: Fill) {
        var next: Fill.Job? = first
        while let job = next {
            if !isClosing {
                switch fill.claimPart(for: job, limits) {
                case .missing(let part): PartTransfer(self, fill, part).run()
                case .noted(let part): prove(part, of: fill)
                case nil: break
                }
            }
            next = endJob(of: fill)
        }
    }

    /// The next part waits in the queue, so that the fills share the threads. When that is full, it is for the caller to go on with.
    func endJob(of fill: Fill) -> Fill.Job? {
        switch fill.endJob(limits, stops: isClosing) {
        case .again(let job):
            return !submit(job, of: fill) && fill.begin(job) ? job : nil
        case .conclude:
            conclude(fill)
            return nil
        case .done:
            return nil
        }
    }

    /// A block of bytes has landed, or nothing more comes of a part: hashes what it can.
    ///
    /// - Parameter blocks: how many blocks to hash at most; a transfer must not stand still for long.
    func settle(_ fill: Fill, _ content: FillContent, _ block: [UInt8] = [], at start: Int64 = 0, blocks: Int = .max) {
        guard var range = fill.takeHashTurn() else { return }
        var left = blocks
        while true {
            let end: Int64
            do throws(FileError) {
                end = try content.hash(range, from: block, at: start)
            } catch {
                return storageFailed(fill, .file(error))
            }
            left -= 1
            switch fill.hashed(to: end, goesOn: left > 0) {
            case .more(let next): range = next
            case .whole: return complete(fill, content)
            case .enough: return
            }
        }
    }

    /// Bytes are in the file, and are noted for the case that the process is killed.
    func note(_ content: FillContent, _ range: Range<Int64>, from block: [UInt8]) {
        do throws(DiskTierError) {
            try content.note(range, from: block)
        } catch {
            let metadata: Logger.Metadata = ["digest": "\(content.digest)", "error": "\(error)"]
            log.notice("a fill will not survive a crash", metadata: metadata)
        }
    }

    /// Takes in what an earlier run has noted, block by block, as far as it is what was noted. The rest is to be fetched.
    func prove(_ range: Range<Int64>, of fill: Fill) {
        guard let content = fill.state.withLock({ $0.content }) else { return }
        for block in content.notedBlocks(in: range) {
            guard !isClosing, fill.isLive else { return fill.note(block.range.lowerBound..<range.upperBound) }
            guard let bytes = content.proved(block) else {
                fill.giveBack(block.range)
                continue
            }
            fill.land(block.range)
            settle(fill, content, bytes, at: block.range.lowerBound, blocks: PartTransfer.hashedBlocks)
        }
        settle(fill, content)
    }

    /// All bytes are hashed.
    private func complete(_ fill: Fill, _ content: FillContent) {
        content.rest()
        // What cannot be looked at is suspect.
        let isSuspect = (try? content.isSuspect()) ?? true
        guard isSuspect ? provesOnDisk(fill, content) : proves(fill, content.hashedDigest) else { return }
        let isFirst = fill.state.update { state in
            guard state.phase.isLive else { return false }
            state.phase = .verified(content.file)
            return true
        }
        guard isFirst else { return }
        keep(fill) { () throws(DiskTierError) in try content.commit(since: fill.stamp) }
        forget(fill)
    }

    /// A small blob is whole.
    func complete(_ fill: Fill, _ memory: [UInt8]) {
        guard proves(fill, Digest(of: memory, fill.digest.algorithm)) else { return }
        fill.update { $0.phase = .verifiedInMemory(memory) }
        keep(fill) { () throws(DiskTierError) in try tier.insertInline(fill.digest, memory, since: fill.stamp) }
        forget(fill)
    }

    /// Whether the origin's bytes are the blob; ends the fill if not.
    private func proves(_ fill: Fill, _ actual: Digest) -> Bool {
        guard actual != fill.digest else {
            damages.remove(fill.digest)
            return true
        }
        damages.doubt(fill.digest, etag: fill.state.withLock { $0.etag })
        let key = registry.layout.blob(fill.digest)
        damaged(fill, .origin(.damaged(key: key, expected: fill.digest, actual: actual)))
        return false
    }

    /// Whether the file that somebody else may have written to has the blob; ends the fill if not.
    private func provesOnDisk(_ fill: Fill, _ content: FillContent) -> Bool {
        let metadata: Logger.Metadata = ["digest": "\(fill.digest)"]
        log.notice("another process has touched the file of a fill: it is hashed again", metadata: metadata)
        do throws(FileError) {
            if try content.proves(isWanted: { !isClosing && fill.isLive }) {
                damages.remove(fill.digest)
                return true
            }
        } catch {
            storageFailed(fill, .file(error))
            return false
        }
        if isClosing { fill.fail(.origin(.closing)) } else { overwritten(fill) }
        return false
    }

    /// The clients have their bytes already: a tier that cannot keep them is no error of theirs.
    private func keep(_ fill: Fill, _ commit: () throws(DiskTierError) -> Bool) {
        do throws(DiskTierError) {
            if try !commit() { log.info("deleted while it was filled", metadata: ["digest": "\(fill.digest)"]) }
            counters.completed.wrappingAdd(1, ordering: .relaxed)
        } catch {
            notKept(fill, error)
        }
    }

    private func notKept(_ fill: Fill, _ error: DiskTierError) {
        counters.notStored.wrappingAdd(1, ordering: .relaxed)
        tier.tellNotKept("\(fill.digest)", error, log)
    }

    // MARK: Ends in vain

    func foundNowhere(_ fill: Fill) {
        counters.unknown.wrappingAdd(1, ordering: .relaxed)
        let now = time.monotonicNanoseconds()
        state.withLock { state in
            // Otherwise somebody pushed it meanwhile.
            if state.running[fill.digest] === fill { state.absent.insert((), of: fill.digest, at: now) }
        }
        fill.update { $0.phase = .unknownBlob }
    }

    /// The clients go on straight from the origin; only the cache is poorer. Unless the file failed because it is not what was written.
    func storageFailed(_ fill: Fill, _ error: DiskTierError) {
        guard !fill.isSuspect else { return overwritten(fill) }
        // Before its clients go on: whoever comes after them begins nothing.
        if case .neverFits = error, let size = fill.state.withLock({ $0.size }) {
            let now = time.monotonicNanoseconds()
            state.withLock { state in
                if state.running[fill.digest] === fill { state.tooLarge.insert(size, of: fill.digest, at: now) }
            }
        }
        if fill.fail(.storage) { notKept(fill, error) }
    }

    /// Its readers may have had bytes that are not the blob's.
    func overwritten(_ fill: Fill) {
        guard fill.fail(.overwritten) else { return }
        counters.notStored.wrappingAdd(1, ordering: .relaxed)
        log.error("another process has written to the file of a fill", metadata: ["digest": "\(fill.digest)"])
    }

    func damaged(_ fill: Fill, _ error: EdgeError) {
        guard fill.fail(.damaged(error)) else { return }
        counters.damaged.wrappingAdd(1, ordering: .relaxed)
        log.error("the origin's content is damaged", metadata: ["digest": "\(fill.digest)", "error": "\(error)"])
    }

    func originFailed(_ fill: Fill, _ error: EdgeError) {
        guard fill.fail(.origin(error)) else { return }
        counters.failed.wrappingAdd(1, ordering: .relaxed)
        let level: Logger.Level = error.isOfKnownTrouble ? .debug : .warning
        log.log(level: level, "fill failed", metadata: ["digest": "\(fill.digest)", "error": "\(error)"])
    }

    /// No other thread works on the fill, which ended in vain.
    private func conclude(_ fill: Fill) {
        if case .paused = fill.state.withLock({ $0.phase }) { counters.paused.wrappingAdd(1, ordering: .relaxed) }
        putAway(fill)
        forget(fill)
    }

    /// What has landed is left for a later fill, if it is good; else its file goes.
    private func putAway(_ fill: Fill) {
        guard let (content, map, hashed, confirmed) = fill.takeRemains() else { return }
        do throws(DiskTierError) {
            try content.leave(map, hashed: hashed, confirmed: confirmed, since: fill.stamp)
            log.info("a part of a blob is kept for later", metadata: ["digest": "\(fill.digest)"])
        } catch {
            log.notice("a part of a blob is lost", metadata: ["digest": "\(fill.digest)", "error": "\(error)"])
        }
    }
}
