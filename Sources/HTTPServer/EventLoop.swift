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

    /// After so long with requests in each turn it lets others run: the clients' threads on the same machine wait no longer than that. Of 0.2, 0.4,
    /// 0.55 and 0.7 ms, the second gave the shortest tail.
    private static let yieldAfterNanoseconds: UInt64 = 400_000
    /// The kernel's shortest. While its time slice is not over, a loop that yields goes on where those who wait are of another control group or session,
    /// as clients often are.
    private static let timeSliceNanoseconds: UInt64 = 100_000
    /// While files are sent, a turn without a request has found something else than their connections if it was shorter: a piece of a file takes
    /// many times as long.
    private static let shortestPieceNanoseconds: UInt64 = 3_000
    private static let eventsAtOnce = 64
    /// An idle loop looks up at least this often.
    private static let longestWaitMilliseconds: UInt64 = 10_000

    let exchanges: Exchanges
    /// Which of the server's loops this is.
    let number: Int
    /// The handler's, in boxes of the loop's own: loops that count references to the same box wait for each other.
    let answerAtOnce: (Request) -> ReadyAnswer?
    let ended: (Request, ExchangeEnd) -> Void
    private let idleTimeoutSeconds: UInt32
    private var daemon: OpaquePointer?
    /// Written to wake the loop: a daemon without a thread waits on when a connection is resumed (`eventfd(2)`).
    private let wakeup: Int32
    /// What else the loop waits for: the wake-up, and clients that hang up (`epoll(7)`). The daemon watches it among its connections.
    private let events: Int32
    private let arrived = Mutex<[NewConnection]>([])
    private let isStopping = Atomic(false)
    private let hasEnded = Monitor(false)
    /// The loop's own: connections that wait for another thread.
    private var suspended = 0
    private var closedCount = 0
    private var answered = 0
    // Nothing that these call comes back to them: no turn has to find that out anew.
    @exclusivity(unchecked) private var hangUps = HangUps()
    @exclusivity(unchecked) var sentFiles = SentFiles()
    /// The loop's own, so that loops do not slow each other; all are added up when that is asked for.
    private let exchangesInFlight = Atomic(0)
    /// Connections here, also those on their way.
    let connections = Atomic(0)

    init(_ configuration: ServerConfiguration, _ exchanges: Exchanges, number: Int) throws(ServerError) {
        self.exchanges = exchanges
        self.number = number
        answerAtOnce = { [handler = exchanges.handler] in handler.answerAtOnce($0) }
        ended = { [handler = exchanges.handler] in handler.ended($0, $1) }
        idleTimeoutSeconds = UInt32(configuration.idleTimeoutSeconds)
        wakeup = eventfd(0, Int32(forebay_EFD_FLAGS))
        guard wakeup >= 0 else { throw ServerError(operation: "eventfd", address: "", code: errno) }
        events = epoll_create1(Int32(forebay_EPOLL_FLAGS))
        guard events >= 0 else {
            let code = errno
            throw ServerError(operation: "epoll_create", address: "", code: code)
        }
        var options = forebay_mhd_options(
            connection_limit: UInt32(configuration.connectionLimit),
            idle_timeout_seconds: idleTimeoutSeconds,
            connection_memory_bytes: configuration.connectionMemoryBytes
        )
        let context = Unmanaged.passUnretained(self).toOpaque()
        daemon = forebay_mhd_start(&options, onAccess, onCompleted, onTarget, onConnection, context)
        guard let daemon, forebay_mhd_watch(daemon, events), watch(wakeup, .wakeup) else {
            let code = errno
            if let daemon { MHD_stop_daemon(daemon) }
            close(events)
            throw ServerError(operation: "MHD_start_daemon", address: "", code: code == 0 ? EINVAL : code)
        }
    }

    /// Whoever has just resumed a connection may still write to it when the loop has ended.
    deinit { close(wakeup) }

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

// MARK: - What a loop waits for

private enum Watched {
    case wakeup
    case connection(OpaquePointer)

    init(_ mark: UInt64) { self = OpaquePointer(bitPattern: UInt(mark)).map { .connection($0) } ?? .wakeup }

    var event: epoll_event {
        switch self {
        case .wakeup: epoll_event(events: forebay_EPOLL_READABLE, data: epoll_data(u64: 0))
        case .connection(let connection):
            epoll_event(events: forebay_EPOLL_HANG_UP, data: epoll_data(u64: UInt64(UInt(bitPattern: connection))))
        }
    }
}

extension EventLoop {
    private func watch(_ descriptor: Int32, _ what: Watched) -> Bool {
        var event = what.event
        return epoll_ctl(events, EPOLL_CTL_ADD, descriptor, &event) == 0
    }
}

// MARK: - On the loop's thread

