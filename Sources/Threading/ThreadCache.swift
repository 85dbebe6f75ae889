internal import Glibc
internal import Synchronization

/// Threads for jobs that may block for long: one is started when none is idle, and ends when it was idle for a while.
///
/// The one that was idle last is used first, so that a burst's threads go again.
public final class ThreadCache: Sendable {
    public typealias Job = @Sendable () -> Void

    private enum Order {
        case run(Job)
        case end
    }

    private final class Worker: Sendable {
        let order = Monitor<Order?>(nil)
    }

    private struct State {
        var idle: [Worker] = []
        /// Waiting for any thread, the oldest first.
        var backlog: [Job] = []
        var threads = 0
        var isClosed = false
    }

    private enum Step {
        case handed(Worker)
        case started
        case queued
    }

    private let name: String
    private let limit: Int
    private let stackBytes: Int
    private let idleLimit: Duration
    private let state = Monitor(State())

    /// - Parameters:
    ///   - name: shown by `ps -L`; at most 15 bytes count.
    ///   - limit: threads at once; more jobs wait.
    ///   - idleLimit: how long a thread waits for its next job.
    public init(name: String, limit: Int, stackBytes: Int = 512 << 10, idleLimit: Duration = .seconds(10)) {
        precondition(limit > 0)
        self.name = name
        self.limit = limit
        self.stackBytes = stackBytes
        self.idleLimit = idleLimit
    }

    /// Threads there are now.
    public var threads: Int { state.withLock { $0.threads } }

    /// Runs `job` soon. Where the system gives no thread it waits for one of those there are; without any, it runs here and now.
    public func run(_ job: @escaping Job) {
        let step: Step = state.withLock { state in
            if let worker = state.idle.popLast() { return .handed(worker) }
            guard state.threads < limit else {
                state.backlog.append(job)
                return .queued
            }
            state.threads += 1
            return .started
        }
        switch step {
        case .handed(let worker): worker.order.update { $0 = .run(job) }
        case .queued: return
        case .started:
            let worker = Worker()
            worker.order.withLock { $0 = .run(job) }
            guard !tryToSpawnThread(name: name, stackBytes: stackBytes, { [self] in work(worker) }) else { return }
            runWithoutNewThread(job)
        }
    }

    private func runWithoutNewThread(_ job: @escaping Job) {
        let step: Step? = state.withLock { state in
            state.threads -= 1
            if let worker = state.idle.popLast() { return .handed(worker) }
            guard state.threads > 0 else { return nil }
            state.backlog.append(job)
            return .queued
        }
        switch step {
        case .handed(let worker): worker.order.update { $0 = .run(job) }
        case nil: job()
        default: return
        }
    }

    /// Ends the threads once their jobs are done. False when some still run at the deadline.
    @discardableResult
    public func close(until deadline: Deadline = .never) -> Bool {
        let idle = state.withLock { state in
            state.isClosed = true
            defer { state.idle = [] }
            return state.idle
        }
        for worker in idle { worker.order.update { $0 = .end } }
        return state.wait(until: deadline) { $0.threads == 0 ? true : nil } ?? false
    }

    /// Nothing of a job outlives it while the thread waits for the next: what it holds, as the file of a blob, would count as in use.
    private func work(_ worker: Worker) {
        while let job = nextJob(worker) { job() }
    }

    /// `nil` when the thread is to end; it is not counted any more then.
    private func nextJob(_ worker: Worker) -> Job? {
        // A new thread has its first already.
        if case .run(let job)? = worker.order.withLock({ $0.take() }) { return job }
        let waiting: Order? = state.update { state in
            if !state.backlog.isEmpty { return .run(state.backlog.removeFirst()) }
            if state.isClosed {
                state.threads -= 1
                return .end
            }
            state.idle.append(worker)
            return nil
        }
        switch waiting {
        case .run(let job): return job
        case .end: return nil
        case nil: break
        }
        var order = worker.order.wait(until: .after(idleLimit)) { $0 }
        if order == nil, leave(worker) { return nil }
        // Whoever took this thread off the list is about to say why.
        order = order ?? worker.order.wait { $0 }
        guard case .run(let job) = order else {
            state.update { $0.threads -= 1 }
            return nil
        }
        worker.order.withLock { $0 = nil }
        return job
    }

    /// False when somebody has an order for it.
    private func leave(_ worker: Worker) -> Bool {
        state.update { state in
            guard let place = state.idle.firstIndex(where: { $0 === worker }) else { return false }
            state.idle.remove(at: place)
            state.threads -= 1
            return true
        }
    }
}
