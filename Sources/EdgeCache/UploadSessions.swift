internal import DiskTier
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import Synchronization
internal import System
internal import Threading

/// All upload sessions of this node, by id. They outlive the process: see ``UploadRecord``.
final class UploadSessions: Sendable {
    /// An upload that was not used for so long may lose its place among the few that hold parts in memory.
    private static let passingIdleSeconds: Int64 = 60
    /// How often sessions are looked through for expired ones, at most and at least.
    private static let sweepSeconds: ClosedRange<Int64> = 1...600

    /// How often the origin is looked through, and how long after the start for the first time; with a shorter grace period, that.
    private static let abandonedLookSeconds: Int64 = 3_600
    private static let firstLookSeconds: Int64 = 60

    private struct Sweeping {
        var isClosing = false
        var isRunning = false
    }

    private let tools: UploadTools
    private let limit: Int
    private let expirySeconds: Int64
    private let graceSeconds: Int64
    private let time: any TimeSource
    private let random: any RandomSource
    private let sessions: Monitor<[String: UploadSession]>
    private let sweeping = Monitor(Sweeping())

    /// Takes up the sessions of an earlier run, without reading what they hold.
    init(
        _ configuration: EdgeCache.Configuration,
        _ tools: UploadTools,
        time: any TimeSource,
        random: any RandomSource
    ) {
        limit = configuration.uploadSessionLimit
        expirySeconds = max(0, configuration.uploadExpiry.components.seconds)
        graceSeconds = max(0, configuration.abandonedUploadGrace.components.seconds)
        self.tools = tools
        self.time = time
        self.random = random
        var found: [String: UploadSession] = [:]
        for (id, record) in tools.journal.load() {
            guard let spool = Spool(resuming: record, named: id, tools) else {
                tools.log.warning("upload dropped: it cannot go on", metadata: ["upload": "\(id)"])
                tools.journal.remove(id)
                continue
            }
            found[id] = UploadSession(id: id, record, spool: spool)
        }
        sessions = Monitor(found)
    }

    var count: Int { sessions.withLock { $0.count } }

    func open(_ repository: RepositoryName, _ algorithm: DigestAlgorithm) throws(EdgeError) -> UploadSession {
        if count >= limit { sweep() }
        let id = random.token()
        let spool = Spool(algorithm, named: id, tools)
        let session = UploadSession(id: id, repository: repository, spool: spool, now: now)
        let opened = sessions.withLock { [limit] sessions in
            // The sweep may have closed some and not have taken them off the list yet.
            guard sessions.count < limit || sessions.values.count(where: { !$0.isClosed }) < limit else { return false }
            sessions[id] = session
            return true
        }
        guard opened else {
            spool.discard()
            throw .busy("\(limit) uploads are open already")
        }
        save(session, spool)
        return session
    }

    func find(_ repository: RepositoryName, _ id: String) throws(EdgeError) -> UploadSession {
        guard let session = sessions.withLock({ $0[id] }), session.repository == repository else {
            throw .uploadUnknown(id)
        }
        if session.close(ifUnusedSince: now - expirySeconds) { remove(session) }
        // The sweep may have closed it and not have taken it off the list yet.
        guard !session.isClosed else { throw .uploadUnknown(id) }
        return session
    }

    /// Gives a spool back, once what it holds is recorded.
    ///
    /// - Parameters:
    ///   - verified: what the bytes proved to be.
    ///   - hasDropped: a request's bytes were dropped, by no fault of the client's.
    func release(_ session: UploadSession, verified: Digest? = nil, hasDropped: Bool = false) {
        let spool = session.spool.spool
        save(session, spool, verified: verified, hasDropped: hasDropped)
        session.release(
            offset: spool.size,
            verified: verified,
            hasDropped: hasDropped,
            isPassing: spool.isPassing,
            now: now
        )
    }