extension EventLoop {
    private func run() {
        guard let daemon else { preconditionFailure("a loop without a daemon") }
        becomeCurrent()
        // Linux 6.12; others ignore it.
        forebay_set_time_slice(Self.timeSliceNanoseconds)
        var now = monotonicNanoseconds()
        var lastLook = now
        while !isStopping.load(ordering: .sequentiallyConsistent) || suspended > 0 {
            answered = 0
            let before = now
            MHD_run_wait(daemon, longestWaitMilliseconds(now))
            now = monotonicNanoseconds()
            let sends = answered > 0 || !sentFiles.isEmpty && now - before > Self.shortestPieceNanoseconds
            // While requests keep coming, or files are sent, that goes on with them; what else there is, is looked at now and then.
            if !sends || now - lastLook > Self.yieldAfterNanoseconds {
                if answered > 0 { sched_yield() }
                look(daemon)
                now = monotonicNanoseconds()
                lastLook = now
            }
            hangUps.look(now: now)
        }
        takeArrived(daemon)
        MHD_stop_daemon(daemon)
        close(events)
        hasEnded.update { $0 = true }
    }

    /// Connections that time out sooner end the wait by themselves.
    private func longestWaitMilliseconds(_ now: UInt64) -> Int32 {
        guard let next = hangUps.next else { return Int32(Self.longestWaitMilliseconds) }
        return Int32(min(Self.longestWaitMilliseconds, next > now ? (next - now) / 1_000_000 + 1 : 0))
    }

    /// New and resumed connections, and clients that hung up.
    private func look(_ daemon: OpaquePointer) {
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: Self.eventsAtOnce) { found in
            let count = epoll_wait(events, found.baseAddress, Int32(found.count), 0)
            for event in found.prefix(Int(max(0, count))) {
                switch Watched(event.data.u64) {
                case .wakeup:
                    var count: UInt64 = 0
                    _ = read(wakeup, &count, 8)
                    takeArrived(daemon)
                case .connection(let connection): hangUps.began(connection)
                }
            }
        }
    }

    private func takeArrived(_ daemon: OpaquePointer) {
        let new = arrived.withLock { arrived in
            let new = arrived
            if !new.isEmpty { arrived = [] }
            return new
        }
        for connection in new {
            let before = closedCount
            let isTaken = connection.address.withSocketAddress { address, length in
                MHD_add_connection(daemon, connection.descriptor, address, length) == .YES
            }
            // It has closed the descriptor; whether it has also told so depends on how far it came.
            if !isTaken, closedCount == before { left(connection.address) }
        }
    }

    func began(_ connection: OpaquePointer) {
        // Without it, a client that hangs up in the wrong moment is noticed when it times out.
        _ = watch(forebay_mhd_socket(connection), .connection(connection))
    }

    func closed(_ connection: OpaquePointer) {
        // A child process that has yet to execute its program holds the socket too, and closing it here would not end the watch.
        epoll_ctl(events, EPOLL_CTL_DEL, forebay_mhd_socket(connection), nil)
        hangUps.closed(connection)
        left(ClientAddress(forebay_mhd_client_address(connection)))
    }

    /// A request is over, and the next may come.
    func isThrough(_ connection: OpaquePointer) {
        answered += 1
        hangUps.isThrough(connection)
    }

    var inFlight: Int { exchangesInFlight.load(ordering: .sequentiallyConsistent) }

    func exchangeBegan() { exchangesInFlight.add(1, ordering: .sequentiallyConsistent) }

    /// On any thread.
    func exchangeEnded() {
        exchangesInFlight.subtract(1, ordering: .sequentiallyConsistent)
        exchanges.oneEnded()
    }

    private func left(_ address: ClientAddress) {
        closedCount += 1
        connections.subtract(1, ordering: .relaxed)
        exchanges.clients.left(address)
    }

    /// libmicrohttpd leaves the connection alone until what this returns is called, once and on any thread. Then it calls again.
    ///
    /// It would read from the connection before that, and close it without an answer where the client has said that it sends nothing more.
    /// Connections with a timeout of their own it asks first what there is to do.
    func suspend(_ connection: OpaquePointer) -> @Sendable () -> Void {
        suspended += 1
        MHD_suspend_connection(connection)
        forebay_mhd_set_idle_timeout(connection, idleTimeoutSeconds + 1)
        let waiting = Waiting(connection)
        return { [self] in
            MHD_resume_connection(waiting.connection)
            wake()
        }
    }

    /// A suspended connection is back.
    func isBack(_ connection: OpaquePointer) {
        suspended -= 1
        forebay_mhd_set_idle_timeout(connection, idleTimeoutSeconds)
    }

    /// New work is refused: the loop is about to end.
    var refusesWork: Bool { isStopping.load(ordering: .relaxed) }
}

extension EventLoop {
    private static let key = {
        var key = pthread_key_t()
        precondition(pthread_key_create(&key, nil) == 0, "pthread_key_create")
        return key
    }()

    /// The loop whose thread this is.
    static var current: EventLoop? {
        pthread_getspecific(key).map { Unmanaged<EventLoop>.fromOpaque($0).takeUnretainedValue() }
    }

    private func becomeCurrent() {
        pthread_setspecific(Self.key, Unmanaged.passUnretained(self).toOpaque())
    }
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
