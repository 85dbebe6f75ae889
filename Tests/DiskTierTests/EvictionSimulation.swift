import DiskTier
import Glibc
import Hashing
import OCI
import Synchronization
import System
import TestDoubles
import Testing
import Threading

/// A generator whose seed a failure prints.
private struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed &* 2_862_933_555_777_941_757 &+ 3_037_000_493 }

    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state ^ state >> 29
    }
}

@Suite struct EvictionSimulation {
    /// Stores, reads, deletes, pins, open readers and restarts at random; after each step what must hold, holds.
    @Test(arguments: EvictionPolicyName.allCases, [1, 2])
    func whatMustHoldHoldsAtEachStep(_ policy: EvictionPolicyName, _ seed: UInt64) throws {
        let folder = TemporaryFolder()
        let ceiling: Int64 = 6 << 20
        var random = Seeded(seed)
        func open() throws -> DiskTier {
            let tier = try DiskTier(folder.path, ceilingBytes: ceiling) { $0.evictionPolicy = policy }
            tier.waitUntilSettled()
            return tier
        }
        let contents = (0..<40).map { pattern([3000, 40_000, 200_000, 700_000][$0 % 4] + $0, seed: 1000 + $0) }
        // In a list, so that nothing else holds it at a restart.
        var tiers = [try open()]
        var readers: [(content: Int, file: File)] = []
        var pinned: Set<Int> = []
        for step in 0..<250 {
            let number = Int.random(in: 0..<contents.count, using: &random)
            let digest = Digest(of: contents[number])
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<10:
                do {
                    try tiers[0].store(contents[number])
                } catch let error as DiskTierError {
                    // Readers and pins may leave no room at the moment.
                    #expect(error.isNoSpace, "step \(step): \(error)")
                }
            case 10..<14:
                let found = try tiers[0].contents(digest)
                #expect(found == nil || found == contents[number], "step \(step)")
            case 14..<16:
                if readers.count < 3, case .file(let file, _)? = try tiers[0].lookup(digest) {
                    readers.append((number, file))
                }
            case 16:
                if !readers.isEmpty { readers.removeFirst() }
            case 17:
                try tiers[0].remove(digest)
                // Deleted under its reader, it is no longer what this test watches.
                readers.removeAll { $0.content == number }
            case 18:
                if pinned.remove(number) != nil {
                    #expect(try tiers[0].unpin("pin \(number)") != nil, "step \(step)")
                } else if pinned.count < 3, try tiers[0].has(contents[number]) {
                    try tiers[0].pin("pin \(number)", [PinnedItem(.blob(digest))])
                    pinned.insert(number)
                }
            default:
                readers = []
                tiers[0].close()
                tiers = []
                tiers = [try open()]
            }
            #expect(tiers[0].statistics.usedBytes <= ceiling, "seed \(seed), step \(step)")
            #expect(try folder.allocatedBytes() <= ceiling, "seed \(seed), step \(step)")
            for reader in readers { #expect(try tiers[0].has(contents[reader.content]), "seed \(seed), step \(step)") }
            for content in pinned {
                let isDeleted = try !tiers[0].has(contents[content])
                // Only a delete takes what is pinned.
                if isDeleted { #expect(content == number, "seed \(seed), step \(step)") }
                if isDeleted {
                    _ = try tiers[0].unpin("pin \(content)")
                    pinned.remove(content)
                }
            }
        }
        // Everything can still go: the queue knows all that there is.
        readers = []
        defer { tiers[0].stop() }
        for content in pinned { _ = try tiers[0].unpin("pin \(content)") }
        let all = try tiers[0].evict(contents.map { .blob(Digest(of: $0)) })
        #expect(all.pinned.isEmpty)
        #expect(try tiers[0].inventoryTotals().fileBytes == 0)
        #expect(tiers[0].statistics.lingeringBytes == 0)
    }

    /// What is in files can be evicted by reserving nearly everything: no record is without its place in the queue.
    @Test(arguments: EvictionPolicyName.allCases)
    func everythingCanGo(_ policy: EvictionPolicyName) throws {
        let folder = TemporaryFolder()
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20) { $0.evictionPolicy = policy }
        defer { tier.stop() }
        for seed in 0..<30 {
            try tier.store(pattern(200_000, seed: seed))
            for _ in 0..<(seed % 5) { _ = try tier.lookup(Digest(of: pattern(200_000, seed: seed))) }
        }
        let room = try tier.reserve((8 << 20) - (1 << 20))
        withExtendedLifetime(room) {}
        #expect(try tier.inventoryTotals().fileBytes < 1 << 20)
    }

    @Test(arguments: EvictionPolicyName.allCases)
    func readsStoresAndDeletesAtOnce(_ policy: EvictionPolicyName) throws {
        let folder = TemporaryFolder()
        let ceiling: Int64 = 8 << 20
        let tier = try DiskTier(folder.path, ceilingBytes: ceiling) { configuration in
            configuration.evictionPolicy = policy
            configuration.highWatermarkPercent = 80
            configuration.lowWatermarkPercent = 60
        }
        defer { tier.stop() }
        let contents = (0..<30).map { pattern(300_000, seed: 500 + $0) }
        let pool = WorkerPool(name: "load", threads: 4, queueLimit: 10)
        defer { pool.close() }
        pool.forEach(below: 4, width: 4) { worker in
            var random = Seeded(UInt64(worker))
            for step in 0..<60 {
                let content = contents[Int.random(in: 0..<contents.count, using: &random)]
                do {
                    switch Int.random(in: 0..<8, using: &random) {
                    case 0..<4: try tier.store(content)
                    case 4..<7:
                        let found = try tier.contents(Digest(of: content))
                        #expect(found == nil || found == content, "worker \(worker), step \(step)")
                    default: try tier.remove(Digest(of: content))
                    }
                } catch let error as DiskTierError where error.isNoSpace {
                } catch {
                    Issue.record("worker \(worker), step \(step): \(error)")
                }
                #expect(tier.statistics.usedBytes <= ceiling)
            }
        }
        #expect(tier.statistics.reservedBytes == 0)
        #expect(tier.statistics.lingeringBytes == 0)
        for content in contents {
            let found = try tier.contents(Digest(of: content))
            #expect(found == nil || found == content)
        }
        #expect(try folder.allocatedBytes() <= ceiling)
    }
}
