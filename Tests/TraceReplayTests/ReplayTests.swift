import DiskTier
import Testing
import TraceReplay

/// Each policy once more, as simply as it can be written: arrays that are searched from one end to the other.
private enum Naive {
    struct Entry {
        var blob: Int32
        var bytes: Int64
        var number: UInt64
        /// LRU: when it was last read. GDSF: its value. S3-FIFO: reads left.
        var key: UInt64 = 0
        var frequency: UInt64 = 1
        var isVisited = false
    }

    /// Hits, in the order of the reads. Without watermarks: evicts until the newcomer fits.
    static func hits(_ policy: EvictionPolicyName, _ trace: Trace, capacity: Int64) -> [Bool] {
        switch policy {
        case .lru: lru(trace, capacity)
        case .gdsf: gdsf(trace, capacity)
        case .sieve: sieve(trace, capacity)
        case .s3FIFO: s3FIFO(trace, capacity)
        }
    }

    private static func sum(_ entries: [Entry]) -> Int64 { entries.reduce(0) { $0 + $1.bytes } }

    private static func lru(_ trace: Trace, _ capacity: Int64) -> [Bool] {
        var (entries, hits): ([Entry], [Bool]) = ([], [])
        var number: UInt64 = 0
        for blob in trace.reads {
            let at = entries.firstIndex { $0.blob == blob }
            hits.append(at != nil)
            if let at {
                // Reads between two entries are one moment.
                entries[at].key = max(entries[at].key, number * 2 + 1)
                continue
            }
            let bytes = trace.sizes[Int(blob)]
            while sum(entries) + bytes > capacity {
                let oldest = entries.indices.min {
                    (entries[$0].key, entries[$0].number) < (entries[$1].key, entries[$1].number)
                }!
                entries.remove(at: oldest)
            }
            number += 1
            entries.append(Entry(blob: blob, bytes: bytes, number: number, key: number * 2))
        }
        return hits
    }

    private static func gdsf(_ trace: Trace, _ capacity: Int64) -> [Bool] {
        var (entries, hits): ([Entry], [Bool]) = ([], [])
        var (age, number): (UInt64, UInt64) = (0, 0)
        func value(_ entry: Entry) -> UInt64 { UInt64(Double(entry.frequency) * Double(1 << 36) / Double(entry.bytes)) }
        for blob in trace.reads {
            let at = entries.firstIndex { $0.blob == blob }
            hits.append(at != nil)
            if let at {
                entries[at].frequency += 1
                entries[at].key = max(entries[at].key, age + value(entries[at]))
                continue
            }
            let bytes = trace.sizes[Int(blob)]
            while sum(entries) + bytes > capacity {
                let least = entries.indices.min {
                    (entries[$0].key, entries[$0].number) < (entries[$1].key, entries[$1].number)
                }!
                age = max(age, entries.remove(at: least).key)
            }
            number += 1
            var entry = Entry(blob: blob, bytes: bytes, number: number)
            entry.key = age + value(entry)
            entries.append(entry)
        }
        return hits
    }

    private static func sieve(_ trace: Trace, _ capacity: Int64) -> [Bool] {
        var (entries, hits): ([Entry], [Bool]) = ([], [])
        var hand = 0
        for blob in trace.reads {
            let at = entries.firstIndex { $0.blob == blob }
            hits.append(at != nil)
            if let at {
                entries[at].isVisited = true
                continue
            }
            let bytes = trace.sizes[Int(blob)]
            while sum(entries) + bytes > capacity {
                if hand >= entries.count { hand = 0 }
                if entries[hand].isVisited {
                    entries[hand].isVisited = false
                    hand += 1
                } else {
                    entries.remove(at: hand)
                }
            }
            entries.append(Entry(blob: blob, bytes: bytes, number: 0))
        }
        return hits
    }

