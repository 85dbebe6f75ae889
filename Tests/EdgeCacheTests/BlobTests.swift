import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

@Suite struct ReadThroughTests {
    @Test(arguments: [0, 1, 1000, 16 << 10, (16 << 10) + 1, 3_000_000])
    func aMissIsFilledVerifiedAndKept(_ size: Int) throws {
        let edge = try Edge()
        let content = pattern(size)
        let digest = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        let gets = edge.store.calls("GET")
        #expect(try edge.read(digest) == content)
        #expect(edge.store.calls("GET") == gets, "the second read is warm")
    }

    @Test func unknownIsNoError() throws {
        let edge = try Edge()
        #expect(try edge.read(Digest(of: [9])) == nil)
        #expect(try edge.cache.blobSize(Digest(of: [9])) == nil)
    }

    @Test func sizeComesFromTheOriginWithoutAFill() throws {
        let edge = try Edge()
        let digest = edge.seed(pattern(100_000))
        #expect(try edge.cache.blobSize(digest) == 100_000)
        #expect(edge.store.calls("GET") == 0)
    }

    @Test func manyClientsMakeOneFill() throws {
        let edge = try Edge()
        let content = pattern(2_000_000)
        let digest = edge.seed(content)
        let results = Monitor<[Bool]>([])
        let gate = Monitor(false)
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == "GET" { _ = gate.wait { $0 ? true : nil } }
        }
        let cache = edge.cache
        for _ in 0..<16 {
            spawnThread(name: "client") {
                let read = try? cache.blob(digest).map { try contents($0) }
                results.update { $0.append(read == content) }
            }
        }
        gate.update { $0 = true }
        #expect(results.wait { $0.count == 16 ? $0 : nil }?.allSatisfy { $0 } == true)
        #expect(edge.store.calls("GET") == 1)
    }

    /// The last byte must not come before the digest is known to be right.
    @Test(arguments: [100_000, 1000])
    func damageIsNeverACleanEnd(_ size: Int) throws {
        let edge = try Edge()
        var content = pattern(size)
        let digest = Digest(of: content)
        content[size / 2] ^= 1
        _ = edge.seed(content, named: digest)
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.cache.waitForFills()
        #expect(try edge.tier.size(of: digest) == nil)
        content[size / 2] ^= 1
        _ = edge.seed(content, named: digest)
        #expect(try edge.read(digest) == content, "the next client gets the repaired blob")
    }

    @Test func aBrokenTransferIsTakenUpWhereItStopped() throws {
        let edge = try Edge()
        let content = pattern(2_000_000)
        let digest = edge.seed(content)
        edge.store.breakNextGet(afterBytes: 500_000)
        #expect(try edge.read(digest) == content)
        #expect(edge.store.calls("GET") == 2)
    }

    @Test func whatNeverFitsIsStreamedThrough() throws {
        let edge = try Edge(ceilingBytes: 8 << 20)
        let content = pattern(12 << 20)
        let digest = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(try edge.tier.size(of: digest) == nil)
        let content2 = try #require(try edge.cache.blob(digest))
        #expect(try contents(content2, from: 12_000_000) == Array(content[12_000_000...]))
    }

    /// Each of them used to make the origin send the blob.
    @Test func aHerdOnWhatNeverFitsSharesAStream() throws {
        let edge = try Edge(ceilingBytes: 8 << 20)
        let content = pattern(12 << 20)
        let digest = edge.seed(content)
        let (opened, results) = (Monitor(0), Monitor<[Bool]>([]))
        let cache = edge.cache
        // All ask before there is an answer.
        edge.store.intercept { _, call throws(StoreError) in
            while call.operation == "GET", cache.fillStatistics.coalescedRequests < 23 { pauseThread(.milliseconds(1)) }
        }
        for _ in 0..<24 {
            spawnThread(name: "client") {
                let blob = try? cache.blob(digest)
                opened.update { $0 += 1 }
                _ = opened.wait { $0 == 24 ? true : nil }
                let read = try? blob.map { try contents($0) }
                results.update { $0.append(read == content) }
            }
        }
        #expect(results.wait { $0.count == 24 ? $0 : nil }?.allSatisfy { $0 } == true)
        // The fill that does not fit, and the stream; more only for who is left behind on a busy machine.
        #expect(edge.store.calls("GET") <= 8, "\(edge.store.calls("GET"))")
    }

    @Test func whoDoesNotReadHoldsNobodyUpInASharedStream() throws {
        let edge = try Edge(ceilingBytes: 8 << 20)
        let content = pattern(12 << 20)
        let digest = edge.seed(content)
        let idle = try #require(try edge.cache.blob(digest))
        var leaving = try edge.cache.blob(digest)
        if case .stream(let stream, _)? = leaving {
            let some = try [UInt8](capacity: 1000) { (buffer: inout OutputSpan<UInt8>) throws(EdgeError) in
                try stream.read(at: 0, into: &buffer)
            }
            #expect(some == Array(content[..<some.count]))
        }
        leaving = nil
        #expect(try edge.read(digest) == content)
        #expect(try contents(idle) == content)
    }

    @Test func damageIsSeenInAStreamToo() throws {
        let edge = try Edge(ceilingBytes: 8 << 20)
        var content = pattern(12 << 20)
        let digest = Digest(of: content)
        content[5] ^= 1
        _ = edge.seed(content, named: digest)
        #expect(throws: EdgeError.self) { try edge.read(digest) }
    }

    /// The disk breaks at the n-th operation, for each n: the client gets its bytes all the same.
    @Test func aFailingDiskNeverCostsAPull() throws {
        let content = pattern(400_000)
        for failing in 1...200 {
            let files = FaultyFileSystem()
            let edge = try Edge(fileSystem: files)
            let digest = edge.seed(content)
            files.failCall(failing)
            #expect(try edge.read(digest) == content, "operation \(failing)")
            edge.cache.close()
            if !files.hasFailed { return }
        }
        Issue.record("the disk was never left in peace")
    }

    /// Found by killing and deleting under load: who asked after a delete was answered by a fill from before it.
    @Test func aFillFromBeforeADeleteAnswersNobodyAfterIt() throws {
        let files = FaultyFileSystem()
        let edge = try Edge(fileSystem: files)
        let content = pattern(100_000)
        let digest = edge.seed(content)
        let gate = Monitor(false)
        files.beforeCalls { operation, path in
            if operation == "pwrite", path.contains("/incoming/") { _ = gate.wait { $0 ? true : nil } }
        }
        let before = try #require(try edge.cache.blob(digest))
        #expect(try edge.cache.deleteBlob(digest))
        #expect(try edge.cache.blob(digest)?.size == nil)
        gate.update { $0 = true }
        #expect(try contents(before) == content)
        edge.cache.waitForFills()
        #expect(try edge.read(digest) == nil)
    }

    /// Bug: where the answer to a delete was lost, the blob went on being served from here.
    @Test(
        arguments: [
            (StoreError.Kind.timeout, nil, false), (.serverFailure, nil, false), (.denied, nil, true),
            (.unavailable, nil, true), (.unavailable, true, false), (.denied, true, false),
        ] as [(StoreError.Kind, Bool?, Bool)]
    )
    func aDeleteWhoseAnswerIsLostIsAQuestionForTheOrigin(_ kind: StoreError.Kind, mayBeDone: Bool?, isKept: Bool) throws
    {
        let edge = try Edge()
        let content = pattern(100_000)
        let digest = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        edge.store.intercept { _, call throws(StoreError) in
            guard call.operation == "DELETE" else { return }
            throw StoreError(.delete, in: "memory", kind, "", mayBeDone: mayBeDone)
        }
        #expect(throws: EdgeError.self) { try edge.cache.deleteBlob(digest) }
        #expect(try (edge.tier.size(of: digest) != nil) == isKept)
        edge.store.intercept(nil)
        #expect(try edge.read(digest) == content)
    }

    /// A fill of many gigabytes must not hold up the end of the process.
    @Test func closingBreaksOffAFill() throws {
        let edge = try Edge()
        let digest = edge.seed(pattern(2_000_000))
        let gate = Monitor((reached: false, open: false))
        edge.store.intercept { _, call throws(StoreError) in
            guard call.operation == "GET" else { return }
            gate.update { $0.reached = true }
            _ = gate.wait { $0.open ? true : nil }
        }
        let (cache, outcome) = (edge.cache, Monitor<Bool?>(nil))
        spawnThread(name: "client") {
            let hasFailed = (try? cache.blob(digest).map { try contents($0) }) == nil
            outcome.update { $0 = hasFailed }
        }
        _ = gate.wait { $0.reached ? true : nil }
        #expect(cache.close(within: .milliseconds(1)) == false)
        gate.update { $0.open = true }
        #expect(cache.close())
        #expect(outcome.wait { $0 } == true)
        #expect(try edge.tier.size(of: digest) == nil)
    }

    @Test func anOriginInTroubleIsNotNotFound() throws {
        let edge = try Edge()
        let digest = edge.seed(pattern(100_000))
        edge.store.intercept { _, call throws(StoreError) in
            throw MemoryStore.unreachable(call)
        }
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.store.intercept(nil)
        #expect(try edge.read(digest) != nil)
    }
}

