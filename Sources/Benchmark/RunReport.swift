internal import FoundationEssentials

/// What a run found: the form of `--json`.
public struct RunReport: Codable, Sendable, Equatable {
    /// The number that changes when a reader of the old form would go wrong.
    public static let currentFormat = 1

    public var format = currentFormat
    /// How the run is called beside others.
    public var label: String
    public var target: String
    /// Where what was pulled had been pushed, when not to the target.
    public var origin: String?
    public var repository: String
    /// Hexadecimal. The same seed gives the same content.
    public var seed: String
    /// UTC (RFC 3339).
    public var startedAt: String
    public var program: String
    /// Of the client: processor, cores, memory, kernel; or what else describes a run.
    public var machine: [String: String]
    /// What was asked for, as it is shown: with the seed, enough to do the same again.
    public var plan: [String: String]?
    /// Whether every byte that came was compared.
    public var isVerified: Bool
    public var isInterrupted: Bool
    public var rows: [Row]
    public var notes: [String]
    /// What the run was to reach beside others, where somebody says so.
    public var goals: [Goal]?
    /// Objects that should have been deleted and are there still, or may be.
    public var left: Int?

    public init(
        label: String,
        target: String,
        origin: String? = nil,
        repository: String,
        seed: String,
        startedAt: String,
        program: String,
        machine: [String: String] = [:],
        isVerified: Bool = true,
        rows: [Row] = [],
        notes: [String] = []
    ) {
        self.label = label
        self.target = target
        self.origin = origin
        self.repository = repository
        self.seed = seed
        self.startedAt = startedAt
        self.program = program
        self.machine = machine
        self.isVerified = isVerified
        isInterrupted = false
        self.rows = rows
        self.notes = notes
    }

    public var errorCount: Int { sum(rows.map { $0.isPart == true ? 0 : $0.errorCount }) }
    /// No operation failed, and nothing is left behind.
    public var isFlawless: Bool { errorCount == 0 && (left ?? 0) == 0 }

    /// One workload at one size with one number of clients.
    public struct Row: Codable, Sendable, Equatable {
        /// Such as `warm pull`. Rows of several runs are compared when name, detail, clients, loop and rate are the same.
        public var name: String
        /// Such as `16 MiB`.
        public var detail: String
        public var clients: Int
        /// What takes a part of the time of another row's operations, which have its errors too.
        public var isPart: Bool?
        public var loop: Loop
        /// Operations started in a second, in an open loop.
        public var rate: Double?
        /// Those that succeeded.
        public var operations: Int
        /// Those that failed, by kind.
        public var errors: [String: Int]
        /// Of bodies, in either direction.
        public var bytes: Int64
        public var seconds: Double
        public var mibPerSecond: Double
        public var operationsPerSecond: Double
        /// Corrected for coordinated omission, unless the loop needs no correction.
        public var latency: Latency?
        /// As measured, where the correction changed something.
        public var measuredLatency: Latency?
        public var timeline: [Moment]
        public var clientCPUSeconds: Double
        /// When and how it was measured, where that was in an earlier run than the report's.
        public var measured: String?
        /// Further columns, such as what the server took.
        public var figures: [Figure]?
    }

    /// When requests are sent, which tells what a latency means.
    public enum Loop: String, Codable, Sendable {
        /// At a rate, whether or not earlier ones were answered. A latency begins when the request was due.
        case open
        /// As soon as the last one was answered.
        case closed
        /// All at the same moment, from which latencies count.
        case burst
    }

    /// The mean of a stretch of time.
    public struct Moment: Codable, Sendable, Equatable {
        /// The end of it, in seconds from the start of the row.
        public var seconds: Double
        public var mibPerSecond: Double
        public var operationsPerSecond: Double
    }

    /// A figure, mostly a ratio to others in the same round, and its bound.
    public struct Goal: Codable, Sendable, Equatable {
        public var name: String
        /// The row's name, detail and clients.
        public var row: String
        public var against: String
        public var value: Double
        public var low: Double
        public var high: Double
        /// `at least` or `at most`.
        public var bound: String
        public var limit: Double
        public var isMet: Bool
    }

    public struct Figure: Codable, Sendable, Equatable {
        public var name: String
        public var value: Double
        public var low: Double?
        public var high: Double?
    }
}

/// Microseconds.
public struct Latency: Codable, Sendable, Equatable {
    public var count: Int
    public var mean: Double
    public var min: UInt64
    public var p50: UInt64
    public var p90: UInt64
    public var p95: UInt64
    public var p99: UInt64
    public var p999: UInt64
    public var max: UInt64
    /// From the fastest to the slowest.
    public var curve: [Point]

    public struct Point: Codable, Sendable, Equatable {
        public var percentile: Double
        public var microseconds: UInt64
    }
}

extension RunReport.Row {
    public var errorCount: Int { sum(errors.values) }
    /// Cores that the client kept busy.
    public var clientCores: Double { seconds > 0 ? clientCPUSeconds / seconds : 0 }
}

/// What a file says may be anything: no sum of it goes beyond the greatest number.
private func sum(_ counts: some Sequence<Int>) -> Int {
    counts.reduce(0) { sum, count in
        let (next, overflow) = sum.addingReportingOverflow(count)
        return overflow ? .max : next
    }
}

extension RunReport {
    /// One document, keys sorted.
    public func json() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return try [UInt8](encoder.encode(self)) + [UInt8(ascii: "\n")]
        } catch {
            preconditionFailure("a report is not encodable: \(error)")
        }
    }

    /// - Throws: ``UnreadableReport``
    public init(json: [UInt8], name: String) throws(UnreadableReport) {
        do {
            let report = try JSONDecoder().decode(RunReport.self, from: Data(json))
            guard report.format == Self.currentFormat else {
                throw UnreadableReport(name: name, reason: "format \(report.format) is not \(Self.currentFormat)")
            }
            self = report
        } catch let error as UnreadableReport {
            throw error
        } catch {
            throw UnreadableReport(name: name, reason: "it is not what `forebay bench --json` writes")
        }
    }
}

/// A file that is no ``RunReport``.
public struct UnreadableReport: Error, CustomStringConvertible {
    public let name: String
    public let reason: String
    public var description: String { "\(name) cannot be read as a report: \(reason)" }
}