    /// Forgets a session that its caller has closed or is using, with its files.
    func remove(_ session: UploadSession) {
        // Its files first: a client that is told "unknown" must not see it again after a restart.
        session.spool.spool.discard()
        sessions.withLock { _ = $0.removeValue(forKey: session.id) }
    }

    private func save(_ session: UploadSession, _ spool: Spool, verified: Digest? = nil, hasDropped: Bool = false) {
        guard !session.id.isEmpty else { return }
        var record = spool.record(session.repository, lastUsed: now, verified: verified)
        record.hasDropped = hasDropped
        tools.journal.save(session.id, record)
    }

    private var now: Int64 { time.wallTime().seconds }
}

// MARK: - Expiry

extension UploadSessions {
    /// Ends the sessions that were not used for too long.
    func sweep() {
        let limit = now - expirySeconds
        for session in sessions.withLock({ Array($0.values) }) where session.close(ifUnusedSince: limit) {
            tools.log.info("upload expired", metadata: ["upload": "\(session.id)"])
            remove(session)
        }
    }

    /// Sees to it that an upload can go past a full disk: ends the one that has held such a place unused for longest.
    func makeWay() {
        guard !tools.hasPassage else { return }
        let passing = sessions.withLock { Array($0.values) }.compactMap { session in
            session.state.withLock { $0.isPassing && !$0.isBusy ? (session, lastUsed: $0.lastUsed) : nil }
        }
        guard let (session, _) = passing.min(by: { $0.lastUsed < $1.lastUsed }),
            session.close(ifUnusedSince: now - Self.passingIdleSeconds)
        else { return }
        tools.log.notice("upload ended: others need its place in memory", metadata: ["upload": "\(session.id)"])
        remove(session)
    }

    /// Aborts what nobody has cared for at the origin for so long that no node can still be at it.
    func removeAbandoned() {
        let living = sessions.withLock { Array($0.values) }.compactMap { $0.spool.remote.upload }
        do throws(RegistryError) {
            let moment = WallTime(seconds: now - graceSeconds)
            let count = try tools.registry.removeAbandonedUploads(before: moment, except: Set(living))
            if count > 0 {
                tools.log.notice("abandoned uploads removed at the origin", metadata: ["count": "\(count)"])
            }
        } catch {
            guard !error.isUnsupported else { return }
            tools.log.warning("abandoned uploads may stay at the origin", metadata: ["error": "\(error)"])
        }
    }

    /// From now on, until ``close(until:)``, in a thread of its own.
    func startSweeping() {
        let seconds = min(max(expirySeconds / 10, Self.sweepSeconds.lowerBound), Self.sweepSeconds.upperBound)
        let grace = max(1, graceSeconds)
        sweeping.withLock { $0.isRunning = true }
        spawnThread(name: "uploads") { [self] in
            // The first answers have the origin to themselves.
            var untilLook = min(grace, Self.firstLookSeconds)
            while true {
                sweep()
                let pause = min(seconds, untilLook)
                let isClosing = sweeping.wait(until: .after(.seconds(pause))) { $0.isClosing ? true : nil } ?? false
                if isClosing { break }
                untilLook -= pause
                if untilLook <= 0 {
                    removeAbandoned()
                    untilLook = min(grace, Self.abandonedLookSeconds)
                }
            }
            sweeping.update { $0.isRunning = false }
        }
    }

    /// The sessions stay for the next run. False when something still sweeps or sends at the deadline.
    func close(until deadline: Deadline) -> Bool {
        tools.close()
        sweeping.update { $0.isClosing = true }
        sessions.withLock { $0.removeAll() }
        let hasSwept = sweeping.wait(until: deadline) { $0.isRunning ? nil : true } ?? false
        return tools.pool.close(until: deadline) && hasSwept
    }
}

extension RegistryError {
    fileprivate var isUnsupported: Bool {
        guard case .store(let error) = self, case .unsupported = error.kind else { return false }
        return true
    }
}
