internal import CGlibc
internal import CMicroHTTPD
internal import Glibc
internal import Synchronization
internal import Threading

/// The threading mode, chosen here and nowhere else: a few threads, each with a daemon of its own that it drives over `epoll`.
///
/// What is ready is answered on the loop. What may wait is handed to a thread that may, while the connection is suspended. libmicrohttpd's own
/// `epoll` threads would not do: they can sleep with requests unread.
///
/// Sendable because the daemon is driven by the loop's thread alone; others only resume connections, which libmicrohttpd locks, and the rest is
/// atomic or locked.
final class EventLoop: @unchecked Sendable {
    struct NewConnection: Sendable {
        let descriptor: Int32
        let address: ClientAddress
    }

    /// After so long without a pause it lets others run: the clients' threads on the same machine wait no longer than that.
    private static let sliceNanoseconds: UInt64 = 200_000
    /// An idle loop looks up at least this often.
    private static let longestWaitMilliseconds: UInt64 = 10_000

    let exchanges: Exchanges
    private var daemon: OpaquePointer?
    /// Written to wake the loop: a resumed connection alone may be overlooked (`eventfd(2)`).
    private let wakeup: Int32
    private let arrived = Mutex<[NewConnection]>([])
    private let isStopping = Atomic(false)
    private let hasEnded = Monitor(false)
    /// The loop's own: connections that wait for another thread.
    private var suspended = 0
    private var closed = 0
    /// Connections here, also those on their way.
    let connections = Atomic(0)

    init(_ configuration: ServerConfiguration, _ exchanges: Exchanges) throws(ServerError) {
        self.exchanges = exchanges
        wakeup = eventfd(0, Int32(forebay_EFD_FLAGS))
        guard wakeup >= 0 else { throw ServerError(operation: "eventfd", address: "", code: errno) }
        var options = forebay_mhd_options(
            connection_limit: UInt32(configuration.connectionLimit),
            idle_timeout_seconds: UInt32(configuration.idleTimeoutSeconds),
            connection_memory_bytes: configuration.connectionMemoryBytes
        )
        let context = Unmanaged.passUnretained(self).toOpaque()
        daemon = forebay_mhd_start(&options, onAccess, onCompleted, onTarget, onConnection, context)
        guard daemon != nil else {
            let code = errno
            close(wakeup)
            throw ServerError(operation: "MHD_start_daemon", address: "", code: code == 0 ? EINVAL : code)
        }
    }

    func start(_ name: String) {
        spawnThread(name: name) { self.run() }
    }

    /// Takes a connection over.
    func add(_ connection: NewConnection) {
        connections.add(1, ordering: .relaxed)
        arrived.withLock { $0.append(connection) }
        wake()
    }

    /// Closes all connections and ends the thread. False when a request still waits at the deadline.
    func stop(until deadline: Deadline) -> Bool {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wake()
        return hasEnded.wait(until: deadline) { $0 ? true : nil } ?? false
    }

    private func wake() {
        var one: UInt64 = 1
        // It can only fail when the counter is full, and then the loop is awake.
        _ = write(wakeup, &one, 8)
    }
}

// MARK: - On the loop's thread

extension EventLoop {
    private func run() {
        guard let daemon else { preconditionFailure("a loop without a daemon") }
        var lastPause = monotonicNanoseconds()
        while !isStopping.load(ordering: .sequentiallyConsistent) || suspended > 0 {
            let before = monotonicNanoseconds()
            wait(daemon)
            let now = monotonicNanoseconds()
            if now - before > Self.sliceNanoseconds / 8 {
                lastPause = now
            } else if now - lastPause > Self.sliceNanoseconds {
                sched_yield()
                lastPause = monotonicNanoseconds()
            }
            takeArrived(daemon)
            MHD_run(daemon)
        }
        takeArrived(daemon)
        MHD_stop_daemon(daemon)
        close(wakeup)
        hasEnded.update { $0 = true }
    }

    private func wait(_ daemon: OpaquePointer) {
        var timeout: UInt64 = 0
        let hasTimeout = MHD_get_timeout(daemon, &timeout) == .YES
        let milliseconds = hasTimeout ? min(timeout, Self.longestWaitMilliseconds) : Self.longestWaitMilliseconds
        withUnsafeTemporaryAllocation(of: pollfd.self, capacity: 2) { descriptors in
            descriptors[0] = pollfd(fd: forebay_mhd_epoll(daemon), events: Int16(POLLIN), revents: 0)
            descriptors[1] = pollfd(fd: wakeup, events: Int16(POLLIN), revents: 0)
            guard poll(descriptors.baseAddress, 2, Int32(milliseconds)) > 0, descriptors[1].revents != 0 else { return }
            var count: UInt64 = 0
            _ = read(wakeup, &count, 8)
        }
    }

    private func takeArrived(_ daemon: OpaquePointer) {
        let new = arrived.withLock { arrived in
            defer { arrived.removeAll(keepingCapacity: true) }
            return arrived
        }
        for connection in new {
            let before = closed
            let isTaken = connection.address.withSocketAddress { address, length in
                MHD_add_connection(daemon, connection.descriptor, address, length) == .YES
            }
            // It has closed the descriptor; whether it has also told so depends on how far it came.
            if !isTaken, closed == before { left(connection.address) }
        }
    }

    func left(_ address: ClientAddress) {
        closed += 1
        connections.subtract(1, ordering: .relaxed)
        exchanges.clients.left(address)
    }

    /// Runs `job` where it may block; until it is done, libmicrohttpd leaves the connection alone. Then it calls again.
    func handOver(_ connection: OpaquePointer, _ job: @escaping @Sendable () -> Void) {
        suspended += 1
        MHD_suspend_connection(connection)
        let waiting = Waiting(connection)
        exchanges.threads.run { [self] in
            job()
            MHD_resume_connection(waiting.connection)
            wake()
        }
    }

    /// A connection that was handed over is back.
    func isBack() { suspended -= 1 }

    /// New work is refused: the loop is about to end.
    var refusesWork: Bool { isStopping.load(ordering: .relaxed) }
}

/// Sendable because resuming is all that is done with it on another thread.
private struct Waiting: @unchecked Sendable {
    let connection: OpaquePointer

    init(_ connection: OpaquePointer) { self.connection = connection }
}

private func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
