/// A set of byte offsets: sorted half-open ranges that neither touch nor overlap.
struct ByteRanges: Sendable, Equatable {
    private(set) var ranges: [Range<Int64>] = []

    /// How many bytes it holds.
    var bytes: Int64 { ranges.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) } }

    mutating func insert(_ range: Range<Int64>) {
        guard !range.isEmpty else { return }
        let first = ranges.firstIndex { $0.upperBound >= range.lowerBound } ?? ranges.count
        let end = ranges[first...].firstIndex { $0.lowerBound > range.upperBound } ?? ranges.count
        var merged = range
        for neighbour in ranges[first..<end] {
            merged = min(merged.lowerBound, neighbour.lowerBound)..<max(merged.upperBound, neighbour.upperBound)
        }
        ranges.replaceSubrange(first..<end, with: [merged])
    }

    mutating func remove(_ range: Range<Int64>) {
        guard !range.isEmpty else { return }
        ranges = ranges.flatMap { held -> [Range<Int64>] in
            guard held.overlaps(range) else { return [held] }
            let before = held.lowerBound..<max(held.lowerBound, range.lowerBound)
            let after = min(held.upperBound, range.upperBound)..<held.upperBound
            return [before, after].filter { !$0.isEmpty }
        }
    }

    /// The range that `offset` lies in; `nil` when it is not held.
    func range(at offset: Int64) -> Range<Int64>? { ranges.first { $0.contains(offset) } }

    /// Where the bytes that begin at `offset` end; `nil` when it is not held.
    func end(from offset: Int64) -> Int64? { range(at: offset)?.upperBound }

    /// What is missing around `offset`, below `size`; `nil` when it is held.
    func gap(at offset: Int64, below size: Int64) -> Range<Int64>? {
        guard offset < size, !ranges.contains(where: { $0.contains(offset) }) else { return nil }
        let start = ranges.last { $0.upperBound <= offset }?.upperBound ?? 0
        let end = ranges.first { $0.lowerBound > offset }?.lowerBound ?? size
        return start..<min(end, size)
    }

    /// All that is missing below `size`.
    func gaps(below size: Int64) -> [Range<Int64>] {
        var gaps: [Range<Int64>] = []
        var position: Int64 = 0
        for range in ranges where range.lowerBound < size {
            if range.lowerBound > position { gaps.append(position..<range.lowerBound) }
            position = range.upperBound
        }
        if position < size { gaps.append(position..<size) }
        return gaps
    }
}
