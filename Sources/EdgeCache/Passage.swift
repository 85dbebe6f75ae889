internal import OCI
internal import Synchronization
internal import System
internal import Threading

/// Bytes on their way from the origin past the disk, for all clients that keep up with each other.
///
/// It holds a window of them. Who is so slow that the window is full while another one waits for bytes is moved to a later passage after a
/// moment; if there cannot be one, all go on at the pace of the slowest. One of a range, which has one client, ends when that stands still while
/// others wait for a place: the client gets another one when it goes on.
final class Passage: Sendable {
    /// Memory: of one with a single client, and of one with several.
    private static let soleBytes = 128 << 10
    private static let windowBytes = 1 << 20
    private static let patience: Duration = .milliseconds(100)
    /// After so long without a byte, and again and again, it is looked whether the client is still there.
    static let silence: Duration = .seconds(2)

    fileprivate struct State {
        var blocks: [[UInt8]] = []
        /// What they are of, once the origin has said so.
        var object: ObjectVersion?
        /// Of the first byte in the window, and behind the last.
        var start: Int64
        var end: Int64
        /// Where each client reads.
        var places: [Int: Int64] = [:]
        /// Where those are now that were too slow.
        var moved: [Int: Passage] = [:]
        var isFetching = false
        var isFull = false
        /// When a client last got bytes.
        var movedAt: UInt64
        /// It has ended for others that wait.
        var hasGivenPlace = false
        /// How it ended.
        var outcome: Result<Void, EdgeError>?
    }

    /// The number of the last seat in any passage.
    private static let lastSeat = Atomic(0)

    let digest: Digest
    /// The blob's, as its clients were told.
    let size: Int64
    let range: Range<Int64>
    let isWhole: Bool
    private let passages: Passages
    private let state: Monitor<State>

    init(_ wish: Passages.Wish, of passages: Passages) {
        self.passages = passages
        switch wish {
        case .whole(let digest, let size, _): (self.digest, self.size, range, isWhole) = (digest, size, 0..<size, true)
        case .part(let digest, let range, let size):
            (self.digest, self.size, self.range, isWhole) = (digest, size, range, false)
        }
        let now = passages.time.monotonicNanoseconds()
        state = Monitor(State(start: range.lowerBound, end: range.lowerBound, movedAt: now))
    }

    /// `nil` when it has come past the offset.
    func seat(at offset: Int64) -> Seat? {
        let number = Self.lastSeat.add(1, ordering: .relaxed).newValue
        return takeIn(number, at: offset) ? Seat(self, number) : nil
    }

    fileprivate func takeIn(_ number: Int, at offset: Int64) -> Bool {
        state.withLock { state in
            guard offset >= state.start, state.outcome == nil else { return false }
            state.places[number] = offset
            return true
        }
    }

    /// A client of it, or of the one that it was moved to, until the value goes.
    ///
    /// Sendable because one thread at a time reads for a client.
    final class Seat: @unchecked Sendable {
        fileprivate private(set) var passage: Passage
        private let number: Int

        fileprivate init(_ passage: Passage, _ number: Int) {
            self.passage = passage
            self.number = number
        }

        deinit {
            var left: Passage? = passage
            while let passage = left { left = passage.leave(number) }
        }

        /// Waits for bytes and appends what fits; false when another seat is to be taken for them.
        ///
        /// - Parameter object: what the bytes are of that the client has; `nil` while it has none.
        func read(
            at offset: Int64,
            into buffer: inout OutputSpan<UInt8>,
            of object: inout ObjectVersion?,
            from fills: Fills,
            isWanted: () -> Bool
        ) throws(EdgeError) -> Bool {
            while true {
                if passage.takeStart() { passage.fetch(fills) }
                switch try passage.read(number, at: offset, into: &buffer, of: &object, isWanted) {
                case .done: return true
                case .moved(let other): passage = other
                case .placeGiven: return false
                }
            }
        }
    }

    private func takeStart() -> Bool {
        state.withLock { state in
            defer { state.isFetching = true }
            return !state.isFetching
        }
    }
}

// MARK: - Clients

extension Passage {
    private enum Next {
        case bytes([UInt8], from: Int, of: ObjectVersion?)
        case moved(Passage)
        case placeGiven
    }

    private enum Reading {
        case done
        /// The passage to read from instead.
        case moved(Passage)
        case placeGiven
    }

    private func read(
        _ number: Int,
        at offset: Int64,
        into buffer: inout OutputSpan<UInt8>,
        of object: inout ObjectVersion?,
        _ isWanted: () -> Bool
    ) throws(EdgeError) -> Reading {
        switch try next(number, at: offset, isWanted) {
        case .moved(let other): return .moved(other)
        case .placeGiven: return .placeGiven
        case .bytes(let block, let from, let found):
            guard object == nil || object == found else { throw .originChanged(digest) }
            object = found
            let count = buffer.append(fitting: block.span.extracting(droppingFirst: from))
            let now = passages.time.monotonicNanoseconds()
            let isAwaited = state.withLock { state in
                state.places[number]? += Int64(count)
                state.movedAt = now
                return state.isFull
            }
            if isAwaited { state.update { _ in } }
            return .done
        }
    }

