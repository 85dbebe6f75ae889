internal import OCI
internal import System
internal import Threading

/// The passages under way, of which there may be so many at once. Who needs another one waits for the end of one: first come, first served.
final class Passages: Sendable {
    /// What a client wants to read.
    enum Wish: Sendable {
        /// All of a blob of the size that the client was told, or the rest of it behind an offset.
        case whole(Digest, size: Int64, from: Int64)
        case part(Digest, Range<Int64>, size: Int64)

        var start: Int64 {
            switch self {
            case .whole(_, _, let offset): offset
            case .part(_, let range, _): range.lowerBound
            }
        }
    }

    /// A request that waits, on a thread of its own.
    private final class Waiter: Sendable {
        let wish: Wish
        let outcome = Monitor<Result<Passage.Seat, EdgeError>?>(nil)

        init(_ wish: Wish) { self.wish = wish }
    }

    private struct State {
        var underWay = 0
        /// Of them, those that were told to end for others.
        var giving = 0
        /// Of each blob the last passage of the whole, which others can join while it is at its start.
        var newest: [Digest: Passage] = [:]
        /// The oldest first.
        var waiting: [Waiter] = []
        /// Waiters that got their seat. They must not go under the lock, since whoever lets go of a seat last takes it.
        var called: [Waiter] = []
        var isClosed = false
    }

    private let limit: Int
    private let patience: Duration
    let time: any TimeSource
    private let state = Monitor(State())

    init(limit: Int, patience: Duration, time: any TimeSource) {
        self.limit = limit
        self.patience = patience
        self.time = time
    }

    /// A place in a passage that brings this.
    ///
    /// - Parameter isWanted: false when the client has hung up.
    func seat(for wish: Wish, isWanted: () -> Bool) throws(EdgeError) -> Passage.Seat {
        let waiter = Waiter(wish)
        let seat = try changing { state throws(EdgeError) in
            if state.isClosed { throw .closing }
            let seat = self.seat(for: wish, &state)
            if seat == nil { state.waiting.append(waiter) }
            return seat
        }
        if let seat { return seat }
        var rest = patience
        while rest > .zero {
            let pause = min(rest, Passage.silence)
            if let outcome = waiter.outcome.wait(until: .after(pause), for: { $0 }) { return try outcome.get() }
            rest = isWanted() ? rest - pause : .zero
        }
        return try leave(waiter)
    }

    /// It waits no longer, unless it was called in the last moment.
    private func leave(_ waiter: Waiter) throws(EdgeError) -> Passage.Seat {
        state.withLock { state in
            if let place = state.waiting.firstIndex(where: { $0 === waiter }) { state.waiting.remove(at: place) }
        }
        guard let outcome = waiter.outcome.withLock({ $0 }) else {
            throw .busy("\(limit) transfers of what the disk has no room for are under way already")
        }
        return try outcome.get()
    }

    /// A place that is to be had without waiting.
    ///
    /// - Parameter other: not in this one.
    func seatAtOnce(for wish: Wish, besides other: Passage) -> Passage.Seat? {
        changing { seat(for: wish, besides: other, &$0) }
    }

    private func seat(for wish: Wish, besides other: Passage? = nil, _ state: inout State) -> Passage.Seat? {
        if case .whole(let digest, let size, let offset) = wish, let running = state.newest[digest], running !== other,
            running.size == size, let seat = running.seat(at: offset)
        {
            return seat
        }
        return state.underWay < limit ? begin(wish, &state) : nil
    }

    private func begin(_ wish: Wish, _ state: inout State) -> Passage.Seat {
        state.underWay += 1
        let passage = Passage(wish, of: self)
        guard let seat = passage.seat(at: wish.start) else { preconditionFailure("a new passage is at its start") }
        guard case .whole(let digest, let size, _) = wish else { return seat }
        state.newest[digest] = passage
        // Whoever waits for the same goes along.
        state.waiting.removeAll { waiter in
            guard case .whole(digest, size, let offset) = waiter.wish, let seat = passage.seat(at: offset) else {
                return false
            }
            call(waiter, to: seat, &state.called)
            return true
        }
        return seat
    }

    /// Whether one whose client stands still is to end for somebody who waits: one for each.
    func takesPlace() -> Bool {
        state.withLock { state in
            guard state.giving < state.waiting.count else { return false }
            state.giving += 1
            return true
        }
    }

    /// Nothing more is fetched for it.
    func ended(_ passage: Passage) {
        changing { state in
            if passage.hasGivenPlace { state.giving -= 1 }
            if state.newest[passage.digest] === passage { state.newest[passage.digest] = nil }
            state.underWay -= 1
            while state.underWay < limit, !state.waiting.isEmpty {
                let next = state.waiting.removeFirst()
                call(next, to: begin(next.wish, &state), &state.called)
            }
        }
    }

    private func call(_ waiter: Waiter, to seat: Passage.Seat, _ called: inout [Waiter]) {
        called.append(waiter)
        waiter.outcome.update { $0 = .success(seat) }
    }

    /// Lets those who were called meanwhile go when the lock is open again.
    private func changing<Result, Failure: Error>(
        _ body: (inout State) throws(Failure) -> sending Result
    ) throws(Failure) -> Result {
        var called: [Waiter] = []
        return try state.withLock { state throws(Failure) in
            defer { swap(&called, &state.called) }
            return try body(&state)
        }
    }

    /// Nobody waits any more.
    func close() {
        let waiting = state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in waiting { waiter.outcome.update { $0 = .failure(.closing) } }
    }
}
