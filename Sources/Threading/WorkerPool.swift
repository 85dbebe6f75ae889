internal import CGlibc
internal import Glibc
internal import Synchronization

/// A fixed number of threads that run jobs from a bounded queue.
public final class WorkerPool: Sendable {
    public typealias Job = @Sendable () -> Void

    private let queue: BoundedQueue<Job>
    private let running: Monitor<Int>
    private let width: Int

    /// - Parameters:
    ///   - name: shown by `ps -L`; at most 15 bytes count.
    ///   - threads: how many jobs run at once.
    ///   - urgentThreads: so many of the threads are left idle by jobs that are not urgent.
    ///   - queueLimit: how many jobs may wait.
    public init(name: String, threads: Int, urgentThreads: Int = 0, queueLimit: Int) {
        precondition(threads > urgentThreads)
        width = threads
        queue = BoundedQueue(limit: queueLimit, ordinaryLimit: threads - urgentThreads)
        running = Monitor(threads)
        for _ in 0..<threads {
            spawnThread(name: name) { [queue, running] in
                while let job = queue.take() {
                    job()
                    queue.finish()
                }
                running.update { $0 -= 1 }
            }
        }
    }

    /// False when the queue is full or the pool is closed; the job then never runs.
    ///
    /// - Parameter urgent: it runs before those that are not.
    public func submit(urgent: Bool = false, _ job: @escaping Job) -> Bool {
        queue.offer(TraceContext.carrying(job), urgent: urgent)
    }

    /// Jobs waiting for a thread.
    public var backlog: Int { queue.count }

    /// Runs `body` for each index below `count`, at most `width` at once, and returns when all are done.
    ///
    /// The calling thread works too, so this finishes even when every thread of the pool is busy, and may be called from one of them.
    public func forEach(below count: Int, width: Int? = nil, _ body: @escaping @Sendable (Int) -> Void) {
        let share = SharedLoop(count: count, body: body)
        for _ in 0..<max(0, min(width ?? self.width + 1, count) - 1) {
            guard submit({ share.work() }) else { break }
        }
        share.work()
        share.waitUntilDone()
    }

    /// Lets the queued jobs finish and ends the threads. False when some still run at the deadline.
    @discardableResult
    public func close(until deadline: Deadline = .never) -> Bool {
        queue.close()
        return running.wait(until: deadline) { $0 == 0 ? true : nil } ?? false
    }
}

/// An index range that several threads eat from.
private final class SharedLoop: Sendable {
    private let count: Int
    private let body: @Sendable (Int) -> Void
    private let next = Atomic<Int>(0)
    private let done = Monitor(0)

    init(count: Int, body: @escaping @Sendable (Int) -> Void) {
        self.count = count
        self.body = body
    }

    func work() {
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < count else { return }
            body(index)
            done.update { $0 += 1 }
        }
    }

    func waitUntilDone() {
        _ = done.wait { $0 == count ? true : nil }
    }
}

private final class ThreadBody: Sendable {
    let name: String
    let run: @Sendable () -> Void

    init(name: String, run: @escaping @Sendable () -> Void) {
        self.name = name
        self.run = run
    }
}

/// Starts a detached thread with a small stack (`pthread_create(3)`).
public func spawnThread(name: String, stackBytes: Int = 512 << 10, _ run: @escaping @Sendable () -> Void) {
    let code = createThread(name: name, stackBytes: stackBytes, run)
    precondition(code == 0, "pthread_create: \(String(cString: strerror(code)))")
}

/// False when the system has no room for another thread.
public func tryToSpawnThread(name: String, stackBytes: Int = 512 << 10, _ run: @escaping @Sendable () -> Void) -> Bool {
    createThread(name: name, stackBytes: stackBytes, run) == 0
}

private func createThread(name: String, stackBytes: Int, _ run: @escaping @Sendable () -> Void) -> Int32 {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, stackBytes)
    defer { pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    let body = Unmanaged.passRetained(ThreadBody(name: String(name.prefix(15)), run: TraceContext.carrying(run)))
    let code = pthread_create(&thread, &attributes, threadMain, body.toOpaque())
    if code != 0 { body.release() }
    return code
}

private func threadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    let body = Unmanaged<ThreadBody>.fromOpaque(argument!).takeRetainedValue()
    pthread_setname_np(pthread_self(), body.name)
    body.run()
    return nil
}
