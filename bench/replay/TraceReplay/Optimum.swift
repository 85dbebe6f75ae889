/// What could be saved by a cache that knows the future.
///
/// With blobs of different sizes the true optimum is a knapsack over time, which nobody computes. These two enclose it.
public enum Optimum {
    /// Belady by bytes: what is not read again is not kept, and when there is no room, what is read again last goes, the newcomer included.
    /// A byte is worth a byte, so sizes do not matter for the choice. A cache could do this, so the optimum is no less.
    public static func belady(_ trace: Trace, _ shape: CacheShape) -> Figures {
        let next = nextReads(trace)
        var figures = Figures()
        var cached = [Int](repeating: never, count: trace.sizes.count)
        var inline = Set<Int32>()
        var farthest = Heap()
        var used: Int64 = 0
        for (time, blob) in trace.reads.enumerated() {
            let size = trace.sizes[Int(blob)]
            if size <= shape.inlineLimitBytes {
                figures.count(size, isHit: !inline.insert(blob).inserted)
                continue
            }
            let isHit = cached[Int(blob)] != never
            figures.count(size, isHit: isHit)
            let blocks = shape.blocks(size)
            if isHit { used -= blocks }
            cached[Int(blob)] = never
            guard next[time] != never, blocks <= shape.capacityBytes else { continue }
            cached[Int(blob)] = next[time]
            farthest.push(Heap.Item(time: next[time], blob: blob))
            used += blocks
            while used > shape.capacityBytes, let last = farthest.pop() {
                // An item of an earlier read is no longer true.
                guard cached[Int(last.blob)] == last.time else { continue }
                cached[Int(last.blob)] = never
                used -= shape.blocks(trace.sizes[Int(last.blob)])
            }
        }
        return figures
    }

    /// A byte hit ratio that no cache can exceed: keeping a blob from one read to the next takes its bytes for that long; the shortest of
    /// these are taken until the cache's bytes are used up over the whole trace, whether or not they fit at each moment. (Berger et al., 2018)
    public static func bound(_ trace: Trace, _ shape: CacheShape) -> Double {
        var last = [Int](repeating: never, count: trace.sizes.count)
        var intervals: [(length: Int, bytes: Int64)] = []
        var (bytes, hitBytes): (Int64, Int64) = (0, 0)
        for (time, blob) in trace.reads.enumerated() {
            let size = trace.sizes[Int(blob)]
            bytes += size
            if last[Int(blob)] != never {
                if size <= shape.inlineLimitBytes {
                    hitBytes += size
                } else {
                    intervals.append((time - last[Int(blob)], size))
                }
            }
            last[Int(blob)] = time
        }
        intervals.sort { $0.length < $1.length }
        var room = Double(shape.capacityBytes) * Double(trace.reads.count)
        for interval in intervals where room > 0 {
            room -= Double(interval.length) * Double(interval.bytes)
            hitBytes += interval.bytes
        }
        return Double(hitBytes) / Double(max(1, bytes))
    }

    private static let never = Int.max

    private static func nextReads(_ trace: Trace) -> [Int] {
        var next = [Int](repeating: never, count: trace.reads.count)
        var seen = [Int](repeating: never, count: trace.sizes.count)
        for time in trace.reads.indices.reversed() {
            let blob = Int(trace.reads[time])
            next[time] = seen[blob]
            seen[blob] = time
        }
        return next
    }
}

/// The greatest time first.
private struct Heap {
    struct Item {
        let time: Int
        let blob: Int32
    }

    private var items: [Item] = []

    mutating func push(_ item: Item) {
        items.append(item)
        var index = items.count - 1
        while index > 0, items[(index - 1) / 2].time < items[index].time {
            items.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    mutating func pop() -> Item? {
        guard let top = items.first else { return nil }
        items.swapAt(0, items.count - 1)
        items.removeLast()
        var index = 0
        while let child = [2 * index + 1, 2 * index + 2].filter({ $0 < items.count }).max(by: {
            items[$0].time < items[$1].time
        }),
            items[child].time > items[index].time
        {
            items.swapAt(child, index)
            index = child
        }
        return top
    }
}
