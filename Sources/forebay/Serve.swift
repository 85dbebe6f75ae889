internal import ArgumentParser
internal import Logging
internal import Settings
internal import System

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve the registry.",
        discussion: """
            Ends on SIGTERM or SIGINT, or when its terminal is closed: it stops accepting, finishes what is in flight within the drain \
            timeout, and exits with status 0; a second SIGTERM or SIGINT ends it at once. Exits with status 78 for a setting that is no \
            good and with 69 when something it needs is unavailable. An origin that is away for now is no such thing: what is cached is \
            served.

            Without a terminal SIGHUP does nothing. A file that its output goes to is rotated by cutting it in place (copytruncate).
            """
    )

    @OptionGroup var flags: Flags

    func run() async throws {
        appendToStandardFiles()
        var settings = try Settings(await flags.effective())
        Logs.start(settings)
        let log = Logger(label: "forebay")
        let signals = Signals(heedsHangUp: standardErrorIsTerminal())
        limitMemoryArenas()
        settings.keepConnections(within: raiseOpenFileLimit(), log)
        let node = try Node(settings, log: log)
        log.notice(
            "serving",
            metadata: ["address": "\(node.address)", "origin": "\(node.origin)", "cache": "\(settings.cacheDirectory)"]
        )
        let signal = signals.wait()
        log.notice("stopping", metadata: ["signal": "\(signal)", "inFlight": "\(node.requestsInFlight)"])
        signals.endProcessOnNext()
        let isDrained = node.stop(drain: settings.drainTimeout)
        if isDrained {
            log.notice("stopped")
        } else {
            log.warning("stopped with requests in flight", metadata: ["drain-timeout": "\(settings.drainTimeout)"])
        }
        // Threads that still serve a client would outlive an orderly return.
        endProcess(status: .success)
    }
}

extension Settings {
    /// Files that are open whatever the number of clients: connections to the origin, the files that are filled from them, the cache's index, the event
    /// loops.
    private var ownFiles: Int { 64 + s3.connectionLimit + fillLimit }
    /// Below this it is better to run out of files now and then than to serve nobody.
    private static let fewestConnections = 16

    /// A connection without a file to send from would be accepted, and then neither answered nor closed: each needs two.
    fileprivate mutating func keepConnections(within openFileLimit: Int, _ log: Logger) {
        let connections = max(Self.fewestConnections, (openFileLimit - ownFiles) / 2)
        guard connections < connectionLimit else { return }
        log.warning(
            "too few open files are allowed for connection-limit: raise ulimit -n (LimitNOFILE in systemd), or lower it",
            metadata: [
                "connection-limit": "\(connectionLimit)", "open-file-limit": "\(openFileLimit)",
                "open-file-limit-needed": "\(2 * connectionLimit + ownFiles)",
                "connections-kept": "\(connections)",
            ]
        )
        connectionLimit = connections
    }
}

extension Flags {
    func effective() async throws(SettingsError) -> EffectiveSettings {
        try await EffectiveSettings(flags: given, file: config, environment: processEnvironment())
    }
}
