internal import DiskTier

/// Which bytes of a blob have landed, which are on their way, and what to fetch next.
struct PartMap: Sendable {
    /// A part that a reader waits for begins at a multiple of this.
    static let alignmentBytes: Int64 = 64 << 10
    /// A part is not cut nearer to what has landed of it: the transfer may hold a block, and must learn of the cut before it comes there.
    static let cutDistanceBytes = 2 * FillNote.unitBytes

    /// Where bytes come from.
    enum Part: Sendable {
        case missing(Range<Int64>)
        /// An earlier run has noted that they are in the file, which is to be proved.
        case noted(Range<Int64>)
    }

    let size: Int64
    let partBytes: Int64
    private(set) var landed = ByteRanges()
    /// Whole blocks of a note that nobody proves yet.
    private(set) var noted = ByteRanges()
    /// Landed, noted or on their way.
    private var taken = ByteRanges()
    /// The parts on their way, each with its own transfer: where they begin and end.
    private var flying: [Int64: Int64] = [:]

    init(size: Int64, partBytes: Int64) {
        self.size = size
        self.partBytes = partBytes
    }

    /// Bytes that have not landed.
    var restBytes: Int64 { size - landed.bytes }

    /// Bytes still to fetch.
    var missingBytes: Int64 { restBytes - noted.bytes }

    /// How many parts nobody fetches yet.
    var openParts: Int {
        (taken.gaps(below: size) + noted.ranges).reduce(0) { sum, gap in
            sum + Int((gap.upperBound - gap.lowerBound + partBytes - 1) / partBytes)
        }
    }

    /// Nobody sees to the byte at `offset`, and it is not there.
    func isOpen(_ offset: Int64) -> Bool {
        taken.gap(at: offset, below: size) != nil || noted.range(at: offset) != nil
    }

    /// The part with the byte at `offset`, which is on its way from now on; `nil` when it already was.
    ///
    /// - Parameter limit: of what was noted, in bytes.
    mutating func claim(at offset: Int64, limit: Int64 = .max) -> Part? {
        if let run = noted.range(at: offset) { return claim(run, from: offset, limit: limit) }
        guard let gap = taken.gap(at: offset, below: size) else { return nil }
        let start = max(gap.lowerBound, offset / Self.alignmentBytes * Self.alignmentBytes)
        return claim(gap, from: start)
    }

    /// The first part that nobody sees to.
    mutating func claimFirst() -> Part? {
        let (gap, run) = (taken.gaps(below: size).first, noted.ranges.first)
        if let run, run.lowerBound < gap?.lowerBound ?? .max { return claim(run, from: run.lowerBound, limit: .max) }
        return gap.map { claim($0, from: $0.lowerBound) }
    }

    private mutating func claim(_ gap: Range<Int64>, from start: Int64) -> Part {
        let part = start..<min(gap.upperBound, start + partBytes)
        take(part)
        return .missing(part)
    }

    /// Blocks are claimed as a whole. None crosses a multiple of the unit.
    private mutating func claim(_ run: Range<Int64>, from offset: Int64, limit: Int64) -> Part {
        let unit = FillNote.unitBytes
        let first = offset / unit
        let units = max(1, min(limit, partBytes) / unit)
        let part = max(run.lowerBound, first * unit)..<min(run.upperBound, (first + units) * unit)
        noted.remove(part)
        return .noted(part)
    }

    /// This part is on its way.
    mutating func take(_ part: Range<Int64>) {
        guard !part.isEmpty else { return }
        taken.insert(part)
        flying[part.lowerBound] = part.upperBound
    }

    /// Where a part on its way ends.
    func endOfPart(at start: Int64) -> Int64? { flying[start] }

    /// No more comes of a part on its way than up to `position`.
    mutating func finishPart(at start: Int64, upTo position: Int64) {
        guard let end = flying.removeValue(forKey: start), position < end else { return }
        giveBack(position..<end)
    }

    /// How much the transfer that is to bring the byte at `offset` has to bring before it; `nil` when it is not on its way.
    func distance(to offset: Int64) -> Int64? {
        guard let start = flying.first(where: { $0.key <= offset && offset < $0.value })?.key else { return nil }
        return offset - (landed.end(from: start) ?? start)
    }

    /// Lets another transfer bring the byte at `offset`, and what follows of its part. False when that does not pay: it is near.
    mutating func cut(at offset: Int64) -> Bool {
        let cut = offset / Self.alignmentBytes * Self.alignmentBytes
        guard let (start, end) = flying.first(where: { $0.key < cut && cut < $0.value }),
            cut - (landed.end(from: start) ?? start) >= Self.cutDistanceBytes
        else { return false }
        flying[start] = cut
        giveBack(cut..<end)
        return true
    }

    /// Ends a part on its way with the block at `position`.
    mutating func cutPart(at start: Int64, behind position: Int64) {
        let cut = (position + FillNote.unitBytes - 1) / FillNote.unitBytes * FillNote.unitBytes
        guard let end = flying[start], cut < end else { return }
        flying[start] = cut
        giveBack(cut..<end)
    }

    mutating func land(_ range: Range<Int64>) {
        landed.insert(range)
        taken.insert(range)
    }

    /// These bytes may be in the file.
    mutating func note(_ range: Range<Int64>) {
        noted.insert(range)
        taken.insert(range)
    }

    /// These bytes do not come after all.
    mutating func giveBack(_ range: Range<Int64>) {
        taken.remove(range)
    }
}
