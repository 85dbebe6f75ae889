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
        /// The memory of a piece that was taken in.
        var spare: [UInt8] = []
    }

    /// How large a piece is: what a file is written by.
    static let pieceBytes = 1 << 20

    private let receiver: any BodyReceiver
    private let threads: ThreadCache
    private let state = Mutex(State())

    init(_ receiver: any BodyReceiver, _ threads: ThreadCache) {
        self.receiver = receiver
        self.threads = threads
    }

    /// A piece is being taken in, and whoever has another one had better wait.
    var isBusy: Bool { state.withLock { $0.isBusy } }

    /// Memory to gather a piece in.
    func memory(_ capacity: Int) -> [UInt8] {
        var memory = state.withLock { state in
            defer { state.spare = [] }
            return state.spare
        }
        memory.reserveCapacity(capacity)
        return memory
    }

    /// - Parameter whenBegun: called when all pieces before it are through.
    func take(_ piece: consuming [UInt8], whenBegun: @escaping @Sendable () -> Void = {}) {
        let piece = Mutex(piece)
        run { [self] in
            whenBegun()
            var bytes = piece.withLock { bytes in
                defer { bytes = [] }
                return bytes
            }
            receiver.receive(bytes.span)
            bytes.removeAll(keepingCapacity: true)
            state.withLock { $0.spare = bytes }
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
