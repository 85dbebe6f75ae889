import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

/// Clients, deletes, pushes and an origin that fails now and then, over a tier that is too small.
@Suite struct SimulationTests {
    private static let blobs = [20_000, 300_000, 900_000, 2_500_000, 4_000_000].enumerated().map { index, size in
        noise(size, seed: UInt64(index + 1))
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func everyAnswerIsRightOrAnError(_ seed: UInt64) throws {
        let edge = try Edge(ceilingBytes: 10 << 20) {
            smallParts(&$0)
            $0.fillUnattendedBytes = Int64(seed) * 500_000
            // Parts are cut in every other one.
            if seed % 2 == 0 { $0.fillReaderPatience = .microseconds(100) }
        }
        for blob in Self.blobs { _ = edge.seed(blob) }
        let faults = Monitor((random: Seeded(state: seed), areOn: true))
        edge.store.interceptPieces { call, _ throws(StoreError) in
            let fails = faults.withLock { $0.areOn && Int.random(in: 0..<150, using: &$0.random) == 0 }
            if fails { throw MemoryStore.unreachable(call) }
        }
        let client = Client(edge: edge)
        let done = Monitor(0)
        for number in 0..<4 as Range<UInt64> {
            spawnThread(name: "client") {
                var random = Seeded(state: seed * 100 + number)
                for step in 0..<25 {
                    client.act(&random, "seed \(seed), client \(number), step \(step)")
                }
                done.update { $0 += 1 }
            }
        }
        _ = done.wait { $0 == 4 ? true : nil }
        edge.cache.waitForFills()
        faults.withLock { $0.areOn = false }
        edge.time.advance(.seconds(3))
        for blob in Self.blobs {
            _ = edge.seed(blob)
            #expect(try edge.read(Digest(of: blob)) == blob, "seed \(seed)")
        }
    }

    /// Sendable because it only refers to what is.
    private struct Client: @unchecked Sendable {
        let edge: Edge

        func act(_ random: inout Seeded, _ place: String) {
            let blob = blobs[Int.random(in: 0..<blobs.count, using: &random)]
            let digest = Digest(of: blob)
            do {
                switch Int.random(in: 0..<12, using: &random) {
                case 0: _ = try edge.cache.deleteBlob(digest)
                case 1: try edge.push(blob)
                case 2: if let size = try edge.cache.blobSize(digest) { #expect(size == blob.count, "\(place)") }
                case 3...5:
                    if let all = try edge.read(digest) { #expect(all == blob, "\(place)") }
                default:
                    let start = Int.random(in: 0..<blob.count, using: &random)
                    let range = start..<min(blob.count, start + Int.random(in: 1...200_000, using: &random))
                    if let some = try edge.read(digest, range) { #expect(some == Array(blob[range]), "\(place)") }
                }
            } catch {
                // The origin failed, or there was no room for a push: clients are told.
            }
            let statistics = edge.tier.statistics
            #expect(statistics.usedBytes <= statistics.ceilingBytes, "\(place)")
        }
    }
}
