internal import ArgumentParser
internal import Benchmark
internal import OCI
internal import Settings
internal import System
internal import Threading

struct BenchRun: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Push, pull and delete generated content, and tell how fast that went.",
        discussion: """
            Workloads:
              push   blobs, each in one session
              cold   each blob once. With --origin, blobs that were pushed there and never pulled through URL; without, the \
            first pull after a push through URL, which the registry may have kept.
              warm   the same blobs again and again, after each was pulled once
              herd   all clients pull one blob at the same moment, a fresh one in each round
              mixed  whole images: tag, manifest, config, layers
              range  random ranges of warm blobs

            Without --rate a client asks as soon as it is answered (closed loop). Latencies are then corrected for coordinated \
            omission by HdrHistogram's method, with the median as the expected interval, where each client asked ten times or \
            more. A failed operation counts among them with its time where that is above the median, and never as done. With \
            --rate requests are due at that rate, answered or not (open loop), and a latency counts from when its \
            request was due. Those of a herd count from the common start.

            Content comes from the seed: incompressible, and never seen before unless the seed is given. It is deleted \
            afterwards, also on Ctrl-C or when the terminal is closed; where a registry does not delete, what is left is said. \
            Some free the space only when they collect garbage.

            Credentials: a file or FOREBAY_BENCH_CREDENTIALS that holds name:password, and FOREBAY_BENCH_ORIGIN_CREDENTIALS \
            for --origin. They go to the registry, and to the realm that it names for tokens.

            What is not measured is tried again a few times, and waits for up to a minute where a registry says that it is asked \
            too often (status 429).

            Exits with status 1 when an operation failed or something is left behind, 69 when there is no registry at URL or a \
            result cannot be written, 78 when a flag or a file that it names is no good, 130 when a signal ended it.
            """
    )

    @Argument(help: ArgumentHelp("The registry: http://HOST:PORT or https://HOST.", valueName: "URL"))
    var url: String

    @Option(
        help: ArgumentHelp(
            "push, cold, warm, herd, mixed, range; separated by commas. Default: all.",
            valueName: "LIST"
        )
    )
    var workloads: String?

    @Option(help: ArgumentHelp("Of blobs; several make a row each. Default: 16MiB.", valueName: "SIZE,…"))
    var size: String?

    @Option(
        help: ArgumentHelp(
            "Blobs of each size; no fewer than clients where each is used once. Default: 16.",
            valueName: "N"
        )
    )
    var count: String?

    @Option(help: ArgumentHelp("Connections at once; several make a row each. Default: 8.", valueName: "N,…"))
    var clients: String?

    @Option(help: ArgumentHelp("For each row; what has begun is finished. Default: 10s.", valueName: "TIME"))
    var duration: String?

    @Option(
        name: .customLong("request-timeout"),
        help: ArgumentHelp(
            "A measured request that takes longer is an error. Default: none, but one that stalls for 60s is.",
            valueName: "TIME"
        )
    )
    var requestTimeout: String?

    @Option(
        help: ArgumentHelp("Ends a row after so many operations; push and cold take as many blobs.", valueName: "N")
    )
    var requests: String?

    @Option(help: ArgumentHelp("Operations started in a second, over all clients: an open loop.", valueName: "N"))
    var rate: Double?

    @Option(help: ArgumentHelp("Of a herd. Default: 3.", valueName: "N"))
    var rounds: String?

    @Option(name: .customLong("range-size"), help: ArgumentHelp("Of range reads. Default: 1MiB.", valueName: "SIZE"))
    var rangeSize: String?

    @Option(help: ArgumentHelp("Of the mixed workload. Default: 4.", valueName: "N"))
    var images: String?

    @Option(name: .customLong("image-size"), help: ArgumentHelp("About. Default: 64MiB.", valueName: "SIZE"))
    var imageSize: String?

    @Option(help: ArgumentHelp("Hexadecimal; the same gives the same content. Default: a new one.", valueName: "SEED"))
    var seed: String?

    @Option(help: ArgumentHelp("Push what is pulled there, and pull it through URL.", valueName: "URL"))
    var origin: String?

    @Option(help: ArgumentHelp("Where content goes. Default: forebay-bench.", valueName: "NAME"))
    var repository: String?

    @Option(help: ArgumentHelp("A file with name:password.", valueName: "FILE"))
    var credentials: String?

    @Option(name: .customLong("origin-credentials"), help: ArgumentHelp("The same for --origin.", valueName: "FILE"))
    var originCredentials: String?

    @Option(
        name: .customLong("ca-file"),
        help: ArgumentHelp("A PEM file of the authorities to trust instead of the system's.", valueName: "FILE")
    )
    var caFile: String?

    @Flag(name: .customLong("no-verify"), help: "Do not compare what is pulled: measures the server alone.")
    var noVerify = false

    @Flag(help: "Do not delete what was pushed.")
    var keep = false

    @Flag(
        name: .customLong("no-push"),
        help: "Push and delete nothing: the content of --seed is there, from a run of one workload with --keep."
    )
    var noPush = false

    @Option(
        help: ArgumentHelp("What the run is called beside others. Default: URL without http://.", valueName: "TEXT")
    )
    var label: String?

    @Option(help: ArgumentHelp("Write everything as JSON; - is standard output.", valueName: "FILE"))
    var json: String?

    @Option(help: ArgumentHelp("Write a page with plots; - is standard output.", valueName: "FILE.html"))
    var report: String?

    func run() async throws {
        let plan = try plan()
        let outputs = try outputs()
        let stop = StopFlag()
        stopOnSignal(stop)
        // With the terminal goes whoever reads, and there is still something to delete.
        ignoreBrokenPipes()
        limitMemoryArenas()
        _ = raiseOpenFileLimit()
        let progress = ProgressLine(isForTerminalsOnly: true)
        let result: RunReport
        do {
            let run = try Run(plan, program: "forebay \(Forebay.version)", stop: stop, progress: progress.show)
            result = try run.execute()
        } catch {
            progress.end()
            throw Unavailable(description: error.description)
        }
        progress.clear()
        try show(result, outputs)
        endProcess(status: result.isInterrupted ? .interrupted : result.isFlawless ? .success : .failure)
    }

    /// All that have a place get their result, whatever becomes of the others.
    private func show(_ result: RunReport, _ outputs: [Output]) throws {
        var results: [(Output, [UInt8])] = []
        if outputs.contains(where: \.isStandardOutput) {
            writeToStandardError(result.table())
        } else {
            results.append((.standard, Array(result.table().utf8)))
        }
        if let json { results.append((Output(json), result.json())) }
        if let report { results.append((Output(report), Array(ReportPage([result]).html.utf8))) }
        var failure: (any Error)?
        for (output, bytes) in results {
            do {
                try output.write(bytes)
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    private func outputs() throws -> [Output] {
        let outputs = [json, report].compactMap { $0.map(Output.init) }
        let places = Set(outputs.map(\.place))
        guard places.count == outputs.count else { throw Misuse("--json and --report name the same place") }
        for output in outputs { try output.check() }
        return outputs
    }

    private func stopOnSignal(_ stop: StopFlag) {
        let signals = Signals()
        spawnThread(name: "bench-signals") {
            _ = signals.wait()
            writeToStandardError("\nstopping; what was pushed is deleted. Again ends at once.\n")
            stop.set()
            signals.endProcessOnNext()
        }
    }
}

// MARK: - From flags to a plan

extension BenchRun {
    private func plan() throws -> Plan {
        var plan = Plan(target: try target(url), seed: SystemRandom().next())
        if let seed {
            guard let value = UInt64(seed, radix: 16) else {
                throw invalid("seed", seed, "no seed: write up to 16 hexadecimal digits")
            }
            plan.seed = value
        }
        plan.origin = try origin.map(target)
        if let repository {
            do {
                plan.repository = try RepositoryName(repository).description
            } catch {
                throw Misuse("--repository: \(error)")
            }
        }
        if let workloads {
            plan.workloads = try list(
                "workloads",
                workloads,
                "no workload; there are \(Workload.allCases.map(\.rawValue).joined(separator: ", "))"
            ) { Workload(rawValue: $0) }
        }
        if let size { plan.sizes = try list("size", size, Self.noSize, Values.size) }
        if let clients { plan.clients = try list("clients", clients, "no number", Values.count) }
        try apply("count", count, "no number", Values.count) { plan.count = $0 }
        try apply("requests", requests, "no number", Values.count) { plan.requests = $0 }
        try apply("rounds", rounds, "no number", Values.count) { plan.rounds = $0 }
        try apply("images", images, "no number", Values.count) { plan.images = $0 }
        try apply("range-size", rangeSize, Self.noSize, Values.size) { plan.rangeSize = $0 }
        try apply("image-size", imageSize, Self.noSize, Values.size) { plan.imageSize = $0 }
        try apply("duration", duration, Self.noTime, Values.duration) { plan.seconds = $0 / .seconds(1) }
        try apply("request-timeout", requestTimeout, Self.noTime, Values.duration) {
            plan.requestSeconds = $0 / .seconds(1)
        }
        plan.rate = rate
        plan.isVerified = !noVerify
        plan.isKept = keep
        plan.isPushed = noPush
        guard !noPush || seed != nil else { throw Misuse("--no-push needs the --seed of the run that pushed") }
        plan.certificateAuthorityFile = try caFile.map(authorities)
        plan.label = label ?? plan.label
        plan.credentials = try credentials("credentials", credentials, "FOREBAY_BENCH_CREDENTIALS")
        plan.originCredentials = try credentials(
            "origin-credentials",
            originCredentials,
            "FOREBAY_BENCH_ORIGIN_CREDENTIALS"
        )
        do {
            try plan.check()
        } catch {
            throw Misuse(error.description)
        }
        return plan
    }

    private func target(_ text: String) throws -> Target {
        do {
            return try Target(text)
        } catch {
            throw Misuse(error.description)
        }
    }

    /// From the file, else from the environment; neither is ever shown.
    private func credentials(_ flag: String, _ path: String?, _ variable: String) throws -> BenchCredentials? {
        guard let path else {
            guard let value = processEnvironment()[variable] else { return nil }
            guard let credentials = BenchCredentials(value) else {
                throw Misuse("\(variable) must hold name:password")
            }
            return credentials
        }
        let bytes = try contents(flag, path)
        guard let credentials = BenchCredentials(String(decoding: bytes, as: UTF8.self)) else {
            throw Misuse("--\(flag): the first line of \(path) must be name:password")
        }
        return credentials
    }

    /// What holds none would fail only at the first handshake.
    private func authorities(_ path: String) throws -> String {
        let text = String(decoding: try contents("ca-file", path), as: UTF8.self)
        guard text.contains("-----BEGIN ") else {
            throw Misuse("--ca-file: \(path) holds no certificate in PEM form")
        }
        return path
    }

    private func contents(_ flag: String, _ path: String) throws -> [UInt8] {
        do {
            return try readWhole(path)
        } catch {
            throw Misuse("--\(flag): \(error)")
        }
    }

    private static let noSize = "no size; examples: 4KiB, 16MiB"
    private static let noTime = "no time; examples: 500ms, 10s, 2m"

    private func invalid(_ flag: String, _ text: String, _ form: String) -> Misuse {
        Misuse("--\(flag): '\(text)' is \(form)")
    }

    private func list<Value>(
        _ flag: String,
        _ text: String,
        _ form: String,
        _ read: (String) -> Value?
    ) throws -> [Value] {
        try text.split(separator: ",").map { part in
            guard let value = read(String(part)) else { throw invalid(flag, String(part), form) }
            return value
        }
    }

    private func apply<Value>(
        _ flag: String,
        _ text: String?,
        _ form: String,
        _ read: (String) -> Value?,
        to assign: (Value) -> Void
    ) throws {
        guard let text else { return }
        guard let value = read(text) else { throw invalid(flag, text, form) }
        assign(value)
    }
}

/// What flags cannot mean, and which help tells what they can.
struct Misuse: Error, CustomStringConvertible {
    let reason: String

    init(_ reason: String) { self.reason = reason }

    var description: String { "\(reason); see 'forebay bench run --help'" }
}

/// A file that somebody named.
func readWhole(_ path: String) throws(Unavailable) -> [UInt8] {
    let bytes: [UInt8]?
    do throws(FileError) {
        bytes = try LocalFileSystem().contents(at: path)
    } catch {
        throw Unavailable(description: error.isDirectory ? "\(path) is a directory" : error.description)
    }
    guard let bytes else { throw Unavailable(description: "\(path): no such file") }
    return bytes
}