@Suite struct WriteThroughTests {
    @Test(arguments: [0, 1000, 100_000], DigestAlgorithm.allCases)
    func aPushIsAtTheOriginAndWarm(_ size: Int, _ algorithm: DigestAlgorithm) throws {
        let edge = try Edge()
        let content = pattern(size)
        let digest = Digest(of: content, algorithm)
        try edge.push(content, as: digest)
        #expect(edge.store["epoch/blobs/\(algorithm.rawValue)/\(digest.hex)"] == content)
        #expect(try edge.read(digest) == content)
        #expect(edge.store.calls("GET") == 0)
    }

    @Test func theAlgorithmMayBeNamedAtTheEnd() throws {
        let edge = try Edge()
        let content = pattern(100_000)
        let upload = try edge.cache.beginUpload(library)
        let chunk = try edge.cache.openChunk(library, upload.id)
        chunk.append(content.span)
        try chunk.finish(as: Digest(of: content, .sha512))
        #expect(try edge.read(Digest(of: content, .sha512)) == content)
    }

    @Test func aWrongDigestLeavesNothingButTheSession() throws {
        let edge = try Edge()
        let content = pattern(100_000)
        let upload = try edge.cache.beginUpload(library)
        let wrong = try edge.cache.openChunk(library, upload.id)
        wrong.append(content.span)
        #expect(throws: EdgeError.self) { try wrong.finish(as: Digest(of: [1])) }
        #expect(edge.store.keys == [])
        #expect(try edge.cache.uploadStatus(library, upload.id).offset == 0)
        let right = try edge.cache.openChunk(library, upload.id)
        right.append(content.span)
        try right.finish(as: Digest(of: content))
        #expect(throws: EdgeError.self) { try edge.cache.uploadStatus(library, upload.id) }
    }

