import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

@Suite struct PartTests {
    /// Bug: between its last byte and its entry in the tier, a HEAD of a blob asked the origin, and counted as a miss.
    @Test func aBlobThatIsAboutToBeKeptIsHere() throws {
        let (files, gate) = (FaultyFileSystem(), Gate())
        files.beforeCalls { operation, path in
            if operation == "fdatasync", path.contains("/incoming/") { gate.pass() }
        }
        let edge = try Edge(fileSystem: files)
        defer { gate.open() }
        let digest = edge.seed(noise(300_000))
        #expect(try edge.read(digest)?.count == 300_000)
        gate.waitForArrivals()
        var status: CacheStatus?
        #expect(try edge.cache.findSize(digest) { status = $0 } == 300_000)
        #expect(status == .hit && edge.cache.holds(digest) && edge.store.calls("HEAD") == 0)
        #expect(try edge.tier.size(of: digest) == nil)
    }

    /// Each of four requests waits for the three others.
    @Test func partsOfOneBlobArriveAtOnce() throws {
        let edge = try Edge(smallParts)
        let content = noise(8 * mebibyte)
        let digest = edge.seed(content)
        let arrived = Monitor(0)
        edge.store.interceptPieces { call, offset throws(StoreError) in
            // A quarter of the first part lets the others begin.
            guard let start = call.range?.lowerBound, Int(offset - start) == mebibyte / 4 else { return }
            arrived.update { $0 += 1 }
            _ = arrived.wait { $0 >= 4 ? true : nil }
        }
        #expect(try edge.read(digest) == content)
        #expect(edge.store.calls("GET") == 8)
        #expect(edge.store.calls("HEAD") == 0, "the first part tells the size")
        #expect(edge.store.deliveredBytes == content.count)
        edge.cache.waitForFills()
        #expect(try edge.tier.size(of: digest) == Int64(content.count))
    }

    @Test(arguments: [1, 16 << 10, (16 << 10) + 1, mebibyte])
    func aSmallBlobIsOneRequest(_ size: Int) throws {
        let edge = try Edge(smallParts)
        let content = noise(size)
        #expect(try edge.read(edge.seed(content)) == content)
        #expect(edge.store.calls.count == 1)
    }

