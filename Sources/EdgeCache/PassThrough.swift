internal import Hashing
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import Synchronization
internal import System
internal import Threading

/// Streams a blob from the origin to a client without keeping it, for what does not fit on disk.
///
/// A read from the start fetches the whole blob and verifies it, holding the end back until the digest is known; clients that keep together
/// share that (``Passage``). A read from further on (a range) fetches just the rest; its length is checked, its digest cannot be.
///
/// Sendable because everything shared with other threads is in the passage; the rest belongs to the one reading thread.
final class PassThrough: BlobStream, @unchecked Sendable {
    private let fills: Fills
    private let digest: Digest
    private let size: Int64
    /// Taken at once: those that were told at the same moment begin together, whoever reads first.
    private var seat: Passage.Seat?
    /// Where the client reads, as far as is known.
    private var place: Int64

    /// - Parameter isWhole: the client has all bytes before `place` from elsewhere; they are fetched again to verify the whole, and not given
    ///   out.
    init(_ fills: Fills, _ digest: Digest, size: Int64, at place: Int64, isWhole: Bool) throws(EdgeError) {
        self.fills = fills
        self.digest = digest
        self.size = size
        self.place = place
        seat = try takeSeat(isWhole: isWhole)
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        if offset != place {
            // A range from the end, of which nobody knew where it begins.
            (seat, place) = (nil, offset)
            seat = try takeSeat(isWhole: offset == 0)
        }
        let before = buffer.count
        try seat?.read(at: offset, into: &buffer, fetching: { [fills, digest] passage in passage.fetch(digest, fills) })
        place += Int64(buffer.count - before)
    }

    private func takeSeat(isWhole: Bool) throws(EdgeError) -> Passage.Seat {
        isWhole ? try fills.passages.seat(digest, at: place, size: size) : try fills.passages.seat(alone: place..<size)
    }
}

/// The passages under way: so many at once as have a ticket each, and of those of whole blobs the ones that a client can join.
final class Passages: Sendable {
    private let newest = Mutex<[Digest: Passage]>([:])
    private let limit: Int
    private let tickets = Atomic(0)

    init(limit: Int) { self.limit = limit }

    /// The right to a transfer from the origin, until it goes.
    final class Ticket: Sendable {
        private let passages: Passages

        fileprivate init(of passages: Passages) { self.passages = passages }

        deinit { passages.tickets.subtract(1, ordering: .relaxed) }
    }

    private func takeTicket() throws(EdgeError) -> Ticket {
        if tickets.add(1, ordering: .relaxed).newValue <= limit { return Ticket(of: self) }
        tickets.subtract(1, ordering: .relaxed)
        throw .busy("\(limit) transfers of what the disk has no room for are under way already")
    }

    /// A place in a passage of the whole blob that has not come past the offset.
    func seat(
        _ digest: Digest,
        at offset: Int64,
        size: Int64,
        besides other: Passage? = nil
    ) throws(EdgeError) -> Passage.Seat {
        try newest.withLock { newest throws(EdgeError) in
            if let running = newest[digest], running !== other,
                let seat = running.seat(at: offset, of: (self, digest))
            {
                return seat
            }
            let passage = Passage(0..<size, verifies: true, try takeTicket())
            guard let seat = passage.seat(at: offset, of: (self, digest)) else {
                preconditionFailure("a new passage is at its start")
            }
            newest[digest] = passage
            return seat
        }
    }

    /// The place in a passage of just these bytes.
    func seat(alone range: Range<Int64>) throws(EdgeError) -> Passage.Seat {
        let passage = Passage(range, verifies: false, try takeTicket())
        guard let seat = passage.seat(at: range.lowerBound) else {
            preconditionFailure("a new passage is at its start")
        }
        return seat
    }

    fileprivate func remove(_ digest: Digest, _ passage: Passage) {
        newest.withLock { newest in
            if newest[digest] === passage { newest[digest] = nil }
        }
    }
}

/// Bytes on their way from the origin past the disk, for all clients that keep up with each other.
///
/// It holds a window of them. Who is so slow that the window is full while another one waits for bytes is moved to a later passage after a
/// moment; if there cannot be one, all go on at the pace of the slowest.
final class Passage: Sendable {
    /// Memory: of one with a single client, and of one with several.
    private static let soleBytes = 128 << 10
    private static let windowBytes = 1 << 20
    private static let blockBytes = 32 << 10
    private static let patience: Duration = .milliseconds(100)

    fileprivate struct State {
        var blocks: [[UInt8]] = []
        /// Of the first byte in the window, and behind the last.
        var start: Int64
        var end: Int64
        /// Where each client reads.
        var places: [Int: Int64] = [:]
        /// Where those are now that were too slow.
        var moved: [Int: Passage] = [:]
        /// Held while it may fetch.
        var ticket: Passages.Ticket?
        var isFetching = false
        var isFull = false
        /// How it ended.
        var outcome: Result<Void, EdgeError>?
    }

    /// The number of the last seat in any passage.
    private static let lastSeat = Atomic(0)

    private let range: Range<Int64>
    private let verifies: Bool
    private let state: Monitor<State>

    fileprivate init(_ range: Range<Int64>, verifies: Bool, _ ticket: Passages.Ticket) {
        self.range = range
        self.verifies = verifies
        state = Monitor(State(start: range.lowerBound, end: range.lowerBound, ticket: ticket))
    }

