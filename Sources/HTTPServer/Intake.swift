internal import Synchronization
internal import Threading

/// Takes a request's body in: one piece after the other, on a thread that may block, while the loop gathers the next one.
///
/// Sendable because only its jobs use the receiver, one after the other.
final class Intake: @unchecked Sendable {
    private typealias Job = @Sendable () -> Void

    private struct State {
        /// Behind the one that runs.
        var jobs: [Job] = []
        var isBusy = false
    }

    private let receiver: any BodyReceiver
    private let threads: ThreadCache
    private let memory: PieceMemory
    private let state = Mutex(State())

    init(_ receiver: any BodyReceiver, _ exchanges: Exchanges) {
        self.receiver = receiver
        threads = exchanges.threads
        memory = exchanges.pieceMemory
    }

    /// A piece is being taken in, and whoever has another one had better wait.
    var isBusy: Bool { state.withLock { $0.isBusy } }

    /// - Parameter whenBegun: called when all pieces before it are through.
    func take(_ piece: consuming [UInt8], whenBegun: @escaping @Sendable () -> Void = {}) {
        let piece = Mutex(piece)
        run { [self] in
            whenBegun()
            let bytes = piece.withLock { bytes in
                defer { bytes = [] }
                return bytes
            }
            receiver.receive(bytes.span)
            memory.giveBack(bytes)
        }
    }

    /// The body ends with `rest`.
    func finish(_ rest: [UInt8], _ answer: @escaping @Sendable (Response) -> Void) {
        run { [self] in
            if !rest.isEmpty { receiver.receive(rest.span) }
            answer(receiver.finish())
        }
    }

    /// The client is gone.
    func abandon(_ end: @escaping @Sendable () -> Void) {
        run { [self] in
            receiver.abandon()
            end()
        }
    }

    private func run(_ job: @escaping Job) {
        let begins = state.withLock { state in
            state.jobs.append(job)
            defer { state.isBusy = true }
            return !state.isBusy
        }
        if begins { threads.run { [self] in work() } }
    }

    private func work() {
        while let job = next() { job() }
    }

    private func next() -> Job? {
        state.withLock { state in
            state.isBusy = !state.jobs.isEmpty
            return state.isBusy ? state.jobs.removeFirst() : nil
        }
    }
}

/// The memory that bodies are gathered in, of a few that were taken in kept for the next: new memory is dear, and a slow client holds only its own.
final class PieceMemory: Sendable {
    /// How large a piece is: what a file is written by.
    static let pieceBytes = 1 << 20
    private static let limit = 16

    private let spare = Mutex<[[UInt8]]>([])

    /// - Parameter length: of the body, if it is known.
    func take(for length: Int64?) -> [UInt8] {
        let capacity = min(Self.pieceBytes, Int(clamping: length ?? .max))
        if capacity == Self.pieceBytes, let piece = spare.withLock({ $0.popLast() }) { return piece }
        var piece: [UInt8] = []
        piece.reserveCapacity(capacity)
        return piece
    }

    func giveBack(_ piece: consuming [UInt8]) {
        guard piece.capacity >= Self.pieceBytes else { return }
        piece.removeAll(keepingCapacity: true)
        let piece = Mutex(piece)
        spare.withLock { spare in
            if spare.count < Self.limit { spare.append(piece.withLock { $0 }) }
        }
    }
}
