internal import ObjectStorage

/// How an upload of unknown length is cut: each thousand parts are twice as large as the ones before, so that 10,000 are always enough.
///
/// With parts of 16 MiB at first, uploads up to 15 GiB have equal parts, as some stores want them.
struct PartGrid: Sendable, Equatable {
    private static let step = 1_000

    /// Of the first parts.
    let partBytes: Int64

    /// Where a part lies, counted from 0.
    func range(_ index: Int) -> Range<Int64> {
        let (doublings, rest) = (index / Self.step, Int64(index % Self.step))
        let length = partBytes << Int64(doublings)
        let start = Int64(Self.step) * partBytes * ((1 << Int64(doublings)) - 1) + rest * length
        return start..<start + length
    }

    /// The part that a byte lies in.
    func index(of offset: Int64) -> Int {
        var doublings = 0
        while range((doublings + 1) * Self.step).lowerBound <= offset { doublings += 1 }
        let first = range(doublings * Self.step)
        return doublings * Self.step + Int((offset - first.lowerBound) / (first.upperBound - first.lowerBound))
    }

    /// Where the part begins that a byte lies in.
    func start(of offset: Int64) -> Int64 { range(index(of: offset)).lowerBound }
}