    /// `nil` when it has come past the offset.
    ///
    /// - Parameter owner: who knows it, by which digest.
    fileprivate func seat(at offset: Int64, of owner: (Passages, Digest)? = nil) -> Seat? {
        let number = Self.lastSeat.add(1, ordering: .relaxed).newValue
        return takeIn(number, at: offset) ? Seat(self, number, of: owner) : nil
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
        private let owner: (Passages, Digest)?

        fileprivate init(_ passage: Passage, _ number: Int, of owner: (Passages, Digest)?) {
            self.passage = passage
            self.number = number
            self.owner = owner
        }

        deinit {
            var left: Passage? = passage
            while let passage = left {
                let (isUnused, next) = passage.leave(number)
                if isUnused, let owner { owner.0.remove(owner.1, passage) }
                left = next
            }
        }

        /// Waits for bytes and appends what fits.
        ///
        /// - Parameter fetch: begins to fetch; called once for each passage.
        func read(
            at offset: Int64,
            into buffer: inout OutputSpan<UInt8>,
            fetching fetch: (Passage) -> Void
        ) throws(EdgeError) {
            while true {
                if passage.takeStart() { fetch(passage) }
                guard let other = try passage.read(number, at: offset, into: &buffer) else { return }
                passage = other
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
        case bytes([UInt8], from: Int)
        case moved(Passage)
    }

    /// The passage to read from instead, if the client was moved.
    private func read(
        _ number: Int,
        at offset: Int64,
        into buffer: inout OutputSpan<UInt8>
    ) throws(EdgeError) -> Passage? {
        let next: Next? = try state.wait { state throws(EdgeError) in
            if let other = state.moved.removeValue(forKey: number) { return .moved(other) }
            state.places[number] = offset
            if offset >= state.start, offset < state.end { return state.block(at: offset).map { .bytes($0, from: $1) } }
            switch state.outcome {
            case nil: return nil
            case .failure(let error)?: throw error
            // The length was checked by the transfer, so a reader never gets here for more than it was promised.
            case .success?: throw .busy("the origin sent fewer bytes than announced")
            }
        }
        switch next {
        case .moved(let other)?: return other
        case nil: preconditionFailure("waiting without a deadline ended")
        case .bytes(let block, let from)?:
            let count = buffer.append(fitting: block.span.extracting(droppingFirst: from))
            let isAwaited = state.withLock { state in
                state.places[number]? += Int64(count)
                return state.isFull
            }
            if isAwaited { state.update { _ in } }
            return nil
        }
    }

    /// Whether it was the last one, and nothing was fetched; and where it was moved to.
    private func leave(_ number: Int) -> (isUnused: Bool, Passage?) {
        state.update { state in
            state.places[number] = nil
            let other = state.moved.removeValue(forKey: number)
            return (state.places.isEmpty && !state.isFetching, other)
        }
    }
}

extension Passage.State {
    /// The block with this byte, and where the byte is in it.
    fileprivate func block(at place: Int64) -> ([UInt8], Int)? {
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
    func fetch(_ digest: Digest, _ fills: Fills) {
        spawnThread(name: "pass-through") { [self] in
            let outcome = Result { () throws(EdgeError) in try transfer(digest, fills) }
            fills.passages.remove(digest, self)
            state.update { state in
                state.outcome = outcome
                state.ticket = nil
            }
        }
    }

    private func transfer(_ digest: Digest, _ fills: Fills) throws(EdgeError) {
        var hash = ContentHash(digest.algorithm)
        var block: [UInt8] = []
        var etag: String?
        do throws(RegistryError) {
            try fills.registry.streamBlob(digest, range: verifies ? nil : range, begin: { etag = $0.etag }) { piece in
                fills.counters.originBytes.wrappingAdd(Int64(piece.count), ordering: .relaxed)
                if verifies { hash.update(piece) }
                // One block is always held back, so the end only follows a good digest.
                if block.count + piece.count > Self.blockBytes, !block.isEmpty {
                    guard send(block, digest, fills.passages) else { throw Deserted() }
                    block.removeAll()
                }
                block.append(piece)
            }
        } catch {
            throw .origin(error)
        }
        if verifies, hash.digest() != digest {
            let key = fills.registry.layout.blob(digest)
            let error = EdgeError.origin(.damaged(key: key, expected: digest, actual: hash.digest()))
            fills.damages.insert(digest, etag: etag)
            fills.counters.damaged.wrappingAdd(1, ordering: .relaxed)
            fills.log.error("the origin's content is damaged", metadata: ["digest": "\(digest)", "error": "\(error)"])
            throw error
        }
        if !block.isEmpty { _ = send(block, digest, fills.passages) }
    }

    private struct Deserted: Error {}

    /// Waits for room; false when all clients are gone.
    private func send(_ block: [UInt8], _ digest: Digest, _ passages: Passages) -> Bool {
        while true {
            let isSent: Bool? = state.wait(until: .after(Self.patience)) { state in
                guard !state.places.isEmpty else {
                    // Nobody is let in any more.
                    state.outcome = .failure(.closing)
                    return false
                }
                let limit = state.places.count > 1 ? Self.windowBytes : Self.soleBytes
                state.isFull = !state.makeRoom(block.count, limit: limit)
                return state.isFull ? nil : true
            }
            guard let isSent else {
                leaveBehind(digest, passages)
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

    /// Moves those that are too slow to a passage that has not come past them; without one they stay.
    private func leaveBehind(_ digest: Digest, _ passages: Passages) {
        guard let first = state.withLock({ $0.laggards.values.min() }),
            let seat = try? passages.seat(digest, at: first, size: range.upperBound, besides: self)
        else { return }
        state.update { state in
            for (number, place) in state.laggards where seat.passage.takeIn(number, at: place) {
                state.places[number] = nil
                state.moved[number] = seat.passage
            }
        }
    }
}
