/// Which bytes of a blob have landed, which are on their way, and what to fetch next.
struct PartMap: Sendable {
    /// A part that a reader waits for begins at a multiple of this.
    static let alignmentBytes: Int64 = 64 << 10

    let size: Int64
    let partBytes: Int64
    private(set) var landed = ByteRanges()
    /// Landed or on their way.
    private var taken = ByteRanges()

    init(size: Int64, partBytes: Int64, landed ranges: [Range<Int64>] = []) {
        self.size = size
        self.partBytes = partBytes
        for range in ranges { land(range) }
    }

    /// Bytes still to fetch.
    var restBytes: Int64 { size - landed.bytes }

    /// How many parts nobody fetches yet.
    var openParts: Int {
        taken.gaps(below: size).reduce(0) { sum, gap in
            sum + Int((gap.upperBound - gap.lowerBound + partBytes - 1) / partBytes)
        }
    }

    /// Nobody fetches the byte at `offset`, and it is not there.
    func isOpen(_ offset: Int64) -> Bool { taken.gap(at: offset, below: size) != nil }

    /// The part with the byte at `offset`, which is on its way from now on; `nil` when it already was.
    mutating func claim(at offset: Int64) -> Range<Int64>? {
        guard let gap = taken.gap(at: offset, below: size) else { return nil }
        let start = max(gap.lowerBound, offset / Self.alignmentBytes * Self.alignmentBytes)
        let part = start..<min(gap.upperBound, start + partBytes)
        take(part)
        return part
    }

    /// The first part that nobody fetches.
    mutating func claimFirst() -> Range<Int64>? {
        guard let gap = taken.gaps(below: size).first else { return nil }
        let part = gap.lowerBound..<min(gap.upperBound, gap.lowerBound + partBytes)
        take(part)
        return part
    }

    /// This part is on its way.
    mutating func take(_ part: Range<Int64>) {
        taken.insert(part)
    }

    mutating func land(_ range: Range<Int64>) {
        landed.insert(range)
        taken.insert(range)
    }

    /// These bytes are to be fetched again.
    mutating func forget(_ range: Range<Int64>) {
        landed.remove(range)
        taken.remove(range)
    }

    /// These bytes do not come after all.
    mutating func giveBack(_ range: Range<Int64>) {
        taken.remove(range)
    }
}