    private static func s3FIFO(_ trace: Trace, _ capacity: Int64) -> [Bool] {
        var (small, main): ([Entry], [Entry]) = ([], [])
        var hits: [Bool] = []
        var ghosts: [Int32: Int64] = [:]
        var evicted: Int64 = 0
        for blob in trace.reads {
            if let at = small.firstIndex(where: { $0.blob == blob }) {
                small[at].frequency += 1
                hits.append(true)
                continue
            }
            if let at = main.firstIndex(where: { $0.blob == blob }) {
                main[at].frequency = min(2, main[at].frequency + 1)
                hits.append(true)
                continue
            }
            hits.append(false)
            let bytes = trace.sizes[Int(blob)]
            while sum(small) + sum(main) + bytes > capacity {
                if main.isEmpty || sum(small) * 100 > (sum(small) + sum(main)) * 3 {
                    var entry = small.removeFirst()
                    if entry.frequency > 0 {
                        entry.frequency = 0
                        main.append(entry)
                        continue
                    }
                    evicted += entry.bytes
                    ghosts[entry.blob] = evicted
                } else {
                    var entry = main.removeFirst()
                    if entry.frequency > 0 {
                        entry.frequency -= 1
                        main.append(entry)
                        continue
                    }
                    evicted += entry.bytes
                    ghosts[entry.blob] = evicted
                }
            }
            let isKnown = ghosts[blob].map { (evicted >> 20) - ($0 >> 20) <= (capacity / 100 * 150) >> 20 } ?? false
            let entry = Entry(blob: blob, bytes: bytes, number: 0, frequency: 0)
            if isKnown { main.append(entry) } else { small.append(entry) }
        }
        return hits
    }
}

/// Blobs of 1 to 9 MiB; a few are read often, the others once or twice.
private func smallTrace(seed: UInt64) -> Trace {
    var random = SeededGenerator(seed: seed)
    var trace = Trace(name: "small")
    trace.sizes = (0..<400).map { _ in Int64.random(in: 1...9, using: &random) << 20 }
    for _ in 0..<3000 {
        let isPopular = Int.random(in: 0..<3, using: &random) > 0
        trace.reads.append(Int32.random(in: isPopular ? 0..<30 : 0..<400, using: &random))
    }
    return trace
}

@Suite struct ReplayTests {
    @Test(arguments: EvictionPolicyName.allCases, [1, 2, 3])
    func decidesAsTheNaivePolicyDoes(_ policy: EvictionPolicyName, _ seed: UInt64) {
        let trace = smallTrace(seed: seed)
        for capacity: Int64 in [40 << 20, 150 << 20, 400 << 20] {
            var shape = CacheShape(capacityBytes: capacity)
            (shape.highWatermarkPercent, shape.lowWatermarkPercent) = (100, 100)
            // Whole percents, which the watermarks are counted in.
            shape.capacityBytes = capacity / 409_600 * 409_600
            var replay = Replay(policy, shape)
            let hits = trace.reads.map { replay.read($0, trace.sizes[Int($0)]) }
            let expected = Naive.hits(policy, trace, capacity: shape.capacityBytes)
            let first = zip(hits, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
            #expect(first == nil, "seed \(seed), capacity \(capacity): the first difference is at this read")
        }
    }

    @Test func figuresOfAFixedTrace() {
        let trace = smallTrace(seed: 1)
        let shape = CacheShape(capacityBytes: 150 << 20)
        let optimum = Optimum.belady(trace, shape)
        for policy in EvictionPolicyName.allCases {
            var replay = Replay(policy, shape)
            let figures = replay.run(trace)
            #expect(figures.reads == 3000)
            #expect(figures.hitBytes <= optimum.hitBytes)
            #expect(replay.evictions > 0)
        }
        #expect(optimum.byteHitRatio <= Optimum.bound(trace, shape) + 0.001)
    }

    /// With room for two of equal size: keeps what comes back first.
    @Test func beladyKnowsTheFuture() {
        let trace = Trace(name: "x", reads: [0, 1, 2, 0, 1, 2, 0, 3], sizes: [1 << 20, 1 << 20, 1 << 20, 1 << 20])
        let figures = Optimum.belady(trace, CacheShape(capacityBytes: 2 << 20))
        // 0 and 1 stay when 2 comes; for the second 2 nothing is lost, as 1 is not read again.
        #expect(figures.hits == 3)
        #expect(Optimum.belady(trace, CacheShape(capacityBytes: 3 << 20)).hits == 4)
        #expect(Optimum.belady(trace, CacheShape(capacityBytes: 1 << 19)).hits == 0)
    }

    @Test func smallBlobsLieInTheIndex() {
        let trace = Trace(name: "x", reads: [0, 1, 0, 1], sizes: [100, 16 << 10])
        var replay = Replay(.lru, CacheShape(capacityBytes: 0))
        #expect(replay.run(trace).hits == 2)
        #expect(Optimum.belady(trace, CacheShape(capacityBytes: 0)).hits == 2)
        #expect(Optimum.bound(trace, CacheShape(capacityBytes: 0)) > 0.4)
    }

    @Test(arguments: Workload.allCases)
    func aWorkloadIsReproducible(_ workload: Workload) {
        let trace = workload.trace(seed: 7)
        #expect(trace.reads == workload.trace(seed: 7).reads)
        #expect(trace.reads != workload.trace(seed: 8).reads)
        let sizes = trace.reads.map { trace.sizes[Int($0)] }
        let bytes = sizes.reduce(0, +)
        #expect(0.6...0.7 ~= Double(sizes.count { $0 < 1_000_000 }) / Double(sizes.count))
        #expect(0.9...0.97 ~= Double(sizes.filter { $0 > 10_000_000 }.reduce(0, +)) / Double(bytes))
    }

    @Test func readsCSV() throws {
        let trace = try Trace(name: "x", csv: "seconds,blob,bytes,client\n0.5,a,10,z\n1,b,20,z\n2,a,10,y\n")
        #expect(trace.reads == [0, 1, 0] && trace.sizes == [10, 20] && trace.footprintBytes == 30)
        let error = #expect(throws: Trace.InvalidLine.self) { try Trace(name: "x", csv: "0,a,10\n1,b,ten\n") }
        #expect(error?.number == 2)
    }
}

@Suite struct PolicyTests {
    @Test func sieveSparesInPlace() {
        var policy: any EvictionPolicy = EvictionPolicyName.sieve.policy(capacityBytes: 0)
        let standing = policy.enter(5, bytes: 1, hash: 0)
        let read = Candidate(hash: 0, standing: standing, bytes: 1, visits: Visits(count: 1, clock: 0))
        #expect(policy.judge(read, number: 6) == .spare)
        var bytes = SegmentBytes()
        bytes[standing.place.segment] = 1
        #expect(policy.look(bytes).position == 6, "the hand is behind it")
        // A restart gives the hand back.
        var next: any EvictionPolicy = EvictionPolicyName.sieve.policy(capacityBytes: 0)
        next.state = policy.state
        #expect(next.look(bytes) == policy.look(bytes))
    }

