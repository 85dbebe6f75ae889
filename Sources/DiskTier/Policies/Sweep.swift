/// One round of evictions: leads a policy's hand through the queue, past what must stay.
package struct Sweep: Sendable {
    /// Configs, which go after everything that the policy has.
    package static let keptSegment: UInt8 = 5
    /// Never looked at.
    package static let pinnedSegment: UInt8 = 6
    /// Ends of a segment after which it has nothing to take: the hand may begin in the middle, clears the visits in one round, and takes in
    /// the next.
    private static let maximumEnds = 3

    private var ends = InlineArray<8, Int>(repeating: 0)
    /// Where to go on in a segment, behind what is being read.
    private var passed = InlineArray<8, UInt64>(repeating: 0)
    private var looks = 0
    private let patience: Int

    /// - Parameter entries: in the queue. After some rounds without an end the policy's mercy is: under constant hits it would never end.
    package init(entries: Int) {
        patience = 4 * entries + 1024
    }

    /// Where to look next; `nil` when nothing is left that may go.
    package func next(_ bytes: SegmentBytes, _ policy: any EvictionPolicy) -> QueuePlace? {
        var open = bytes
        for segment in 0..<SegmentBytes.count where ends[Int(segment)] >= Self.maximumEnds { open[segment] = 0 }
        // What another policy has queued, before the setting was changed, goes first, in its order.
        for segment in 0..<Self.keptSegment where open[segment] > 0 && !policy.segments.contains(segment) {
            return place(QueuePlace(segment, 0))
        }
        if policy.segments.contains(where: { open[$0] > 0 }) { return place(policy.look(open)) }
        return open[Self.keptSegment] > 0 ? place(QueuePlace(Self.keptSegment, 0)) : nil
    }

    private func place(_ place: QueuePlace) -> QueuePlace {
        QueuePlace(place.segment, max(place.position, passed[Int(place.segment)]))
    }

    package mutating func reachedEnd(of segment: UInt8, _ policy: inout any EvictionPolicy) {
        ends[Int(segment)] += 1
        if policy.segments.contains(segment) { policy.reachedEnd(of: segment) }
    }

    /// The entry at this place is being read: it is left alone, as are those that share its position.
    package mutating func pass(_ place: QueuePlace) {
        passed[Int(place.segment)] = max(passed[Int(place.segment)], place.position &+ 1)
    }

    package mutating func judge(
        _ candidate: Candidate,
        number: UInt64,
        _ policy: inout any EvictionPolicy
    ) -> Decision {
        looks += 1
        var candidate = candidate
        if looks > patience {
            let place = candidate.standing.place
            candidate = Candidate(
                hash: candidate.hash,
                standing: Standing(place.segment, place.position),
                bytes: candidate.bytes,
                visits: .none
            )
        }
        let segment = candidate.standing.place.segment
        if policy.segments.contains(segment) { return policy.judge(candidate, number: number) }
        guard candidate.visits.count > 0 else { return .evict }
        if segment == Self.keptSegment { return .move(Standing(segment, number)) }
        return .move(policy.enter(number, bytes: candidate.bytes, hash: candidate.hash))
    }
}
