/// Where an entry stands in the eviction queue: segments, each in the order of its positions.
package struct QueuePlace: Sendable, Hashable {
    package var segment: UInt8
    package var position: UInt64

    package init(_ segment: UInt8, _ position: UInt64) {
        self.segment = segment
        self.position = position
    }
}

/// What the queue keeps of an entry.
package struct Standing: Sendable, Hashable {
    package var place: QueuePlace
    /// Reads that earlier looks have seen, as far as the policy keeps them.
    package var frequency: UInt8

    package init(_ segment: UInt8, _ position: UInt64, frequency: UInt8 = 0) {
        place = QueuePlace(segment, position)
        self.frequency = frequency
    }
}

/// How an entry was read since eviction last looked at it.
package struct Visits: Sendable, Hashable {
    package var count: Int
    /// The policy's clock at the last of them.
    package var clock: UInt64

    package static let none = Visits(count: 0, clock: 0)

    package init(count: Int, clock: UInt64) {
        self.count = count
        self.clock = clock
    }
}

/// An entry that eviction looks at.
package struct Candidate: Sendable {
    /// Of its key: well mixed.
    package let hash: UInt64
    package let standing: Standing
    /// The blocks that it takes, in bytes.
    package let bytes: Int64
    package let visits: Visits

    package init(hash: UInt64, standing: Standing, bytes: Int64, visits: Visits) {
        self.hash = hash
        self.standing = standing
        self.bytes = bytes
        self.visits = visits
    }
}

/// What becomes of a candidate.
package enum Decision: Sendable, Hashable {
    case evict
    /// It stays where it is, and the hand goes on behind it.
    case spare
    case move(Standing)
}

/// How many bytes each segment of the queue holds.
package struct SegmentBytes: Sendable {
    package static let count: UInt8 = 8
    private var values = InlineArray<8, Int64>(repeating: 0)

    package init() {}

    package subscript(segment: UInt8) -> Int64 {
        get { values[Int(segment)] }
        set { values[Int(segment)] = newValue }
    }

    package var sum: Int64 { values.indices.reduce(0) { $0 + values[$1] } }
}

/// Decides what is evicted. A pure value: the same over the index of a tier and over a queue in memory.
///
/// The order is lazy. A place is what an entry deserved when it was last looked at; a hit writes nothing, and what was read meanwhile is told
/// by ``Visits`` when the hand comes by. So the queue is written to when something enters or is looked at, never for a hit.
package protocol EvictionPolicy: Sendable {
    /// The segments that are its own.
    var segments: ClosedRange<UInt8> { get }

    /// What each visit is stamped with.
    var clock: UInt64 { get }

    /// More visits than this between two looks need not be told apart.
    var visitLimit: Int { get }

    /// What it has to remember over a restart.
    var state: UInt64 { get set }

    /// Where a new entry goes.
    ///
    /// - Parameter number: greater than that of any entry before.
    mutating func enter(_ number: UInt64, bytes: Int64, hash: UInt64) -> Standing

    /// Where to look next: for the first entry at or after this place, in its segment. Its segments hold something.
    func look(_ bytes: SegmentBytes) -> QueuePlace

    /// What becomes of the entry that was found there.
    ///
    /// - Parameter number: greater than any before, for a move to the end.
    mutating func judge(_ candidate: Candidate, number: UInt64) -> Decision

    /// There was nothing at or after the place.
    mutating func reachedEnd(of segment: UInt8)
}

extension EvictionPolicy {
    package var clock: UInt64 { 0 }
    package var state: UInt64 {
        get { 0 }
        set {}
    }
    package mutating func reachedEnd(of segment: UInt8) {}
}