    private func next(_ number: Int, at offset: Int64, _ isWanted: () -> Bool) throws(EdgeError) -> Next {
        repeat {
            let next: Next? = try state.wait(until: .after(Self.silence)) { state throws(EdgeError) in
                if let other = state.moved.removeValue(forKey: number) { return .moved(other) }
                state.places[number] = offset
                if let (block, from) = state.block(at: offset) { return .bytes(block, from: from, of: state.object) }
                if state.hasGivenPlace { return .placeGiven }
                switch state.outcome {
                case nil: return nil
                case .failure(let error)?: throw error
                // The length was checked by the transfer, so a reader never gets here for more than it was promised.
                case .success?: throw .busy("the origin sent fewer bytes than announced")
                }
            }
            if let next { return next }
        } while isWanted()
        throw .busy("the client has left")
    }

    /// Where it was moved to.
    private func leave(_ number: Int) -> Passage? {
        let (isUnused, other) = state.update { state in
            state.places[number] = nil
            let other = state.moved.removeValue(forKey: number)
            return (!state.isFetching && state.isDeserted(), other)
        }
        if isUnused { passages.ended(self) }
        return other
    }
}

extension Passage.State {
    /// Nobody reads, or is to read here; nobody is let in any more then.
    fileprivate mutating func isDeserted() -> Bool {
        guard places.isEmpty || hasGivenPlace else { return false }
        outcome = outcome ?? .failure(.closing)
        return true
    }

    /// The block with this byte, and where the byte is in it; `nil` when it is not in the window.
    fileprivate func block(at place: Int64) -> ([UInt8], Int)? {
        guard place >= start else { return nil }
        var start = start
        for block in blocks {
            if place < start + Int64(block.count) { return (block, Int(place - start)) }
            start += Int64(block.count)
        }
        return nil
    }

    fileprivate var firstBlockEnd: Int64 { start + Int64(blocks.first?.count ?? 0) }

    /// Drops blocks from the front until so many bytes fit; false when somebody still has to read one.
    fileprivate mutating func makeRoom(_ bytes: Int, limit: Int) -> Bool {
        while !blocks.isEmpty, Int(end - start) + bytes > limit {
            let boundary = firstBlockEnd
            guard places.values.allSatisfy({ $0 >= boundary }) else { return false }
            start = boundary
            blocks.removeFirst()
        }
        return true
    }

    /// Those that others wait for, who have read everything.
    fileprivate var laggards: [Int: Int64] {
        guard places.values.contains(where: { $0 >= end }) else { return [:] }
        let boundary = firstBlockEnd
        return places.filter { $0.value < boundary }
    }
}

// MARK: - The origin

extension Passage {
    /// Starts the transfer, on a thread of its own.
    private func fetch(_ fills: Fills) {
        spawnThread(name: "pass-through") { [self] in
            let outcome = Result { () throws(EdgeError) in try PassageTransfer(self, fills).run() }
            // First, so that who is told of the end and comes again need not wait for it, nor is told the same.
            if case .failure = outcome, !isDeserted { fills.doubtSize(digest) }
            passages.ended(self)
            state.update { $0.outcome = outcome }
        }
    }

    var object: ObjectVersion? { state.withLock { $0.object } }

    /// The origin begins to send it; false when it is not what the clients were told of, or another than before.
    func begin(_ object: ObjectVersion) -> Bool {
        state.withLock { state in
            let first = state.object ?? object
            state.object = first
            return object == first && object.size == size
        }
    }

    var isDeserted: Bool { state.withLock { $0.isDeserted() } }

    /// Waits for room; false when all clients are gone.
    func send(_ block: [UInt8]) -> Bool {
        while true {
            let isSent: Bool? = state.wait(until: .after(Self.patience)) { state in
                if state.isDeserted() { return false }
                let limit = state.places.count > 1 ? Self.windowBytes : Self.soleBytes
                state.isFull = !state.makeRoom(block.count, limit: limit)
                return state.isFull ? nil : true
            }
            guard let isSent else {
                if givesPlace() { return false }
                leaveBehind()
                continue
            }
            guard isSent else { return false }
            state.update { state in
                state.blocks.append(block)
                state.end += Int64(block.count)
            }
            return true
        }
    }

    var hasGivenPlace: Bool { state.withLock { $0.hasGivenPlace } }

    /// Ends it when its client stands still and others wait. Of the whole it is not: that would have to be fetched from its start again.
    private func givesPlace() -> Bool {
        guard !isWhole else { return false }
        let still = passages.time.monotonicNanoseconds() - state.withLock { $0.movedAt }
        guard Duration.nanoseconds(still) >= Self.silence, passages.takesPlace() else { return false }
        state.update { state in
            state.hasGivenPlace = true
            state.blocks = []
        }
        return true
    }

    /// Moves those that are too slow to a passage that has not come past them; without one they stay.
    private func leaveBehind() {
        guard let first = state.withLock({ $0.laggards.values.min() }),
            let seat = passages.seatAtOnce(for: .whole(digest, size: size, from: first), besides: self)
        else { return }
        state.update { state in
            for (number, place) in state.laggards where seat.passage.takeIn(number, at: place) {
                state.places[number] = nil
                state.moved[number] = seat.passage
            }
        }
    }
}
