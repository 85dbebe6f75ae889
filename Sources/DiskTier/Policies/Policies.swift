/// What goes first when the cache is full.
public enum EvictionPolicyName: String, Sendable, CaseIterable {
    /// The least recently read.
    case lru
    /// What is large and seldom read: for requests saved, not bytes.
    case gdsf
    /// What was not read since a hand last came by.
    case sieve
    /// What was not read soon after it came; then what was not read since it was last looked at.
    case s3FIFO = "s3-fifo"

    /// - Parameter capacityBytes: what the queue may hold.
    package func policy(capacityBytes: Int64) -> any EvictionPolicy {
        switch self {
        case .lru: LRU()
        case .gdsf: GDSF()
        case .sieve: Sieve()
        case .s3FIFO: S3FIFO(capacityBytes: capacityBytes)
        }
    }
}

/// Least recently read: what was read is put where its last read belongs. Time is counted in entries, so reads between two of them are one.
package struct LRU: EvictionPolicy {
    package var segments: ClosedRange<UInt8> { 0...0 }
    package private(set) var clock: UInt64 = 0
    package var visitLimit: Int { 1 }

    package init() {}

    package mutating func enter(_ number: UInt64, bytes: Int64, hash: UInt64) -> Standing {
        clock = number << 1 | 1
        return Standing(0, number << 1)
    }

    package func look(_ bytes: SegmentBytes) -> QueuePlace { QueuePlace(0, 0) }

    package func judge(_ candidate: Candidate, number: UInt64) -> Decision {
        guard candidate.visits.count > 0, candidate.visits.clock > candidate.standing.place.position else {
            return .evict
        }
        return .move(Standing(0, candidate.visits.clock))
    }
}

/// Greedy dual size frequency: the position is a value, reads by bytes, on top of the value of what was last evicted. (Cherkasova 1998)
package struct GDSF: EvictionPolicy {
    /// Of one read of one byte: a gibibyte's is 64.
    private static let scale = Double(1 << 36)

    package var segments: ClosedRange<UInt8> { 1...1 }
    /// The value of the last victim.
    package private(set) var clock: UInt64 = 0
    package var visitLimit: Int { 255 }
    package var state: UInt64 {
        get { clock }
        set { clock = newValue }
    }

    package init() {}

    private func value(_ frequency: Int, _ bytes: Int64) -> UInt64 {
        UInt64(Double(frequency) * Self.scale / Double(max(4096, bytes)))
    }

    package func enter(_ number: UInt64, bytes: Int64, hash: UInt64) -> Standing {
        Standing(1, clock + value(1, bytes), frequency: 1)
    }

    package func look(_ bytes: SegmentBytes) -> QueuePlace { QueuePlace(1, 0) }

    package mutating func judge(_ candidate: Candidate, number: UInt64) -> Decision {
        let frequency = min(255, Int(candidate.standing.frequency) + candidate.visits.count)
        let position = candidate.visits.clock + value(frequency, candidate.bytes)
        guard candidate.visits.count > 0, position > candidate.standing.place.position else {
            clock = max(clock, candidate.standing.place.position)
            return .evict
        }
        return .move(Standing(1, position, frequency: UInt8(frequency)))
    }
}

/// A hand goes from the oldest to the newest and round again, and takes what was not read since it last passed. (Zhang et al., NSDI '24)
package struct Sieve: EvictionPolicy {
    package var segments: ClosedRange<UInt8> { 2...2 }
    package var visitLimit: Int { 1 }
    /// The hand.
    package var state: UInt64 = 0

    package init() {}

    package func enter(_ number: UInt64, bytes: Int64, hash: UInt64) -> Standing { Standing(2, number) }

    package func look(_ bytes: SegmentBytes) -> QueuePlace { QueuePlace(2, state) }

    package mutating func judge(_ candidate: Candidate, number: UInt64) -> Decision {
        state = candidate.standing.place.position + 1
        return candidate.visits.count > 0 ? .spare : .evict
    }

    package mutating func reachedEnd(of segment: UInt8) { state = 0 }
}

/// Two queues and a memory. What is new waits in a small queue; what was read there moves to the main one, the rest is evicted and remembered
/// for a while, and enters the main queue at once if it comes back. In the main queue each read buys another round, up to two.
/// (Yang et al., SOSP '23; here the small queue and the memory are measured in bytes.)
package struct S3FIFO: EvictionPolicy {
    /// Of all bytes, in the small queue. 1 to 10 are much the same in the replay.
    package static let smallPercent: Int64 = 3
    package static let maximumFrequency = 2
    /// Of the capacity: an eviction is remembered until as much more was evicted. Above twice it, what scans brought comes to stay.
    package static let memoryPercent: Int64 = 150
    /// Evictions that are remembered at most; a tier of a terabyte of 4 MiB blobs holds as many.
    private static let memorySlots = 1 << 18

    package var segments: ClosedRange<UInt8> { 3...4 }
    package var visitLimit: Int { Self.maximumFrequency }
    private var ghosts: Ghosts

    package init(capacityBytes: Int64) {
        ghosts = Ghosts(slots: Self.memorySlots, reachBytes: capacityBytes / 100 * Self.memoryPercent)
    }

    package func enter(_ number: UInt64, bytes: Int64, hash: UInt64) -> Standing {
        Standing(ghosts.remember(hash) ? 4 : 3, number)
    }

    package func look(_ bytes: SegmentBytes) -> QueuePlace {
        let isSmallFull = bytes[3] * 100 > (bytes[3] + bytes[4]) * Self.smallPercent
        return QueuePlace(bytes[4] == 0 || isSmallFull ? 3 : 4, 0)
    }

    package mutating func judge(_ candidate: Candidate, number: UInt64) -> Decision {
        if candidate.standing.place.segment == 3 {
            if candidate.visits.count > 0 { return .move(Standing(4, number)) }
        } else {
            let frequency = min(Self.maximumFrequency, Int(candidate.standing.frequency) + candidate.visits.count)
            if frequency > 0 { return .move(Standing(4, number, frequency: UInt8(frequency - 1))) }
        }
        ghosts.add(candidate.hash, bytes: candidate.bytes)
        return .evict
    }
}
