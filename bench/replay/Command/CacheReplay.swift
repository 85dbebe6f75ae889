internal import ArgumentParser
internal import DiskTier
internal import System
internal import TraceReplay

@main
struct CacheReplay: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache-replay",
        abstract: "Replay request traces against the eviction policies of the disk tier.",
        discussion: """
            Without a file, the generated workloads are replayed. The table has, for each workload, size of the cache and policy, the \
            means over all seeds: the share of bytes and of requests that the cache answers, the bytes that the origin is saved, the \
            share of what the offline optimum (Belady by bytes) saves, and the points of byte hit ratio above LRU. The last lines have \
            the means over all sizes, and what the worst seed gives.
            """
    )

    @Option(help: "Sizes of the cache, in percent of all bytes that are asked for.")
    var sizes = "2,5,10"

    @Option(help: "Seeds of the generated workloads.")
    var seeds = "1,2,3,4,5"

    @Argument(help: "CSV files of seconds,blob,bytes to replay instead.")
    var files: [String] = []

    func run() throws {
        let percents = try numbers(sizes, "--sizes", 1...100)
        let seeds = try numbers(seeds, "--seeds", 0...Int64.max)
        print(Table.heading)
        print(Table.rule)
        var summary = Summary()
        if files.isEmpty {
            for workload in Workload.allCases {
                let traces = seeds.map { workload.trace(seed: UInt64($0)) }
                for percent in percents { summary.add(report(traces, percent), workload.rawValue) }
            }
        }
        for file in files {
            let name = String(file.split(separator: "/").last ?? "")
            let trace = try Trace(name: name, csv: read(file))
            for percent in percents { summary.add(report([trace], percent), name) }
        }
        print("")
        for line in summary.lines { print(line) }
    }

    private func numbers(_ text: String, _ name: String, _ range: ClosedRange<Int64>) throws -> [Int64] {
        try text.split(separator: ",").map { part in
            guard let number = Int64(part), range.contains(number) else {
                throw ValidationError(
                    "\(name): '\(part)' is not a number from \(range.lowerBound) to \(range.upperBound)"
                )
            }
            return number
        }
    }

    private func read(_ path: String) throws -> String {
        guard let bytes = try LocalFileSystem().contents(at: path) else {
            throw ValidationError("\(path): there is no such file")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Prints the lines of one size of the cache.
    private func report(_ traces: [Trace], _ percent: Int64) -> [Line] {
        let shapes = traces.map { CacheShape(capacityBytes: $0.footprintBytes / 100 * percent) }
        let optima = zip(traces, shapes).map { Optimum.belady($0, $1) }
        let bounds = zip(traces, shapes).map { Optimum.bound($0, $1) }
        var lines: [Line] = []
        for name in EvictionPolicyName.allCases {
            let figures = zip(traces, shapes).map { trace, shape in
                var replay = Replay(name, shape)
                return replay.run(trace)
            }
            lines.append(Line(name.rawValue, figures, optima, above: lines.first))
        }
        lines.append(Line("optimum", optima, optima, above: lines.first))
        for line in lines {
            print(Table.row(traces[0].name, percent, line))
        }
        print("| \(traces[0].name) | \(percent)% | (bound) | \(Table.percent(mean(bounds))) | | | | |")
        return lines
    }
}

/// The means over several seeds.
struct Line {
    let policy: String
    let requestHitRatio: Double
    let savedBytes: Double
    let shareOfOptimum: Double
    /// In the byte hit ratio, for each seed.
    let aboveLRU: [Double]
    private let byteHitRatios: [Double]

    var byteHitRatio: Double { mean(byteHitRatios) }

    init(_ policy: String, _ figures: [Figures], _ optima: [Figures], above base: Line?) {
        self.policy = policy
        let ratios = figures.map(\.byteHitRatio)
        byteHitRatios = ratios
        requestHitRatio = mean(figures.map(\.requestHitRatio))
        savedBytes = mean(figures.map { Double($0.hitBytes) })
        shareOfOptimum = mean(zip(figures, optima).map { $0.byteHitRatio / max(1e-9, $1.byteHitRatio) })
        aboveLRU = zip(ratios, base?.byteHitRatios ?? ratios).map { $0 - $1 }
    }
}

func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(max(1, values.count)) }

enum Table {
    static let heading =
        "| trace | cache | policy | bytes hit | requests hit | origin GB saved | of optimum | above LRU |"
    static let rule = "|---|---|---|---|---|---|---|---|"

    static func row(_ trace: String, _ percent: Int64, _ line: Line) -> String {
        let cells = [
            trace, "\(percent)%", line.policy, Table.percent(line.byteHitRatio), Table.percent(line.requestHitRatio),
            tenths(line.savedBytes / 1e9), Table.percent(line.shareOfOptimum), tenths(mean(line.aboveLRU) * 100),
        ]
        return "| " + cells.joined(separator: " | ") + " |"
    }

    static func percent(_ ratio: Double) -> String { tenths(ratio * 100) + "%" }

    static func tenths(_ number: Double) -> String {
        let tenths = Int((number.magnitude * 10).rounded())
        return "\(number < 0 && tenths > 0 ? "-" : "")\(tenths / 10).\(tenths % 10)"
    }
}

/// Over all sizes of the cache.
struct Summary {
    private var entries: [(trace: String, line: Line)] = []

    mutating func add(_ lines: [Line], _ trace: String) { entries += lines.map { (trace, $0) } }

    var lines: [String] {
        let names = EvictionPolicyName.allCases.map(\.rawValue) + ["optimum"]
        return names.map { name in
            let own = entries.filter { $0.line.policy == name }
            var traces: [String] = []
            for entry in own where !traces.contains(entry.trace) { traces.append(entry.trace) }
            let above = traces.map { trace in "\(trace) \(points(own.filter { $0.trace == trace }.map(\.line)))" }
            let share = Table.percent(mean(own.map(\.line.shareOfOptimum)))
            return "\(name): \(share) of the optimum on average; points above LRU: \(above.joined(separator: ", "))"
        }
    }

    /// The mean over sizes and seeds, and that of the worst seed.
    private func points(_ lines: [Line]) -> String {
        let seeds = lines[0].aboveLRU.indices.map { seed in mean(lines.map { $0.aboveLRU[seed] * 100 }) }
        let worst = seeds.min() ?? 0
        return "\(Table.tenths(mean(seeds))) (\(Table.tenths(worst)))"
    }
}
