import Foundation
import Glibc
import Synchronization
import Testing

/// The built binary, serving on a port of its own from a cache directory and an origin of its own.
final class Forebay {
    let origin: any Origin
    let endpoint: Endpoint
    let cacheDirectory: String
    private let workspace: TemporaryDirectory
    private let flags: [String]
    /// What the process may have open (`ulimit -n`); `nil` is what the tests may.
    private let openFiles: Int?
    private var process: Command?

    /// Skips the test when there is no binary.
    init(_ origin: any Origin, cacheSize: String = "2GiB", flags: [String] = [], openFiles: Int? = nil) throws {
        try require(
            access(Settings.binary, X_OK) == 0,
            "no binary at \(Settings.binary): build it with `swift build -c release`, or set FOREBAY_BINARY"
        )
        workspace = try TemporaryDirectory()
        cacheDirectory = try workspace.folder("cache")
        self.origin = origin
        self.openFiles = openFiles
        endpoint = Endpoint(port: try Ports.free())
        self.flags =
            ["--cache-dir", cacheDirectory, "--cache-size", cacheSize, "--tag-ttl", "0s"] + origin.flags + flags
    }

    deinit { kill() }

    /// Standard error of all runs so far.
    var log: String { text(of: workspace.path + "/log.err") + text(of: workspace.path + "/log.out") }

    var processIdentifier: Int32? { process?.processIdentifier }

    /// Starts the process and waits until it answers, also what may need the origin.
    func start() throws {
        let process = try launch(listening: endpoint)
        self.process = process
        try poll(for: "forebay to answer on \(endpoint.authority)") {
            guard process.isRunning else { throw MissingRequirement(description: "forebay ended early:\n\(log)") }
            // Refused or cut off means not ready yet.
            return (try? endpoint.request("GET", "/v2/"))?.status == 200 ? () : nil
        }
        // Whoever may change something waits for the first contact; nothing is asked of the origin for this.
        _ = try endpoint.request("DELETE", "/v2/harness/blobs/uploads/none")
    }

    /// A process with this one's flags, not waited for.
    func launch(listening endpoint: Endpoint, log: String = "log") throws -> Command {
        let limited = openFiles.map { ["sh", "-c", "ulimit -n \($0) && exec \"$@\"", "sh"] } ?? []
        return try Command(
            limited + [Settings.binary, "serve", "--listen", endpoint.authority] + flags,
            environment: origin.environment,
            directory: workspace.path,
            log: "\(workspace.path)/\(log)"
        )
    }

    /// Ends the process as an operator does; its exit status.
    @discardableResult
    func stop(seconds: Double = 30) throws -> Int32 {
        terminate()
        return try exitStatus(seconds: seconds)
    }

    func terminate() { process?.signal(SIGTERM) }

    func exitStatus(seconds: Double = 30) throws -> Int32 {
        defer { process = nil }
        return try process?.wait(seconds: seconds).status ?? 0
    }

    /// Ends the process as a power cut does.
    func kill() {
        guard let process else { return }
        process.signal(SIGKILL)
        // A process that does not end by SIGKILL is beyond what a test can do.
        _ = try? process.wait(seconds: 30)
        self.process = nil
    }

    /// Loses the disk.
    func wipeCache() throws {
        try FileManager.default.removeItem(atPath: cacheDirectory)
        try FileManager.default.createDirectory(atPath: cacheDirectory, withIntermediateDirectories: true)
    }

    /// Stops, with everything cached thrown away if so wished, and starts again.
    func restart(wipingCache: Bool = false) throws {
        #expect(try stop() == 0)
        if wipingCache { try wipeCache() }
        try start()
    }
}

/// Runs `body` against a fresh registry; when anything in it goes wrong, the registry's log is printed.
func withForebay(
    _ kind: OriginKind = .directory,
    cacheSize: String = "2GiB",
    flags: [String] = [],
    openFiles: Int? = nil,
    _ body: (Forebay) throws -> Void
) throws {
    try withForebay(kind.make(), cacheSize: cacheSize, flags: flags, openFiles: openFiles, body)
}

/// The same, in front of an origin that is already there.
func withForebay(
    _ origin: any Origin,
    cacheSize: String = "2GiB",
    flags: [String] = [],
    openFiles: Int? = nil,
    _ body: (Forebay) throws -> Void
) throws {
    let forebay = try Forebay(origin, cacheSize: cacheSize, flags: flags, openFiles: openFiles)
    let hasFailed = Atomic(false)
    defer {
        forebay.kill()
        if hasFailed.load(ordering: .relaxed) { print("---- forebay's log\n\(forebay.log.suffix(20_000))\n----") }
    }
    // Nothing is known to fail: this only listens for issues, and lets each pass.
    try withKnownIssue(isIntermittent: true) {
        try forebay.start()
        try body(forebay)
    } matching: { _ in
        hasFailed.store(true, ordering: .relaxed)
        return false
    }
}
