import EdgeCache
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing
import Threading

/// Who reads what the disk has no room for takes no more transfers than may be, however they come to need one.
@Suite struct PassingReadTests {
    private static let content = noise(8 * mebibyte)

    private func edge(
        limit: Int,
        patience: Duration = .zero,
        files: FaultyFileSystem = FaultyFileSystem()
    ) throws -> Edge {
        try Edge(ceilingBytes: 4 << 20, fileSystem: files) {
            smallParts(&$0)
            $0.passingReadLimit = limit
            $0.passingReadPatience = patience
        }
    }

    /// What a client is answered with.
    private func answer(
        _ cache: EdgeCache,
        _ digest: Digest,
        _ range: Range<Int>? = nil,
        isWanted: @escaping () -> Bool = { true }
    ) throws -> BlobContent {
        let content = try #require(try cache.blob(digest, near: Int64(range?.lowerBound ?? 0)))
        let range = range.map { Int64($0.lowerBound)..<Int64($0.upperBound) }
        try content.begin(range ?? 0..<content.size, isWanted: isWanted)
        return content
    }

    private func isRefused(_ body: () throws -> Void) -> Bool {
        let error = #expect(throws: EdgeError.self) { try body() }
        if case .busy? = error { return true } else { return false }
    }

    /// Bug: who came when another read of the same blob was past its start had a transfer beyond the limit.
    @Test func readsOfOneBlobAfterEachOtherTakeATransferEach() throws {
        let edge = try edge(limit: 2)
        let digest = edge.seed(Self.content)
        let clients = try (0..<2).map { _ in
            let client = try answer(edge.cache, digest)
            #expect(try bytes(0..<mebibyte, of: client) == Array(Self.content[..<mebibyte]))
            return client
        }
        #expect(isRefused { _ = try answer(edge.cache, digest) })
        #expect(isRefused { _ = try answer(edge.cache, digest, 100..<200) })
        for client in clients {
            #expect(try contents(client, from: Int64(mebibyte)) == Array(Self.content[mebibyte...]))
        }
    }

