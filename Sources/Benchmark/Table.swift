extension RunReport {
    /// The rows as columns of text, with the notes below.
    public func table() -> String {
        let head = [
            "workload", "of", "clients", "done", "errors", "MiB/s", "ops/s", "p50", "p90", "p99", "p99.9", "max",
            "client CPU",
        ]
        let lines = [head] + rows.map(Self.cells)
        let widths = head.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        var text = lines.map { line in
            zip(line, widths).enumerated().map { column, cell in
                let padding = String(repeating: " ", count: cell.1 - cell.0.count)
                return column < 2 ? cell.0 + padding : padding + cell.0
            }.joined(separator: "  ")
        }
        text.append(legend)
        text += notes.map { "- \($0)" }
        return text.joined(separator: "\n") + "\n"
    }

    private static func cells(_ row: Row) -> [String] {
        let latency = row.latency
        let latencies = [latency?.p50, latency?.p90, latency?.p99, latency?.p999, latency?.max].map {
            $0.map(timeText) ?? "–"
        }
        return [row.name, row.detail, String(row.clients), String(row.operations), String(row.errorCount)]
            + [row.bytes > 0 ? numberText(row.mibPerSecond) : "–", numberText(row.operationsPerSecond)]
            + latencies + [row.clientCPUSeconds > 0 ? "\(Int((row.clientCores * 100).rounded())) %" : "–"]
    }

    private var legend: String {
        let loops = Set(rows.map(\.loop))
        var sentences: [String] = []
        if loops.contains(.closed) {
            sentences.append(
                "closed loop, corrected for coordinated omission where each client asked ten times or more"
            )
        }
        if loops.contains(.open) { sentences.append("open loop, from the moment when a request was due") }
        if loops.contains(.burst) { sentences.append("herd, from the common start") }
        return "latencies: \(sentences.joined(separator: "; ")). seed \(seed). "
            + (isVerified ? "Every byte was compared." : "Bytes were not compared.")
    }
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
    default: String(Int64(value.rounded()))
    }
}
