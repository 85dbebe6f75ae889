internal import Histogram

/// Latencies in microseconds, to three digits, up to an hour (HdrHistogram).
struct LatencyHistogram: Sendable {
    private static let highest: UInt64 = 3_600_000_000

    private var counts = Histogram<UInt64>(highestTrackableValue: highest, numberOfSignificantValueDigits: .three)

    var count: Int { Int(counts.totalCount) }

    /// What is above an hour counts as an hour.
    mutating func record(_ latency: Duration, count: Int = 1) {
        let (seconds, attoseconds) = latency.components
        let microseconds = max(0, seconds) * 1_000_000 + max(0, attoseconds / 1_000_000_000_000)
        counts.record(min(UInt64(microseconds), Self.highest), count: UInt64(count))
    }

    mutating func add(_ other: LatencyHistogram) { counts.add(other.counts) }

    /// Adds what `other` has above a limit.
    mutating func add(_ other: LatencyHistogram, above microseconds: UInt64) {
        for step in other.counts.recordedValues() where step.value > microseconds {
            counts.record(step.value, count: step.count)
        }
    }

    func microseconds(atPercentile percentile: Double) -> UInt64 { counts.valueAtPercentile(percentile) }

    /// As it would look had every client gone on asking at its usual pace while one answer was late.
    ///
    /// For clients that ask as soon as they have been answered: a stall then shows once, though it would have met every request of that time.
    /// What is missing is filled in as HdrHistogram does.
    ///
    /// - Parameter interval: in which a client asks, in microseconds; `nil` is the median.
    func corrected(interval: UInt64? = nil) -> LatencyHistogram {
        let interval = interval ?? microseconds(atPercentile: 50)
        guard interval > 0, counts.max >= 2 * interval else { return self }
        var corrected = LatencyHistogram()
        for step in counts.recordedValues() {
            let value = counts.medianEquivalentForValue(step.value)
            corrected.counts.recordCorrectedValue(value, count: step.count, expectedInterval: interval)
        }
        return corrected
    }

    func summary() -> Latency? {
        guard count > 0 else { return nil }
        return Latency(
            count: count,
            mean: counts.mean.rounded(toPlaces: 1),
            min: counts.min,
            p50: microseconds(atPercentile: 50),
            p90: microseconds(atPercentile: 90),
            p95: microseconds(atPercentile: 95),
            p99: microseconds(atPercentile: 99),
            p999: microseconds(atPercentile: 99.9),
            max: counts.max,
            curve: curve()
        )
    }

    /// Five points each time that half of the rest is left; as many as there are values to tell apart.
    private func curve() -> [Latency.Point] {
        var points: [Latency.Point] = []
        for step in counts.percentiles(ticksPerHalfDistance: 5) where points.last?.percentile != step.percentile {
            points.append(Latency.Point(percentile: step.percentile, microseconds: step.value))
        }
        return points
    }
}

extension Double {
    /// Digits that mean nothing are left out of reports.
    func rounded(toPlaces places: Int) -> Double {
        var factor = 1.0
        for _ in 0..<places { factor *= 10 }
        return (self * factor).rounded() / factor
    }
}
