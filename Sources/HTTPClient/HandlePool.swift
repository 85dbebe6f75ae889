internal import System
internal import Threading

/// At most `limit` easy handles, lent to one thread at a time.
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
        var isClosed = false
    }

    private enum Turn {
        case handle(EasyHandle)
        case make
        case closed
    }

    private let limit: Int
    private let maxIdleNanoseconds: UInt64
    private let time: any TimeSource
    private let state = Monitor(State())

    init(limit: Int, maxIdleSeconds: Int, time: any TimeSource) {
        self.limit = limit
        maxIdleNanoseconds = UInt64(maxIdleSeconds) * 1_000_000_000
        self.time = time
    }

    /// Handles lent and idle.
    var counts: (lent: Int, idle: Int) { state.withLock { ($0.lent, $0.idle.count) } }

    /// Waits for a free handle; asks `isCancelled` a few times a second meanwhile.
    func take(until deadline: Deadline, isCancelled: (@Sendable () -> Bool)?) -> Grant {
        while true {
            if let isCancelled, isCancelled() { return .cancelled }
            switch turn(until: isCancelled == nil ? deadline : .after(.milliseconds(250))) {
            case .handle(let handle): return .handle(handle)
            case .closed: return .closed
            case .make:
                if let handle = EasyHandle() { return .handle(handle) }
                state.update { $0.lent -= 1 }
                return .noMemory
            case nil:
                if deadline.hasPassed { return .timeout }
            }
        }
    }

    private func turn(until deadline: Deadline) -> Turn? {
        state.wait(until: deadline) { state in
            if state.isClosed { return .closed }
            guard state.lent < limit else { return nil }
            state.lent += 1
            return state.idle.popLast().map { .handle($0.handle) } ?? .make
        }
    }

    func give(_ handle: EasyHandle) {
        // Read before the lock is held: another thread may have read a later moment and come first.
        let now = time.monotonicNanoseconds()
        // Held until the lock is free: the last reference closes connections.
        let expired: [EasyHandle] = state.update { state in
            state.lent -= 1
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
