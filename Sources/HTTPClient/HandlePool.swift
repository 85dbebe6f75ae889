internal import System
internal import Threading

/// At most `limit` easy handles, lent to one thread at a time.
///
/// Those who write leave some of them to those who only read. A handle is lent for one transfer, which waits for no other one.
///
/// The handle returned last is lent first: its connections are the warmest. Those at the bottom, unused for longer than connections may
/// idle, are given up, and their sockets with them.
final class HandlePool: Sendable {
    enum Grant {
        case handle(EasyHandle)
        case closed
        case cancelled
        case timeout
        case noMemory
    }

    private struct State {
        var idle: [(handle: EasyHandle, since: UInt64)] = []
        /// Lent out or being made.
        var lent = 0
        /// Of these, for writes.
        var writing = 0
        var isClosed = false

        mutating func release(_ writing: Bool) {
            lent -= 1
            if writing { self.writing -= 1 }
        }
    }

    private enum Turn {
        case handle(EasyHandle)
        case make
        case closed
    }

    private let limit: Int
    private let writeLimit: Int
    private let maxIdleNanoseconds: UInt64
    private let time: any TimeSource
    private let state = Monitor(State())

    init(limit: Int, forReads: Int, maxIdleSeconds: Int, time: any TimeSource) {
        self.limit = limit
        writeLimit = limit - forReads
        maxIdleNanoseconds = UInt64(maxIdleSeconds) * 1_000_000_000
        self.time = time
    }

    /// Handles lent and idle.
    var counts: (lent: Int, idle: Int) { state.withLock { ($0.lent, $0.idle.count) } }

    /// Waits for a free handle; asks `isCancelled` a few times a second meanwhile.
    func take(writing: Bool, until deadline: Deadline, isCancelled: (@Sendable () -> Bool)?) -> Grant {
        while true {
            if let isCancelled, isCancelled() { return .cancelled }
            switch turn(writing, until: isCancelled == nil ? deadline : .after(.milliseconds(250))) {
            case .handle(let handle): return .handle(handle)
            case .closed: return .closed
            case .make:
                if let handle = EasyHandle() { return .handle(handle) }
                state.update { $0.release(writing) }
                return .noMemory
            case nil:
                if deadline.hasPassed { return .timeout }
            }
        }
    }

    private func turn(_ writing: Bool, until deadline: Deadline) -> Turn? {
        state.wait(until: deadline) { state in
            if state.isClosed { return .closed }
            guard state.lent < limit, !writing || state.writing < writeLimit else { return nil }
            state.lent += 1
            if writing { state.writing += 1 }
            return state.idle.popLast().map { .handle($0.handle) } ?? .make
        }
    }

    func give(_ handle: EasyHandle, writing: Bool) {
        // Read before the lock is held: another thread may have read a later moment and come first.
        let now = time.monotonicNanoseconds()
        // Held until the lock is free: the last reference closes connections.
        let expired: [EasyHandle] = state.update { state in
            state.release(writing)
            guard !state.isClosed else { return [handle] }
            let fresh = state.idle.firstIndex { now < $0.since + maxIdleNanoseconds } ?? state.idle.count
            let expired = state.idle[..<fresh].map(\.handle)
            state.idle.removeFirst(fresh)
            state.idle.append((handle, now))
            return expired
        }
        withExtendedLifetime(expired) {}
    }

    /// Refuses further callers, the waiting ones too; closes idle connections now and busy ones when their transfer ends.
    func close() {
        let idle: [EasyHandle] = state.update { state in
            state.isClosed = true
            defer { state.idle = [] }
            return state.idle.map(\.handle)
        }
        withExtendedLifetime(idle) {}
    }
}
