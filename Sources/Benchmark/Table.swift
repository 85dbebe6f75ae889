internal import System

extension RunReport {
    /// The rows as columns of text, with the notes below.
    public func table() -> String {
        let head = [
            "workload", "of", "clients", "done", "errors", "MiB/s", "ops/s", "p50", "p90", "p99", "p99.9", "max",
            "client CPU",
        ]
        var text = rows.isEmpty ? [] : Self.aligned([head] + rows.map(Self.cells), left: 2)
        text.append(rows.isEmpty ? "Nothing was measured. seed \(seed)." : legend)
        if isInterrupted {
            let what = ": the last row is of the time until then, and what was to follow is missing"
            text.append("Ended early\(rows.isEmpty ? "" : what).")
        }
        text += notes.map { "- \(printable($0))" }
        return text.joined(separator: "\n") + "\n"
    }

    /// The rows of several runs beside each other: how fast, and how many times as fast as the first run that has the row.
    public static func comparison(_ runs: [RunReport]) -> String {
        let head = ["workload", "of", "clients", "run", "errors", "MiB/s", "ops/s", "", "p50", "p99", "max"]
        var keys: [Key] = []
        for key in runs.flatMap({ $0.rows.map(Key.init) }) where !keys.contains(key) { keys.append(key) }
        let early = runs.filter(\.isInterrupted).map(\.label)
        let ends = early.isEmpty ? [] : ["Ended early: \(printable(early.joined(separator: ", ")))."]
        guard !keys.isEmpty else { return (["Nothing was measured."] + ends).joined(separator: "\n") + "\n" }
        let lines = keys.flatMap { key in
            let entries = runs.flatMap { run in run.rows.filter { Key($0) == key }.map { (run.label, $0) } }
            return entries.map { label, row in
                let first = entries[0].1
                let isInBytes = Double(first.bytes) >= 32_768 * Double(first.operations)
                let (own, base) =
                    isInBytes
                    ? (row.mibPerSecond, first.mibPerSecond) : (row.operationsPerSecond, first.operationsPerSecond)
                let isPart = row.isPart == true
                let times = [row.latency?.p50, row.latency?.p99, row.latency?.max].map { $0.map(timeText) ?? "–" }
                return [row.title, key.detail, String(key.clients), label, String(row.errorCount)]
                    + [row.bytes > 0 ? numberText(row.mibPerSecond) : "–", row.operationsText]
                    + [base > 0 && !isPart ? "\(numberText(own / base)) ×" : "–"] + times
            }
        }
        let legend =
            "× compares the throughput with the first run's: in bytes where operations have 32 KiB or more, else in operations. "
            + "What is at a rate was asked for at that rate (open loop)."
        return (aligned([head] + lines, left: 2) + [legend] + ends).joined(separator: "\n") + "\n"
    }

    private struct Key: Equatable {
        let name, detail: String
        let clients: Int
        let loop: Loop
        let rate: Double?

        init(_ row: Row) {
            (name, detail, clients) = (row.name, row.detail, row.clients)
            (loop, rate) = (row.loop, row.rate)
        }
    }

    /// Columns below each other, the first so many to the left. Their text may be that of others.
    private static func aligned(_ lines: [[String]], left: Int) -> [String] {
        let lines = lines.map { $0.map(printable) }
        let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        return lines.map { line in
            zip(line, widths).enumerated().map { column, cell in
                let padding = String(repeating: " ", count: cell.1 - cell.0.count)
                return column < left ? cell.0 + padding : padding + cell.0
            }.joined(separator: "  ")
        }
    }

    private static func cells(_ row: Row) -> [String] {
        let latency = row.latency
        let latencies = [latency?.p50, latency?.p90, latency?.p99, latency?.p999, latency?.max].map {
            $0.map(timeText) ?? "–"
        }
        return [row.title, row.detail, String(row.clients), String(row.operations), String(row.errorCount)]
            + [row.bytes > 0 ? numberText(row.mibPerSecond) : "–", row.operationsText]
            + latencies + [row.clientCPUSeconds > 0 ? "\(withoutZero((row.clientCores * 100).rounded())) %" : "–"]
    }

    private var legend: String {
        let loops = Set(rows.map(\.loop))
        var sentences: [String] = []
        if loops.contains(.closed) {
            sentences.append(
                "closed loop, corrected for coordinated omission where each client asked ten times or more"
            )
        }
        if loops.contains(.open) {
            let parts = rows.contains { $0.isPart == true } ? ", its parts from when they were sent" : ""
            sentences.append("open loop, from the moment when a request was due\(parts)")
        }
        if loops.contains(.burst) { sentences.append("herd, from the common start") }
        if rows.contains(where: { 1..<100 ~= $0.latency?.count ?? 0 }) {
            sentences.append("of fewer than a hundred, the p99 is the slowest")
        }
        if errorCount > 0 { sentences.append("failed operations count where they took longer than the median") }
        let compared = isVerified ? " Every byte was compared." : " Bytes were not compared."
        return "latencies: \(sentences.joined(separator: "; ")). seed \(seed)." + (hasPulled ? compared : "")
    }

    private var hasPulled: Bool { rows.contains { $0.name != Workload.push.title && $0.bytes > 0 } }
}

extension RunReport.Row {
    fileprivate var title: String { rate.map { "\(name) at \(numberText($0))/s" } ?? name }

    /// How often a part comes is the pace of the whole.
    fileprivate var operationsText: String { isPart == true ? "–" : numberText(operationsPerSecond) }
}

/// `870 µs`, `12.3 ms`, `4.56 s`.
func timeText(_ microseconds: UInt64) -> String {
    switch microseconds {
    case ..<1_000: "\(microseconds) µs"
    case ..<1_000_000: "\(numberText(Double(microseconds) / 1_000)) ms"
    default: "\(numberText(Double(microseconds) / 1_000_000)) s"
    }
}

/// Three digits, or all before the point.
func numberText(_ value: Double) -> String {
    switch value {
    case ..<10: withoutZero(value.rounded(toPlaces: 2))
    case ..<100: withoutZero(value.rounded(toPlaces: 1))
    default: withoutZero(value.rounded())
    }
}