    @Test func readsThatBeginTogetherTakeOneTransfer() throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        let clients = try (0..<8).map { _ in try answer(edge.cache, digest) }
        let right = Monitor(0)
        for client in clients {
            spawnThread(name: "client") {
                let read = try? contents(client)
                right.update { $0 += read == Self.content ? 1 : -100 }
            }
        }
        #expect(right.wait { $0 == 8 || $0 < 0 ? $0 : nil } == 8)
        #expect(edge.store.calls("GET") == 2, "the fill that does not fit, and the one for all")
    }

    /// Bug: who was left behind by others went on with a transfer beyond the limit.
    @Test func aSlowReaderIsWaitedForWhereThereIsNoOtherTransfer() throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        let slow = try answer(edge.cache, digest)
        let fast = try answer(edge.cache, digest)
        let read = Monitor<[UInt8]?>(nil)
        spawnThread(name: "fast") {
            let bytes = (try? contents(fast)) ?? []
            read.update { $0 = bytes }
        }
        // Long enough for it to be through, were it not to wait.
        #expect(read.wait(until: .after(.milliseconds(500))) { $0 } == nil)
        #expect(try contents(slow) == Self.content)
        #expect(read.wait { $0 } == Self.content)
        #expect(edge.store.calls("GET") == 2)
    }

    /// Bug: who read along with a fill that the disk failed went on with a transfer beyond the limit.
    @Test func aReaderOfAFillThatTheDiskFailsTakesATransfer() throws {
        let files = FaultyFileSystem()
        let edge = try edge(limit: 1, files: files)
        let passing = try answer(edge.cache, edge.seed(Self.content))
        let small = Array(Self.content[..<(2 * mebibyte)])
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        let filling = try #require(try edge.cache.blob(edge.seed(small)))
        gate.waitForArrivals()
        files.failCall(1, code: 28, lasting: true)  // ENOSPC
        gate.open()
        #expect(isRefused { _ = try contents(filling) })
        #expect(try contents(passing) == Self.content)
    }

    // MARK: Waiting

    /// Bug: who came when as many transfers as may be were under way was refused at once, however fast they were.
    @Test func moreReadersThanTransfersWaitForTheirTurn() throws {
        let edge = try edge(limit: 2, patience: .seconds(3600))
        let small = (0..<32).map { noise(5 * mebibyte, seed: $0 + 10) }
        let digests = small.map { edge.seed($0) }
        let (cache, right) = (edge.cache, Monitor(0))
        for (digest, bytes) in zip(digests, small) {
            spawnThread(name: "client") {
                let read = try? contents(answer(cache, digest))
                right.update { $0 += read == bytes ? 1 : -100 }
            }
        }
        #expect(right.wait { $0 == digests.count || $0 < 0 ? $0 : nil } == digests.count)
    }

    @Test func thoseWhoWaitForTheSameBlobShareATransfer() throws {
        let edge = try edge(limit: 1, patience: .seconds(3600))
        let first = try answer(edge.cache, edge.seed(noise(5 * mebibyte, seed: 2)))
        let digest = edge.seed(Self.content)
        let (cache, waiting, right) = (edge.cache, Monitor(0), Monitor(0))
        for _ in 0..<8 {
            spawnThread(name: "client") {
                var isCounted = false
                let client = try? answer(cache, digest) {
                    if !isCounted { waiting.update { $0 += 1 } }
                    isCounted = true
                    return true
                }
                let read = client.flatMap { try? contents($0) }
                right.update { $0 += read == Self.content ? 1 : -100 }
            }
        }
        _ = waiting.wait { $0 == 8 ? true : nil }
        let before = edge.store.calls("GET")
        _ = try contents(first)
        #expect(right.wait { $0 == 8 || $0 < 0 ? $0 : nil } == 8)
        #expect(edge.store.calls("GET") == before + 2)
    }

    @Test func whoHasHungUpWaitsNoLonger() throws {
        let edge = try edge(limit: 1, patience: .seconds(3600))
        let digest = edge.seed(Self.content)
        let first = try answer(edge.cache, digest, 0..<100)
        #expect(isRefused { _ = try answer(edge.cache, digest) { false } })
        #expect(try bytes(0..<100, of: first) == Array(Self.content[..<100]))
    }

    /// Bug: clients of ranges that stood still held all places until those who waited were refused.
    @Test func whoStandsStillGivesItsPlaceToWhoWaits() throws {
        let edge = try edge(limit: 2, patience: .seconds(3600))
        let digest = edge.seed(Self.content)
        let range = 100..<6 * mebibyte
        let still = try (0..<2).map { _ in
            let client = try answer(edge.cache, digest, range)
            #expect(try bytes(100..<1100, of: client, step: 1000) == Array(Self.content[100..<1100]))
            return client
        }
        edge.time.advance(.seconds(3))
        #expect(try bytes(7..<900, of: answer(edge.cache, digest, 7..<900)) == Array(Self.content[7..<900]))
        for client in still {
            #expect(try bytes(1100..<range.upperBound, of: client) == Array(Self.content[1100..<range.upperBound]))
        }
    }

    @Test func nobodyWaitsForTheEnd() throws {
        let edge = try edge(limit: 1, patience: .seconds(3600))
        let digest = edge.seed(Self.content)
        let first = try answer(edge.cache, digest)
        let cache = edge.cache
        spawnThread(name: "end") { cache.close() }
        let error = #expect(throws: EdgeError.self) { _ = try answer(cache, digest, 100..<200) }
        if case .closing? = error {} else { Issue.record("\(String(describing: error))") }
        withExtendedLifetime(first) {}
    }

    // MARK: The transfer

    /// Bug: a range of what never fits was asked for up to the blob's end, and its first bytes as the whole.
    @Test(arguments: [0..<100, 5_000_000..<5_016_384, 8 * mebibyte - 10..<8 * mebibyte])
    func aRangeTakesItsOwnBytesFromTheOrigin(range: Range<Int>) throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        _ = try edge.cache.blob(digest)
        edge.cache.waitForFills()
        edge.store.intercept(nil)
        let before = edge.store.deliveredBytes
        #expect(try bytes(range, of: answer(edge.cache, digest, range)) == Array(Self.content[range]))
        #expect(edge.store.calls.map(\.range) == [Int64(range.lowerBound)..<Int64(range.upperBound)])
        #expect(edge.store.deliveredBytes - before == range.count)
    }

    /// Bug: a transfer that nobody read any more kept its place as long as the origin was silent.
    @Test(arguments: [false, true])
    func aSilentTransferEndsWithItsClients(isReading: Bool) throws {
        let edge = try edge(limit: 1, patience: .seconds(3600))
        let digest = edge.seed(Self.content)
        _ = try edge.cache.blob(digest)
        edge.cache.waitForFills()
        edge.store.silence(from: mebibyte)
        defer { edge.store.silence(from: nil) }
        var client: BlobContent? = try answer(edge.cache, digest, 0..<8 * mebibyte - 1, isWanted: { false })
        #expect(try bytes(0..<1000, of: #require(client), step: 1000) == Array(Self.content[..<1000]))
        if isReading { #expect(isRefused { _ = try contents(#require(client), from: 1000) }) }
        client = nil
        #expect(try bytes(7..<900, of: answer(edge.cache, digest, 7..<900)) == Array(Self.content[7..<900]))
    }

    /// Bug: a transfer that broke was given up, however much it had brought.
    @Test(arguments: [0..<8 * mebibyte, 1000..<7 * mebibyte])
    func aTransferThatBreaksIsTakenUp(range: Range<Int>) throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        _ = try edge.cache.blob(digest)
        edge.cache.waitForFills()
        let breaks = Monitor(0)
        edge.store.interceptPieces { call, place throws(StoreError) in
            guard place - (call.range?.lowerBound ?? 0) >= mebibyte else { return }
            breaks.update { $0 += 1 }
            throw MemoryStore.unreachable(call)
        }
        #expect(try bytes(range, of: answer(edge.cache, digest, range)) == Array(Self.content[range]))
        #expect(breaks.withLock { $0 } >= 5)
        edge.store.fail(from: mebibyte)
        #expect(throws: EdgeError.self) { try bytes(range, of: answer(edge.cache, digest, range)) }
    }

    @Test func whatIsReplacedMeanwhileIsNotTakenUp() throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        _ = try edge.cache.blob(digest)
        edge.cache.waitForFills()
        edge.store.interceptPieces { [store = edge.store] call, place throws(StoreError) in
            guard place >= mebibyte else { return }
            store[call.key] = noise(8 * mebibyte, seed: 3)
            store.interceptPieces(nil)
            throw MemoryStore.unreachable(call)
        }
        let client = try answer(edge.cache, digest, 1000..<7 * mebibyte)
        let error = #expect(throws: EdgeError.self) { try bytes(1000..<7 * mebibyte, of: client) }
        guard case .originChanged? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    /// Bug: whoever called a client that had just left let its place go with the lock held, and waited for that for ever.
    @Test(.timeLimit(.minutes(5))) func clientsThatLeaveAsTheyAreCalledHoldNobodyUp() throws {
        let edge = try edge(limit: 2, patience: .seconds(60))
        let digest = edge.seed(Self.content)
        let pool = WorkerPool(name: "client", threads: 16, queueLimit: 16)
        let left = Monitor(16)
        for client in 0..<16 {
            _ = pool.submit { [cache = edge.cache] in
                for round in 0..<5_000 {
                    let start = client * 1_000 + round
                    _ = try? answer(cache, digest, start..<start + 2)
                }
                left.update { $0 -= 1 }
            }
        }
        #expect(left.wait(until: .after(.seconds(120))) { $0 == 0 ? true : nil } != nil)
        #expect(try bytes(0..<100, of: answer(edge.cache, digest, 0..<100)) == Array(Self.content[..<100]))
        pool.close()
    }

    /// Bug: past the disk, the rest of an object that had proved damaged completed a pull that had broken off.
    @Test func theRestOfADoubtedObjectIsHeldBack() throws {
        let edge = try edge(limit: 2)
        let digest = edge.seed(Self.content, named: Digest(of: pattern(Self.content.count, seed: 2)))
        #expect(throws: EdgeError.self) { try contents(answer(edge.cache, digest)) }
        for start in [1, Self.content.count - 1] {
            let rest = start..<Self.content.count
            #expect(throws: EdgeError.self) { try bytes(rest, of: answer(edge.cache, digest, rest)) }
        }
        #expect(try bytes(5..<100, of: answer(edge.cache, digest, 5..<100)) == Array(Self.content[5..<100]))
    }

    /// Bug: a blob of which transfers were damaged counted as missing after another one had proved right.
    @Test func aGoodTransferEndsTheBlame() throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        #expect(try contents(answer(edge.cache, digest)) == Self.content)
        // Between the two transfers, the origin is asked for the size again.
        edge.store.tamper(gets: 3) { bytes in
            var bytes = bytes
            bytes[bytes.count - 5] ^= 1
            return bytes
        }
        for _ in 0..<2 { #expect(throws: EdgeError.self) { try contents(answer(edge.cache, digest)) } }
        #expect(try edge.cache.blobSize(digest) == nil)
        #expect(try contents(answer(edge.cache, digest)) == Self.content)
        #expect(try edge.cache.blobSize(digest) == Int64(Self.content.count))
    }
}
