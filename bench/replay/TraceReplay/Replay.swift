public import DiskTier

/// A cache in memory that decides as the tier does: the same policies, led by the same sweep, over the same table of visits.
public struct Replay {
    private struct Entry {
        let blob: Int32
        let bytes: Int64
        let sequence: UInt64
        var standing: Standing
    }

    private let shape: CacheShape
    private let visits = VisitTable()
    private var policy: any EvictionPolicy
    private var entries: [Int32: Entry] = [:]
    private var queue = OrderedQueue()
    private var segments = SegmentBytes()
    private var inline = Set<Int32>()
    private var lastNumber: UInt64 = 0
    public private(set) var evictions = 0
    /// Entries that were given another place: each is a write to the index.
    public private(set) var moves = 0

    public init(_ name: EvictionPolicyName, _ shape: CacheShape) {
        self.shape = shape
        policy = name.policy(capacityBytes: shape.capacityBytes)
    }

    public mutating func run(_ trace: Trace) -> Figures {
        var figures = Figures()
        for blob in trace.reads {
            let size = trace.sizes[Int(blob)]
            figures.count(size, isHit: read(blob, size))
        }
        return figures
    }

    /// Whether it was there.
    public mutating func read(_ blob: Int32, _ size: Int64) -> Bool {
        if size <= shape.inlineLimitBytes { return !inline.insert(blob).inserted }
        let hash = mixed(UInt64(blob) &+ 1)
        if entries[blob] != nil {
            visits.visit(hash, clock: policy.clock, limit: policy.visitLimit)
            return true
        }
        let bytes = shape.blocks(size)
        guard bytes <= shape.capacityBytes else { return false }
        makeRoom(bytes)
        let number = nextNumber()
        enter(
            Entry(blob: blob, bytes: bytes, sequence: number, standing: policy.enter(number, bytes: bytes, hash: hash))
        )
        return false
    }

    private mutating func nextNumber() -> UInt64 {
        lastNumber += 1
        return lastNumber
    }

    /// As if the background always kept up: from above the high watermark down to the low one.
    private mutating func makeRoom(_ bytes: Int64) {
        guard segments.sum + bytes > shape.capacityBytes / 100 * shape.highWatermarkPercent else { return }
        let target = max(0, shape.capacityBytes / 100 * shape.lowWatermarkPercent - bytes)
        var sweep = Sweep(entries: entries.count)
        while segments.sum > target, let place = sweep.next(segments, policy) {
            guard let blob = queue.first(at: place), let entry = entries[blob] else {
                sweep.reachedEnd(of: place.segment, &policy)
                continue
            }
            look(entry, &sweep)
        }
    }

    private mutating func look(_ entry: Entry, _ sweep: inout Sweep) {
        let hash = mixed(UInt64(entry.blob) &+ 1)
        let candidate = Candidate(hash: hash, standing: entry.standing, bytes: entry.bytes, visits: visits.take(hash))
        switch sweep.judge(candidate, number: nextNumber(), &policy) {
        case .spare: break
        case .evict:
            leave(entry)
            evictions += 1
        case .move(let standing):
            leave(entry)
            var moved = entry
            moved.standing = standing
            enter(moved)
            moves += 1
        }
    }

    private mutating func enter(_ entry: Entry) {
        entries[entry.blob] = entry
        queue.insert(entry.blob, entry.standing.place, entry.sequence)
        segments[entry.standing.place.segment] += entry.bytes
    }

    private mutating func leave(_ entry: Entry) {
        entries[entry.blob] = nil
        queue.remove(entry.standing.place, entry.sequence)
        segments[entry.standing.place.segment] -= entry.bytes
    }
}

/// Keys in order, in chunks that a search by bisection finds.
private struct OrderedQueue {
    private struct Key: Comparable {
        let place: QueuePlace
        let sequence: UInt64
        let blob: Int32

        static func < (a: Key, b: Key) -> Bool {
            (a.place.segment, a.place.position, a.sequence) < (b.place.segment, b.place.position, b.sequence)
        }
    }

    private static let chunkLimit = 512

    private var chunks: [[Key]] = []

    mutating func insert(_ blob: Int32, _ place: QueuePlace, _ sequence: UInt64) {
        let key = Key(place: place, sequence: sequence, blob: blob)
        guard !chunks.isEmpty else { return chunks.append([key]) }
        let chunk = min(chunkIndex(of: key), chunks.count - 1)
        chunks[chunk].insert(key, at: firstIndex(in: chunks[chunk]) { $0 >= key })
        guard chunks[chunk].count > Self.chunkLimit else { return }
        let half = Array(chunks[chunk][(Self.chunkLimit / 2)...])
        chunks[chunk].removeLast(half.count)
        chunks.insert(half, at: chunk + 1)
    }

    mutating func remove(_ place: QueuePlace, _ sequence: UInt64) {
        let key = Key(place: place, sequence: sequence, blob: 0)
        let chunk = chunkIndex(of: key)
        chunks[chunk].remove(at: firstIndex(in: chunks[chunk]) { $0 >= key })
        if chunks[chunk].isEmpty { chunks.remove(at: chunk) }
    }

    func first(at place: QueuePlace) -> Int32? {
        let key = Key(place: place, sequence: 0, blob: 0)
        let chunk = chunkIndex(of: key)
        guard chunk < chunks.count else { return nil }
        let found = chunks[chunk][firstIndex(in: chunks[chunk]) { $0 >= key }]
        return found.place.segment == place.segment ? found.blob : nil
    }

    /// The first chunk that ends with this key or a greater one.
    private func chunkIndex(of key: Key) -> Int { firstIndex(in: chunks) { $0[$0.count - 1] >= key } }

    private func firstIndex<Element>(in array: [Element], where isReached: (Element) -> Bool) -> Int {
        var (low, high) = (0, array.count)
        while low < high {
            let middle = (low + high) / 2
            if isReached(array[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
