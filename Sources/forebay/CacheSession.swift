internal import AdminAPI
internal import DiskTier
internal import EdgeCache
internal import HTTPClient
internal import Logging
internal import Registry
internal import Settings
internal import Synchronization
internal import System
internal import Threading

/// Where the admin API of a running server is: beside what it is about, so that who may use it is a question of the file's owner.
enum AdminSocket {
    static func path(_ settings: Settings) -> String { settings.cacheDirectory + "/admin.sock" }
}

/// A cache to work on: through the server that runs on its directory, or else the directory itself.
struct CacheSession {
    let settings: Settings

    /// Carries out a request; `each` hears of everything, as an event and as the line that it came in. When it returns false, the work ends.
    func perform(_ request: CacheRequest, each: (CacheEvent) throws -> Bool) throws {
        var (isWanted, isDone) = (true, false)
        func tell(_ event: CacheEvent) throws -> Bool {
            // Who wanted no more is not told that this ended the work.
            guard isWanted else { return false }
            isDone = event.isLast
            isWanted = try each(event)
            return isWanted
        }
        let stop = StopSignal()
        if try !performByServer(request, stop, tell) { try performAlone(request, stop, tell) }
        if !isWanted { try checkReader(request, isDone: isDone) }
    }

    /// Somebody who has seen enough of a list is no failure.
    private func checkReader(_ request: CacheRequest, isDone: Bool) throws {
        guard nobodyReadsStandardOutput() else {
            throw Interrupted(description: "standard output cannot be written; free its disk, or write elsewhere")
        }
        if isDone || [.ls, .stat].contains(request.operation) { return }
        throw Interrupted(description: "nobody reads the output any more: the work is not finished")
    }

    // MARK: - A server runs

    private struct Stopped: Error {}

    /// False when no server listens.
    private func performByServer(
        _ request: CacheRequest,
        _ stop: StopSignal,
        _ each: (CacheEvent) throws -> Bool
    ) throws -> Bool {
        let path = AdminSocket.path(settings)
        guard try exists(path) else { return false }
        var configuration = ClientConfiguration()
        configuration.proxy = .none
        // The server says something every second.
        configuration.stallBytesPerSecond = 1
        configuration.stallSeconds = 60
        do {
            configuration.unixSocket = try SocketPath(path)
            let client = try Client(configuration)
            let message = Request(
                "POST",
                "http://forebay/cache/\(request.operation.rawValue)",
                headers: [("Content-Type", "application/json")],
                body: .bytes(request.json)
            )
            var events = EventLines()
            let silence = Silence()
            let isCancelled: @Sendable () -> Bool = {
                silence.tell()
                return stop.signal != nil
            }
            try client.perform(message, isCancelled: isCancelled) { _, piece in
                silence.end()
                guard try events.append(piece, each) else { throw Stopped() }
            }
            guard events.isComplete else {
                throw Unavailable(description: "the server broke off its answer; look into its log")
            }
            return true
        } catch let error as TransferError {
            try stop.check()
            if case .receiver(let reason) = error.kind {
                if reason is Stopped { return true }
                throw reason
            }
            // Left behind by a server that was killed; if one holds the directory all the same, opening it says so.
            if case .connect = error.kind { return false }
            throw Unavailable(description: "admin socket \(path): \(error)")
        }
    }

    private func exists(_ path: String) throws -> Bool {
        do throws(FileError) {
            return try LocalFileSystem().status(at: path) != nil
        } catch {
            throw Unavailable(description: "cache-dir: \(error); run this as the user that the server runs as")
        }
    }

    /// Tells once of a server that does not answer: one that was stopped by a signal keeps its socket.
    private final class Silence: Sendable {
        private static let patience: Duration = .seconds(5)
        private let limit = Deadline.after(patience)
        private let isOver = Atomic(false)

        func tell() {
            guard limit.hasPassed, !isOver.exchange(true, ordering: .relaxed) else { return }
            writeToStandardError("the server has not answered for 5 s; waiting for it for a minute\n")
        }

        func end() { isOver.store(true, ordering: .relaxed) }
    }

    // MARK: - No server runs

    /// More than any disk has.
    private static let anyCeilingBytes: Int64 = 1 << 50