    /// Bug: an origin that gives the whole for each part was read once for each part.
    @Test func anOriginWithoutRangesIsReadOnce() throws {
        let edge = try Edge(store: MemoryStore(ignoresRanges: true), smallParts)
        let content = noise(8 * mebibyte)
        let digest = edge.seed(content)
        let range = 5 * mebibyte..<6 * mebibyte
        #expect(try edge.read(digest, range) == Array(content[range]))
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes <= 2 * content.count, "the first one told")
        #expect(try edge.tier.verify(digest) == .verified)
    }

    /// Bug: each read of a blob that can never be kept began a fill first, which asked the origin for a part that nobody read.
    @Test func whatNeverFitsIsAskedForOnce() throws {
        let edge = try Edge(ceilingBytes: 4 << 20, smallParts)
        let content = noise(8 * mebibyte)
        let digest = edge.seed(content)
        for _ in 0..<4 { #expect(try edge.read(digest) == content) }
        #expect(edge.store.calls("GET") == 5)
        #expect(try edge.read(digest, 100..<200) == Array(content[100..<200]))
        #expect(edge.store.calls("GET") == 6)
        edge.store["epoch/blobs/sha256/\(digest.hex)"] = nil
        edge.time.advance(.seconds(11))
        #expect(try edge.read(digest) == nil)
    }

    /// Bug: slow readers of what the disk has no room for held all connections to the origin, and nobody else was answered.
    @Test func onlySoManyReadPastTheDisk() throws {
        let edge = try Edge(ceilingBytes: 4 << 20) {
            smallParts(&$0)
            $0.passingReadLimit = 2
            $0.passingReadPatience = .zero
        }
        func answer(_ digest: Digest) throws -> BlobContent {
            let content = try #require(try edge.cache.blob(digest))
            try content.begin(0..<content.size)
            return content
        }
        let blobs = (0..<3).map { edge.seed(noise(8 * mebibyte, seed: $0)) }
        var open = try blobs.prefix(2).map(answer)
        let error = #expect(throws: EdgeError.self) { try answer(blobs[2]) }
        guard case .busy? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try contents(open[0]) == noise(8 * mebibyte, seed: 0))
        open = []
        #expect(try edge.read(blobs[2]) == noise(8 * mebibyte, seed: 2))
    }

    /// Readers elsewhere may go beyond the limit, but not the parts that nobody waits for.
    @Test func onlySoManyPartsAreInFlight() throws {
        let edge = try Edge(smallParts)
        let digest = edge.seed(noise(32 * mebibyte))
        let flying = Monitor((now: 0, most: 0))
        edge.store.interceptPieces { call, offset throws(StoreError) in
            guard let range = call.range else { return }
            if offset == range.lowerBound {
                flying.update { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
            } else if offset >= range.upperBound - 16 << 10 {
                flying.update { $0.now -= 1 }
            }
        }
        _ = try edge.read(digest)
        // A reader who waits at the front may have one more fetched.
        #expect(flying.withLock { $0.most } <= 8)
    }

    @Test func bytesCanBeReadWhileTheirPartArrives() throws {
        let edge = try Edge(smallParts)
        let content = noise(4 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        #expect(try edge.read(digest, 0..<mebibyte / 2) == Array(content[..<(mebibyte / 2)]))
        gate.open()
        edge.cache.waitForFills()
        #expect(try edge.read(digest) == content)
    }

    @Test func whatHasLandedIsThereAtOnceAndTheRestIsNot() throws {
        let edge = try Edge(smallParts)
        let content = noise(4 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        let blob = try #require(try edge.cache.blob(digest))
        let stream = try #require(blob.stream)
        #expect(try bytes(0..<mebibyte / 2, of: blob) == Array(content[..<(mebibyte / 2)]))
        #expect(atOnce(stream, 1000, 5000) == Array(content[1000..<6000]))
        #expect(atOnce(stream, 3 * mebibyte, 5000) == [])
        gate.open()
        edge.cache.waitForFills()
        #expect(atOnce(stream, content.count - 10, 5000) == content.suffix(10))
    }

    @Test func theLastByteOfWrongContentIsNeverThereAtOnce() throws {
        let edge = try Edge(smallParts)
        let content = noise(2 * mebibyte)
        let digest = edge.seed(content, named: Digest(of: noise(2 * mebibyte, seed: 2)))
        let gate = Gate()
        edge.store.hold(from: mebibyte, at: gate)
        let blob = try #require(try edge.cache.blob(digest))
        let stream = try #require(blob.stream)
        gate.open()
        for _ in 0..<1000 { #expect(atOnce(stream, content.count - 1, 1) == []) }
        edge.cache.waitForFills()
        #expect(atOnce(stream, content.count - 1, 1) == [])
    }

    /// Its part would bring it, but stands still.
    @Test func aRangeBehindASlowPartIsFetchedByItself() throws {
        let edge = try Edge { configuration in
            smallParts(&configuration)
            configuration.fillReaderPatience = .milliseconds(1)
        }
        let content = noise(4 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        edge.store.interceptPieces { call, offset throws(StoreError) in
            if call.range?.lowerBound == 0, offset >= mebibyte / 8 { gate.pass() }
        }
        #expect(try edge.read(digest, 0..<1000) == Array(content[..<1000]))
        let behind = 900_000..<901_000
        #expect(try edge.read(digest, behind) == Array(content[behind]))
        gate.open()
        edge.cache.waitForFills()
        #expect(edge.store.calls("GET") == 5)
        // The slow one does not fetch what the other has.
        #expect(edge.store.deliveredBytes < content.count + mebibyte / 4)
        #expect(try edge.read(digest) == content)
        #expect(edge.store.calls("GET") == 5)
    }

    private func atOnce(_ stream: any BlobStream, _ offset: Int, _ count: Int) -> [UInt8] {
        [UInt8](capacity: count) { stream.readAtOnce(at: Int64(offset), into: &$0) }
    }

    /// A range is looked after once it was read, which what is sent from a file cannot be.
    @Test func whoWantsTheWholeIsSentItFromTheFile() throws {
        let edge = try Edge(smallParts)
        let content = noise(2 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        let opened = try (0..<2).map { _ in try #require(try edge.cache.blob(digest)) }
        try opened[1].begin(0..<Int64(content.count) - 1)
        let streams = try opened.map { try #require($0.stream) }
        #expect(streams[0].waitForFile(at: 0) && (1...Int64(mebibyte)).contains(streams[0].countInFile(from: 0)))
        #expect(streams[1].file == nil && streams[1].countInFile(from: 0) == 0 && !streams[1].waitForFile(at: 0))
        gate.open()
        #expect(streams[0].waitForFile(at: Int64(content.count) - 1))
        let file = try #require(streams[0].file)
        #expect(streams[0].countInFile(from: 0) == Int64(content.count))
        #expect(try LocalFileSystem().read(file, at: 0, count: content.count) == content)
    }

    /// All that comes first in order is held back; the reader far ahead is served.
    @Test(arguments: [true, false])
    func aReaderFarAheadJumpsTheQueue(_ isFirst: Bool) throws {
        let edge = try Edge(smallParts)
        let content = noise(32 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        let far = 25 * mebibyte + 12345
        edge.store.interceptPieces { _, offset throws(StoreError) in
            // A quarter of the first part lets the others begin.
            if offset >= mebibyte / 4, !(25 * mebibyte..<27 * mebibyte).contains(Int(offset)) { gate.pass() }
        }
        var other: BlobContent?
        if !isFirst {
            let opened = Monitor<BlobContent??>(nil)
            let cache = edge.cache
            spawnThread(name: "client") {
                let content = try? cache.blob(digest)
                opened.update { $0 = .some(content) }
            }
            other = opened.wait { $0 } ?? nil
            gate.waitForArrivals(4)
        }
        #expect(try edge.read(digest, far..<far + 50_000) == Array(content[far..<far + 50_000]))
        gate.open()
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes == content.count)
        _ = other
        #expect(try edge.read(digest) == content)
    }

    /// Bug: eStargz reads the footer first, and had to wait for all of the blob.
    @Test(arguments: [1, 51, 4 * mebibyte])
    func theEndOfAColdBlobDoesNotWaitForTheRest(_ count: Int) throws {
        let edge = try Edge {
            smallParts(&$0)
            $0.fillReaderPatience = .milliseconds(1)
        }
        let content = noise(16 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        let footer = content.count - count..<content.count
        let partStart = footer.lowerBound / mebibyte * mebibyte
        edge.store.interceptPieces { _, offset throws(StoreError) in
            if offset >= mebibyte / 4, offset < partStart { gate.pass() }
        }
        // What counts from the end does not tell yet where it is.
        let blob = try begin(edge, digest, footer)
        let read = Monitor<[UInt8]?>(nil)
        spawnThread(name: "client") {
            let got = try? bytes(footer, of: blob)
            read.update { $0 = got ?? [] }
        }
        let found = read.wait(until: .after(.seconds(20))) { $0 }
        #expect(found.map { $0 == Array(content[footer]) } == true)
        gate.open()
        edge.cache.waitForFills()
        #expect(try edge.read(digest) == content)
        #expect(edge.store.deliveredBytes == content.count)
    }

    /// A pull that is taken up again must not end well on bytes that are not the blob's.
    @Test(arguments: [0, 1, mebibyte, 3 * mebibyte])
    func whatIsLongerAtTheEndIsHeldBack(_ start: Int) throws {
        let edge = try Edge(smallParts)
        let content = noise(6 * mebibyte)
        let digest = edge.seed(content, named: Digest(of: noise(6 * mebibyte, seed: 2)))
        let rest = try begin(edge, digest, start..<content.count)
        #expect(throws: EdgeError.self) { _ = try bytes(start..<content.count, of: rest) }
        edge.cache.waitForFills()
        // The client comes back for the byte that it lacks.
        let last = content.count - 1..<content.count
        let end = try begin(edge, digest, last)
        #expect(throws: EdgeError.self) { _ = try bytes(last, of: end) }
    }

    /// Bug: ranges that were each a quarter of a damaged blob made it complete.
    @Test func theEndOfADamagedBlobIsNotGivenOutWhereThatIsKnownInTime() throws {
        let edge = try Edge {
            smallParts(&$0)
            $0.fillReaderPatience = .seconds(20)
        }
        let content = noise(6 * mebibyte)
        let digest = edge.seed(content, named: Digest(of: noise(6 * mebibyte, seed: 2)))
        let end = content.count - mebibyte..<content.count
        let blob = try begin(edge, digest, end)
        #expect(throws: EdgeError.self) { _ = try bytes(end, of: blob) }
    }

    private func begin(_ edge: Edge, _ digest: Digest, _ range: Range<Int>) throws -> BlobContent {
        let blob = try #require(try edge.cache.blob(digest))
        try blob.begin(Int64(range.lowerBound)..<Int64(range.upperBound))
        return blob
    }

    /// The parts of one blob that nobody waits for take no thread from another blob, nor from a reader elsewhere in it.
    @Test func readingAheadHoldsNobodyUp() throws {
        let edge = try Edge {
            smallParts(&$0)
            $0.fillThreads = 4
        }
        let (large, small) = (noise(16 * mebibyte), noise(100_000, seed: 2))
        let (digest, other) = (edge.seed(large), edge.seed(small))
        let gate = Gate()
        let far = 14 * mebibyte..<14 * mebibyte + 1000
        edge.store.interceptPieces { call, offset throws(StoreError) in
            if call.key.contains(digest.hex), offset >= mebibyte / 4, offset < far.lowerBound { gate.pass() }
        }
        let opened = try #require(try edge.cache.blob(digest))
        gate.waitForArrivals(3)
        let (cache, read) = (edge.cache, Monitor<[[UInt8]?]>([]))
        for (digest, range) in [(other, 0..<small.count), (digest, far)] {
            spawnThread(name: "client") {
                let got = try? cache.blob(digest, near: Int64(range.lowerBound)).map { try bytes(range, of: $0) }
                read.update { $0.append(got) }
            }
        }
        let results = read.wait(until: .after(.seconds(20))) { $0.count == 2 ? $0 : nil } ?? []
        #expect(results.contains(small) && results.contains(Array(large[far])))
        gate.open()
        edge.cache.waitForFills()
        withExtendedLifetime(opened) {}
    }

    /// As stargz and SOCI read: many small ranges of a large cold blob, here in any order.
    @Test(arguments: 1...3 as ClosedRange<UInt64>)
    func rangesInAnyOrderFetchNothingTwice(_ seed: UInt64) throws {
        let edge = try Edge(smallParts)
        let content = noise(12 * mebibyte)
        let digest = edge.seed(content)
        var random = Seeded(state: seed)
        for _ in 0..<60 {
            let start = Int.random(in: 0..<content.count, using: &random)
            let range = start..<min(content.count, start + Int.random(in: 1...200_000, using: &random))
            #expect(try edge.read(digest, range) == Array(content[range]), "seed \(seed), \(range)")
        }
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes == content.count, "seed \(seed)")
        #expect(try edge.read(digest) == content)
    }

    @Test func aRangeBeyondTheEndOfASmallBlobOpensItAllTheSame() throws {
        let edge = try Edge(smallParts)
        for size in [0, 100, 200_000] {
            let content = noise(size, seed: 7)
            let digest = edge.seed(content)
            let answer = try #require(try edge.cache.blob(digest, near: 5_000_000))
            #expect(answer.size == Int64(size))
            #expect(try contents(answer) == content)
        }
        // The last bytes of a blob that lies in the index.
        let content = noise(5000, seed: 8)
        #expect(try edge.read(edge.seed(content), 4000..<5000) == Array(content[4000...]))
    }

    @Test func sixtyFourClientsMakeOneFill() throws {
        let edge = try Edge(smallParts)
        let content = noise(6 * mebibyte)
        let digest = edge.seed(content)
        let results = Monitor<[Bool]>([])
        let gate = Gate()
        edge.store.intercept { _, call throws(StoreError) in gate.pass() }
        let cache = edge.cache
        for _ in 0..<64 {
            spawnThread(name: "client") {
                let read = try? cache.blob(digest).map { try contents($0) }
                results.update { $0.append(read == content) }
            }
        }
        gate.waitForArrivals()
        gate.open()
        #expect(results.wait { $0.count == 64 ? $0 : nil }?.allSatisfy { $0 } == true)
        #expect(edge.store.deliveredBytes == content.count)
        let statistics = edge.cache.fillStatistics
        #expect(statistics.started == 1 && statistics.originBytes == content.count)
    }
}

extension BlobContent {
    fileprivate var stream: (any BlobStream)? {
        guard case .stream(let stream, _) = self else { return nil }
        return stream
    }
}
