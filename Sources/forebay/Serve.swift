internal import ArgumentParser
internal import Logging
internal import Settings
internal import System

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve the registry.",
        discussion: """
            Ends on SIGTERM or SIGINT: it stops accepting, finishes what is in flight within the drain timeout, and exits with \
            status 0; a second signal ends it at once. Exits with status 78 for a setting that is no good and with 69 when \
            something it needs is unavailable. An origin that is away for now is no such thing: what is cached is served.
            """
    )

    @OptionGroup var flags: Flags

    func run() async throws {
        let settings = try Settings(await flags.effective())
        Logs.start(settings)
        let log = Logger(label: "forebay")
        let signals = Signals()
        limitMemoryArenas()
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

extension Flags {
    func effective() async throws(SettingsError) -> EffectiveSettings {
        try await EffectiveSettings(flags: given, file: config, environment: processEnvironment())
    }
}
