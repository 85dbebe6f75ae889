internal import DiskTier
internal import OCI
internal import Synchronization

/// One blob upload between its POST and its closing PUT.
final class UploadSession: Sendable {
    struct State {
        var offset: Int64 = 0
        /// What the bytes proved to be, when only the origin is missing.
        var verified: Digest?
        /// A request failed here, by no fault of the client's, and its bytes have not come again.
        var hasDropped = false
        /// It holds parts in memory, which few may.
        var isPassing: Bool
        /// A request is using the spool.
        var isBusy = false
        var isClosed = false
        /// Seconds since 1970.
        var lastUsed: Int64
    }

    let id: String
    let repository: RepositoryName
    let spool: ExclusiveSpool
    let state: Mutex<State>

    init(id: String, repository: RepositoryName, spool: Spool, now: Int64) {
        self.id = id
        self.repository = repository
        self.spool = ExclusiveSpool(spool)
        state = Mutex(State(isPassing: false, lastUsed: now))
    }

    /// As it was when an earlier run ended.
    init(id: String, _ record: UploadRecord, spool: Spool) {
        self.id = id
        repository = record.repository
        self.spool = ExclusiveSpool(spool)
        state = Mutex(
            State(
                offset: record.offset,
                verified: record.verified,
                hasDropped: record.hasDropped,
                isPassing: record.isPassing,
                lastUsed: record.lastUsed
            )
        )
    }

    /// Takes the sole right to the spool; returns where the upload stands, or `nil` when another request has it.
    func acquire() -> State? {
        state.withLock { state in
            guard !state.isBusy, !state.isClosed else { return nil }
            state.isBusy = true
            return state
        }
    }

    func release(offset: Int64, verified: Digest?, hasDropped: Bool, isPassing: Bool, now: Int64) {
        state.withLock { state in
            state.isBusy = false
            state.offset = offset
            state.verified = verified
            state.hasDropped = hasDropped
            state.isPassing = isPassing
            state.lastUsed = now
        }
    }

    /// Gives the spool back as it was.
    func release(hasDropped: Bool) {
        state.withLock { state in
            state.isBusy = false
            state.hasDropped = state.hasDropped || hasDropped
        }
    }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    /// Ends the session unless a request is using it.
    func close(ifUnusedSince limit: Int64 = .max) -> Bool {
        state.withLock { state in
            guard !state.isBusy, !state.isClosed, state.lastUsed <= limit else { return false }
            state.isClosed = true
            return true
        }
    }
}

/// A spool that threads hand on to each other.
///
/// Sendable because only the request that acquired the session, or who closed it, reaches `spool`.
final class ExclusiveSpool: @unchecked Sendable {
    let spool: Spool
    /// For anybody to look at.
    let remote: RemoteUpload

    init(_ spool: Spool) {
        self.spool = spool
        remote = spool.remote
    }
}