    @Test func s3FIFORemembersWhatItEvicted() {
        var policy: any EvictionPolicy = EvictionPolicyName.s3FIFO.policy(capacityBytes: 10 << 20)
        let first = policy.enter(1, bytes: 4 << 20, hash: 1 << 41)
        let candidate = Candidate(hash: 1 << 41, standing: first, bytes: 4 << 20, visits: .none)
        #expect(policy.judge(candidate, number: 2) == .evict)
        #expect(policy.enter(3, bytes: 4 << 20, hash: 1 << 41).place.segment != first.place.segment)
        #expect(policy.enter(4, bytes: 4 << 20, hash: 1 << 42).place.segment == first.place.segment)
        // Until half as much again as the cache holds was evicted after it.
        for number: UInt64 in 5..<9 {
            let standing = policy.enter(number, bytes: 4 << 20, hash: number << 50)
            _ = policy.judge(
                Candidate(hash: number << 50, standing: standing, bytes: 4 << 20, visits: .none),
                number: 20
            )
        }
        #expect(policy.enter(30, bytes: 4 << 20, hash: 1 << 41).place.segment == first.place.segment)
    }

    @Test func visitsAreCountedUpToTheLimitAndTakenOnce() {
        let visits = VisitTable(slots: 16)
        for _ in 0..<5 { visits.visit(3, clock: 7, limit: 3) }
        #expect(visits.take(4) == .none)
        #expect(visits.take(3) == Visits(count: 3, clock: 7))
        #expect(visits.take(3) == .none)
    }

    /// Under reads that never end, some candidate has to go all the same.
    @Test(arguments: EvictionPolicyName.allCases)
    func mercyEnds(_ name: EvictionPolicyName) {
        var policy: any EvictionPolicy = name.policy(capacityBytes: 100 << 20)
        var standing = policy.enter(1, bytes: 1 << 20, hash: 9)
        var sweep = Sweep(entries: 1)
        for number: UInt64 in 2..<10_000 {
            let candidate = Candidate(
                hash: 9,
                standing: standing,
                bytes: 1 << 20,
                visits: Visits(count: 3, clock: number * 3)
            )
            switch sweep.judge(candidate, number: number, &policy) {
            case .evict: return
            case .spare: break
            case .move(let moved): standing = moved
            }
        }
        Issue.record("nothing was ever evicted")
    }
}