    private func performAlone(
        _ request: CacheRequest,
        _ stop: StopSignal,
        _ each: (CacheEvent) throws -> Bool
    ) throws {
        let (tier, wanted) = try openTier(request)
        let edge = LazyEdge(settings, tier)
        defer {
            edge.close()
            tier.close()
        }
        let administration = CacheAdministration(
            stopped: tier,
            ceilingBytes: wanted.ceilingBytes,
            volumeFloorBytes: wanted.minimumFreeBytes
        ) { () throws(CacheFailure) in try edge.get() }
        var failure: (any Error)?
        administration.run(request) { event in
            do {
                try stop.check()
                return try each(event)
            } catch {
                failure = error
                return false
            }
        }
        if let failure { throw failure }
    }

    /// The tier, and the configuration that a server on it would have. What fetches nothing must not evict because its settings say less than
    /// the server's.
    private func openTier(_ request: CacheRequest) throws -> (DiskTier, DiskTier.Configuration) {
        let index = "\(settings.cacheDirectory)/index/data.mdb"
        guard try request.operation == .prewarm || exists(index) else {
            throw Unavailable(
                description:
                    "cache-dir: there is no cache in \(settings.cacheDirectory); name the server's with --cache-dir"
            )
        }
        if request.operation == .prewarm, case .directory(let origin) = settings.origin, try !exists(origin) {
            throw Unavailable(
                description:
                    "origin: no server runs on \(settings.cacheDirectory), and there is no \(origin); name the origin with --origin"
            )
        }
        var configuration = try Node.tierConfiguration(settings)
        let wanted = configuration
        configuration.scrubInterval = .zero
        if request.operation != .prewarm {
            configuration.pinLimitBytes = wanted.pinLimitBytes
            configuration.ceilingBytes = Self.anyCeilingBytes
            configuration.minimumFreeBytes = 0
        }
        do throws(DiskTierError) {
            return (try DiskTier(configuration), wanted)
        } catch {
            guard case .held = error else { throw Unavailable(description: "cache-dir: \(error)") }
            throw Unavailable(
                description:
                    "\(error), which does not answer on \(AdminSocket.path(settings)): it is starting, stopping, or busy with a "
                    + "command like this one; try again, or stop it"
            )
        }
    }
}

/// Takes events out of the pieces of a body.
private struct EventLines {
    private var unfinished: [UInt8] = []
    /// The last event has come.
    private(set) var isComplete = false

    /// False when `each` wants no more.
    mutating func append(_ piece: Span<UInt8>, _ each: (CacheEvent) throws -> Bool) throws -> Bool {
        unfinished.append(piece)
        var rest = unfinished[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            guard let event = CacheEvent(line: rest[..<end]) else {
                throw Unavailable(description: "the server's answer is not understood: is it of another version?")
            }
            rest = rest[(end + 1)...]
            if event.isLast { isComplete = true }
            guard try each(event) else { return false }
        }
        unfinished = Array(rest)
        return true
    }
}

/// What reaches the origin, made when it is first needed.
private final class LazyEdge: Sendable {
    private let settings: Settings
    private let tier: DiskTier
    private let made = Mutex<EdgeCache?>(nil)

    init(_ settings: Settings, _ tier: DiskTier) {
        self.settings = settings
        self.tier = tier
    }

    func get() throws(CacheFailure) -> EdgeCache {
        do {
            return try made.withLock { made in
                if let made { return made }
                // What goes wrong comes back with the request.
                let log = Logger(label: "forebay") { _ in SwiftLogNoOpLogHandler() }
                let registry = Registry(store: try Node.store(settings, log: log), prefix: settings.prefix)
                let edge = EdgeCache(
                    registry: registry,
                    tier: tier,
                    configuration: EdgeCache.Configuration(settings),
                    log: log
                )
                made = edge
                return edge
            }
        } catch {
            throw CacheFailure(.unavailable, "\(error)")
        }
    }

    func close() { made.withLock { _ = $0?.close() } }
}

/// The wish to end, so that the directory is left in order, or the server told.
private final class StopSignal: Sendable {
    private let name = Mutex<String?>(nil)

    init() {
        ignoreBrokenPipes()
        let signals = Signals()
        spawnThread(name: "signals") { [self] in
            let signal = signals.wait()
            name.withLock { $0 = signal }
            signals.endProcessOnNext()
        }
    }

    /// The one that came.
    var signal: String? { name.withLock { $0 } }

    func check() throws {
        guard let signal else { return }
        throw Interrupted(description: "stopped by \(signal): the work is not finished")
    }
}
