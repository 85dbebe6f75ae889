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
    /// Given back when the client is through.
    private let ticket: Passages.Ticket?
    /// The client has, or reads, the blob from its start.
    private var isWhole: Bool?
    private var seat: Passage.Seat?
    /// The seat is at the place where the client reads.
    private var isUnderWay = false

    /// - Parameter isWhole: the client has all bytes before the first read from elsewhere; they are fetched again to verify the whole, and
    ///   not given out. `nil`: if it begins at the start.
    init(_ fills: Fills, _ digest: Digest, size: Int64, _ ticket: Passages.Ticket? = nil, isWhole: Bool? = nil) {
        self.ticket = ticket
        self.fills = fills
        self.digest = digest
        self.size = size
        self.isWhole = isWhole
        // Those that were told at the same moment begin together, whoever reads first.
        if isWhole == nil { seat = fills.passages.seat(digest, at: 0, size: size) }
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        if !isUnderWay { begin(at: offset) }
        while let seat {
            if try seat.read(into: &buffer, fetching: { [fills, digest] passage in passage.fetch(digest, fills) }) {
                return
            }
            // The others did not wait.
            self.seat = fills.passages.seat(digest, at: offset, size: size)
        }
    }

    private func begin(at offset: Int64) {
        isUnderWay = true
        if isWhole ?? (offset == 0) {
            if seat == nil { seat = fills.passages.seat(digest, at: offset, size: size) }
        } else {
            seat = Passage(offset..<size, verifies: false).seat(at: offset)
        }
    }
}

/// The passages of whole blobs under way that a client can join.
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

    /// `nil` when too many read past the disk. Who can join another one's transfer takes none.
    func ticket(for digest: Digest) -> Ticket? {
        let isJoining = newest.withLock { $0[digest] != nil }
        guard tickets.add(1, ordering: .relaxed).newValue > limit, !isJoining else { return Ticket(of: self) }
        tickets.subtract(1, ordering: .relaxed)
        return nil
    }

    /// A place in a passage that has not come past the offset.
    func seat(_ digest: Digest, at offset: Int64, size: Int64) -> Passage.Seat {
        newest.withLock { newest in
            if let seat = newest[digest]?.seat(at: offset, of: (self, digest)) { return seat }
            let passage = Passage(0..<size, verifies: true)
            guard let seat = passage.seat(at: offset, of: (self, digest)) else {
                preconditionFailure("a new passage is at its start")
            }
            newest[digest] = passage
            return seat
        }
    }

    fileprivate func remove(_ digest: Digest, _ passage: Passage) {
        newest.withLock { newest in
            if newest[digest] === passage { newest[digest] = nil }
        }
    }
}

/// Bytes on their way from the origin past the disk, for all clients that keep up with each other.
///
/// It holds a window of them. Who is so slow that the window is full while another one waits for bytes loses the seat after a moment.
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
        var seats = 0
        var isFetching = false
        var isFull = false
        /// How it ended.
        var outcome: Result<Void, EdgeError>?
    }

    private let range: Range<Int64>
    private let verifies: Bool
    private let state: Monitor<State>

    init(_ range: Range<Int64>, verifies: Bool) {
        self.range = range
        self.verifies = verifies
        state = Monitor(State(start: range.lowerBound, end: range.lowerBound))
    }

    /// `nil` when it has come past the offset.
    ///
    /// - Parameter owner: who knows it, by which digest.
    fileprivate func seat(at offset: Int64, of owner: (Passages, Digest)? = nil) -> Seat? {
        let number: Int? = state.withLock { state in
            guard offset >= state.start, state.outcome == nil else { return nil }
            state.seats += 1
            state.places[state.seats] = offset
            return state.seats
        }
        return number.map { Seat(self, $0, of: owner) }
    }

    /// A client of it, until the value goes.
    final class Seat: Sendable {
        private let passage: Passage
        private let number: Int
        private let owner: (Passages, Digest)?

        fileprivate init(_ passage: Passage, _ number: Int, of owner: (Passages, Digest)?) {
            self.passage = passage
            self.number = number
            self.owner = owner
        }

        deinit {
            if passage.leave(number), let owner { owner.0.remove(owner.1, passage) }
        }

        /// Waits for bytes and appends what fits; false when the seat is lost.
        ///
        /// - Parameter fetch: begins to fetch; called once for all seats.
        func read(into buffer: inout OutputSpan<UInt8>, fetching fetch: (Passage) -> Void) throws(EdgeError) -> Bool {
            if passage.takeStart() { fetch(passage) }
            return try passage.read(number, into: &buffer)
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
        case lost
    }

    private func read(_ number: Int, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) -> Bool {
        let next: Next? = try state.wait { state throws(EdgeError) in
            guard let place = state.places[number] else { return .lost }
            if place >= state.start, place < state.end { return state.block(at: place).map { .bytes($0, from: $1) } }
            switch state.outcome {
            case nil: return nil
            case .failure(let error)?: throw error
            // The length was checked by the transfer, so a reader never gets here for more than it was promised.
            case .success?: throw .busy("the origin sent fewer bytes than announced")
            }
        }
        guard case .bytes(let block, let from)? = next else { return false }
        let count = buffer.append(fitting: block.span.extracting(droppingFirst: from))
        let isAwaited = state.withLock { state in
            state.places[number]? += Int64(count)
            return state.isFull
        }
        if isAwaited { state.update { _ in } }
        return true
    }

    /// True when it was the last one, and nothing was fetched.
    private func leave(_ number: Int) -> Bool {
        state.update { state in
            state.places[number] = nil
            return state.places.isEmpty && !state.isFetching
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

    /// Those that nobody waits for any longer lose their seats, if another one has read everything.
    fileprivate mutating func leaveBehind() {
        guard places.values.contains(where: { $0 >= end }) else { return }
        let boundary = firstBlockEnd
        places = places.filter { $0.value >= boundary }
    }
}

// MARK: - The origin

extension Passage {
    /// Starts the transfer, on a thread of its own.
    func fetch(_ digest: Digest, _ fills: Fills) {
        spawnThread(name: "pass-through") { [self] in
            let outcome = Result { () throws(EdgeError) in try transfer(digest, fills) }
            fills.passages.remove(digest, self)
            state.update { $0.outcome = outcome }
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
                    guard send(block) else { throw Deserted() }
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
        if !block.isEmpty { _ = send(block) }
    }

    private struct Deserted: Error {}

    /// Waits for room; false when all clients are gone.
    private func send(_ block: [UInt8]) -> Bool {
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
                state.withLock { $0.leaveBehind() }
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
}
