internal import DiskTier
internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// One blob upload between its POST and its closing PUT.
final class UploadSession: Sendable {
    struct State {
        var offset: Int64 = 0
        /// A request is using the spool.
        var isBusy = false
        var isClosed = false
        var lastUsed: UInt64
    }

    let id: String
    let repository: RepositoryName
    let spool: ExclusiveSpool
    let state: Mutex<State>

    init(id: String, repository: RepositoryName, spool: Spool, now: UInt64) {
        self.id = id
        self.repository = repository
        self.spool = ExclusiveSpool(spool)
        state = Mutex(State(lastUsed: now))
    }

    /// Takes the sole right to the spool; returns the offset, or `nil` when another request has it.
    func acquire() -> Int64? {
        state.withLock { state in
            guard !state.isBusy, !state.isClosed else { return nil }
            state.isBusy = true
            return state.offset
        }
    }

    func release(offset: Int64, now: UInt64) {
        state.withLock { state in
            state.isBusy = false
            state.offset = offset
            state.lastUsed = now
        }
    }

    /// Ends the session unless a request is using it.
    func close(ifUnusedSince limit: UInt64 = .max) -> Bool {
        state.withLock { state in
            guard !state.isBusy, !state.isClosed, state.lastUsed <= limit else { return false }
            state.isClosed = true
            return true
        }
    }
}

/// A spool that threads hand on to each other.
///
/// Sendable because only the request that acquired the session reaches `spool`.
final class ExclusiveSpool: @unchecked Sendable {
    let spool: Spool

    init(_ spool: Spool) {
        self.spool = spool
    }
}

/// All upload sessions of this node, by id.
final class UploadSessions: Sendable {
    private let limit: Int
    private let expiryNanoseconds: UInt64
    private let time: any TimeSource
    private let random: any RandomSource
    private let sessions = Monitor<[String: UploadSession]>([:])

    init(limit: Int, expiry: Duration, time: any TimeSource, random: any RandomSource) {
        self.limit = limit
        expiryNanoseconds = UInt64(max(0, expiry.components.seconds)) * 1_000_000_000
        self.time = time
        self.random = random
    }

    var count: Int { sessions.withLock { $0.count } }

    func open(_ repository: RepositoryName, _ spool: Spool) throws(EdgeError) -> UploadSession {
        let now = time.monotonicNanoseconds()
        let session = UploadSession(id: random.token(), repository: repository, spool: spool, now: now)
        let (limit, expiry) = (limit, expiryNanoseconds)
        let opened = sessions.withLock { sessions in
            if sessions.count >= limit, now > expiry {
                sessions = sessions.filter { !$0.value.close(ifUnusedSince: now - expiry) }
            }
            guard sessions.count < limit else { return false }
            sessions[session.id] = session
            return true
        }
        guard opened else { throw .busy("\(limit) uploads are open already") }
        return session
    }

    func find(_ repository: RepositoryName, _ id: String) throws(EdgeError) -> UploadSession {
        guard let session = sessions.withLock({ $0[id] }), session.repository == repository, !expired(session) else {
            throw .uploadUnknown(id)
        }
        return session
    }

    func remove(_ session: UploadSession) {
        sessions.withLock { _ = $0.removeValue(forKey: session.id) }
    }

    func dropAll() {
        sessions.withLock { $0.removeAll() }
    }

    private func expired(_ session: UploadSession) -> Bool {
        let now = time.monotonicNanoseconds()
        guard now > expiryNanoseconds, session.close(ifUnusedSince: now - expiryNanoseconds) else { return false }
        remove(session)
        return true
    }
}
