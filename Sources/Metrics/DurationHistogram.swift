internal import Threading

/// How long things took: for each of some rows, how many ended within which bound.
public final class DurationHistogram: Sendable {
    /// Upper bounds, in nanoseconds.
    public static let bounds: [UInt64] = [
        50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000,
        100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
        30_000_000_000, 60_000_000_000,
    ]
    /// Beside the bounds: what took longer, and the sum.
    private static let width = bounds.count + 2

    private let cells: StripedCounters
    public let rows: Int

    public init(rows: Int) {
        self.rows = rows
        cells = StripedCounters(count: rows * Self.width)
    }

    public func record(_ nanoseconds: UInt64, row: Int) {
        let start = row * Self.width
        cells.add(at: start + bucket(nanoseconds))
        cells.add(nanoseconds, at: start + Self.width - 1)
    }

    private func bucket(_ nanoseconds: UInt64) -> Int {
        var bucket = 0
        while bucket < Self.bounds.count, nanoseconds > Self.bounds[bucket] { bucket += 1 }
        return bucket
    }

    /// How many ended within each bound, all told, and their sum in nanoseconds.
    public func snapshot(row: Int) -> (cumulative: [UInt64], count: UInt64, nanoseconds: UInt64) {
        let start = row * Self.width
        var sum: UInt64 = 0
        let cumulative = (0...Self.bounds.count).map { index -> UInt64 in
            sum += cells[start + index]
            return sum
        }
        return (Array(cumulative.dropLast()), sum, cells[start + Self.width - 1])
    }
}