    @Test func anOriginThatFailsLeavesTheSessionForARetry() throws {
        let edge = try Edge()
        let content = pattern(100_000)
        let upload = try edge.cache.beginUpload(library)
        let first = try edge.cache.openChunk(library, upload.id)
        first.append(content.span)
        #expect(try first.keep().offset == 100_000)
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == "PUT" {
                throw MemoryStore.unreachable(call)
            }
        }
        let failing = try edge.cache.openChunk(library, upload.id)
        #expect(throws: EdgeError.self) { try failing.finish(as: Digest(of: content)) }
        edge.store.intercept(nil)
        let closing = try edge.cache.openChunk(library, upload.id)
        try closing.finish(as: Digest(of: content))
        #expect(try edge.read(Digest(of: content)) == content)
    }

    @Test func chunksMustFollowEachOther() throws {
        let edge = try Edge()
        let upload = try edge.cache.beginUpload(library)
        let first = try edge.cache.openChunk(library, upload.id, range: ContentRange("0-9"), length: 10)
        #expect(throws: EdgeError.self) { try edge.cache.openChunk(library, upload.id) }
        first.append(pattern(10).span)
        #expect(try first.keep().offset == 10)
        let error = #expect(throws: EdgeError.self) {
            try edge.cache.openChunk(library, upload.id, range: ContentRange("20-29"), length: 10)
        }
        guard case .chunkOutOfOrder(10)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try edge.cache.uploadStatus(library, upload.id).offset == 10)
    }

    @Test(arguments: [10, 100_000])
    func anAbandonedChunkDoesNotMoveTheSession(_ size: Int) throws {
        let edge = try Edge()
        let content = pattern(size * 2)
        let upload = try edge.cache.beginUpload(library)
        let first = try edge.cache.openChunk(library, upload.id)
        first.append(Array(content[..<size]).span)
        #expect(try first.keep().offset == Int64(size))
        let broken = try edge.cache.openChunk(library, upload.id)
        broken.append(pattern(50_000, seed: 7).span)
        broken.abandon()
        let short = try edge.cache.openChunk(library, upload.id, length: Int64(size))
        short.append([1].span)
        #expect(throws: EdgeError.self) { try short.keep() }
        #expect(try edge.cache.uploadStatus(library, upload.id).offset == Int64(size))
        let last = try edge.cache.openChunk(library, upload.id)
        last.append(Array(content[size...]).span)
        try last.finish(as: Digest(of: content))
        #expect(try edge.read(Digest(of: content)) == content)
    }

    @Test func sessionsAreBoundedExpireAndCanBeCanceled() throws {
        let edge = try Edge {
            $0.uploadSessionLimit = 2
            $0.uploadExpiry = .seconds(60)
        }
        let first = try edge.cache.beginUpload(library)
        let second = try edge.cache.beginUpload(library)
        #expect(throws: EdgeError.self) { try edge.cache.beginUpload(library) }
        try edge.cache.cancelUpload(library, first.id)
        #expect(throws: EdgeError.self) { try edge.cache.uploadStatus(library, first.id) }
        _ = try edge.cache.beginUpload(library)
        edge.time.advance(.seconds(61))
        #expect(throws: EdgeError.self) { try edge.cache.uploadStatus(library, second.id) }
        _ = try edge.cache.beginUpload(library)
        _ = try edge.cache.beginUpload(library)
    }

    @Test func aSessionBelongsToItsRepository() throws {
        let edge = try Edge()
        let upload = try edge.cache.beginUpload(library)
        #expect(throws: EdgeError.self) { try edge.cache.uploadStatus(RepositoryName("other"), upload.id) }
    }

    @Test func aDeletedBlobIsGoneEverywhere() throws {
        let edge = try Edge()
        let content = pattern(50_000)
        try edge.push(content)
        #expect(try edge.cache.deleteBlob(Digest(of: content)))
        #expect(try edge.read(Digest(of: content)) == nil)
        #expect(try edge.cache.deleteBlob(Digest(of: content)) == false)
    }
}
