import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing
import Threading

/// What lies at the origin under a blob's name and is not that blob: a push replaces it, and never takes it for what it has pushed.
@Suite struct PushTruthTests {
    private static let content = pattern(700_000)
    private static let digest = Digest(of: content)
    private static let key = key(of: digest)
    /// Less than fits in the smallest tier here.
    private static let roomBytes: Int64 = 1_200_000

    private static func key(of digest: Digest) -> String { "epoch/blobs/sha256/\(digest.hex)" }

    private func edge(
        ceilingBytes: Int64 = 256 << 20,
        _ adjust: (inout EdgeCache.Configuration) -> Void = { _ in }
    ) throws -> Edge {
        let traits = MultipartTraits(
            thresholdBytes: 128 << 10,
            partBytes: 64 << 10,
            partsInFlight: 3,
            movesCheaply: false
        )
        return try Edge(store: MemoryStore(multipart: traits), ceilingBytes: ceilingBytes) {
            $0.sendsUnnamedParts = true
            adjust(&$0)
        }
    }

    private func append(_ range: Range<Int>, to chunk: UploadChunk) {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: 10_000) {
            chunk.append(Array(Self.content[start..<min(start + 10_000, range.upperBound)]).span)
        }
    }

    private func patch(_ edge: Edge, _ id: String, _ range: Range<Int>) throws {
        let chunk = try edge.cache.openChunk(library, id)
        append(range, to: chunk)
        _ = try chunk.keep()
    }

    private func close(_ edge: Edge, _ id: String, _ range: Range<Int> = 0..<0) throws {
        let chunk = try edge.cache.openChunk(library, id, length: Int64(range.count), closing: Self.digest)
        append(range, to: chunk)
        try chunk.finish(as: Self.digest)
    }

    private func pushWhole(_ edge: Edge, length: Int64?) throws {
        let chunk = try edge.cache.openBlob(library, as: Self.digest, length: length)
        append(0..<700_000, to: chunk)
        try chunk.finish(as: Self.digest)
    }

    // MARK: Objects of another length

    /// Bug: a look that was answered after the client's last byte had come counted as "there", whatever the length.
    @Test func aLateLookAtAShortObjectDoesNotFinishThePush() throws {
        let edge = try edge()
        let content = Array(Self.content[..<150_000])
        let digest = Digest(of: content)
        edge.store[Self.key(of: digest)] = Array(content[..<75_000])
        let looks = Monitor(0)
        edge.store.intercept { _, call throws(StoreError) in
            guard call.operation == "HEAD" else { return }
            let number = looks.update { looks in
                looks += 1
                return looks
            }
            guard number == 1 else { return }
            // The one for the first part: by its end, the closing request waits for it.
            _ = looks.wait { $0 > 1 ? true : nil }
            pauseThread(.milliseconds(50))
        }
        let chunk = try edge.cache.openBlob(library, as: digest, length: nil)
        append(0..<150_000, to: chunk)
        try chunk.finish(as: digest)
        #expect(edge.store[Self.key(of: digest)] == content)
        #expect(edge.store.uploads == [])
    }

    /// Bug: where something lay under the digest they were not sent, and no push of it ever succeeded.
    @Test(arguments: [nil, 700_000], [1, 350_000, 700_000])
    func bytesPastTheDiskAreSentWhateverLiesThere(_ length: Int64?, _ lying: Int) throws {
        let edge = try edge(ceilingBytes: 600_000)
        edge.store[Self.key] = Array(Self.content[..<lying])
        try pushWhole(edge, length: length)
        #expect(edge.store.keys == [Self.key] && edge.store[Self.key] == Self.content)
        #expect(edge.store.uploads == [])
        #expect(try edge.tier.size(of: Self.digest) == nil, "it went past the disk")
    }

    @Test func aShortObjectIsSentOverAsSoonAsMoreHasCome() throws {
        let edge = try edge()
        edge.store[Self.key] = Array(Self.content[..<150_000])
        let parts = Monitor(0)
        edge.store.intercept { _, call throws(StoreError) in if call.operation == "PART" { parts.update { $0 += 1 } } }
        let chunk = try edge.cache.openBlob(library, as: Self.digest, length: nil)
        append(0..<700_000, to: chunk)
        // The closing request would send them as well.
        #expect(parts.wait(until: .after(.seconds(30))) { $0 >= 5 ? true : nil } != nil)
        try chunk.finish(as: Self.digest)
        #expect(edge.store[Self.key] == Self.content)
        #expect(edge.store.uploads == [])
    }

    /// The parts are joined to a short object, which is told.
    private func joinWrongly(_ edge: Edge) {
        let (store, strikes) = (edge.store, Monitor(0))
        store.intercept { _, call throws(StoreError) in
            guard call.operation == "COMPLETE",
                strikes.update({ strikes in
                    strikes += 1; return strikes
                }) == 1
            else { return }
            for upload in store.uploads { try store.abortUpload(upload) }
            store[Self.key] = Array(Self.content[..<300_000])
            throw StoreError(.put, in: "memory", .damagedBody, "stored 700000 bytes, found 300000")
        }
    }

    /// Bug: the first retry was told that there is no such upload, and only the second one finished it.
    @Test(arguments: [false, true])
    func theFirstRetryAfterALyingOriginFinishesIt(_ isAhead: Bool) throws {
        let edge = try edge { $0.sendsUnnamedParts = isAhead }
        joinWrongly(edge)
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<700_000)
        #expect(throws: EdgeError.self) { try close(edge, id) }
        try close(edge, id)
        #expect(edge.store.keys == [Self.key] && edge.store[Self.key] == Self.content)
        #expect(edge.store.uploads == [])
    }

    /// They were nowhere else: the client has to begin anew, and is told so.
    @Test func partsThatALyingOriginSpoiltEndTheSession() throws {
        let edge = try edge(ceilingBytes: Self.roomBytes)
        joinWrongly(edge)
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<700_000)
        for _ in 0..<2 { #expect(throws: EdgeError.self) { try close(edge, id) } }
        let error = #expect(throws: EdgeError.self) { try close(edge, id) }
        guard case .uploadUnknown? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        try pushWhole(edge, length: nil)
        #expect(edge.store[Self.key] == Self.content)
    }

    // MARK: Damaged objects of the right length

    /// Bug: a push was told that the blob is there, and whoever pulled it went on to get damaged bytes.
    @Test(arguments: [1_000, 100_000, 700_000], [false, true])
    func whatAPullFoundDamagedIsPushedAnew(_ size: Int, _ hasRoom: Bool) throws {
        let edge = try edge(ceilingBytes: hasRoom ? 256 << 20 : 600_000)
        let content = Array(Self.content[..<size])
        let digest = Digest(of: content)
        var damaged = content
        damaged[size / 2] ^= 1
        _ = edge.seed(damaged, named: digest)
        for _ in 0..<2 {
            #expect(throws: EdgeError.self) { try edge.read(digest) }
            edge.cache.waitForFills()
        }
        // A client that looks first sends it.
        #expect(try edge.cache.blobSize(digest) == nil && edge.cache.sizeAnew(digest) == nil)
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<size)
        let chunk = try edge.cache.openChunk(library, id, length: 0, closing: digest)
        try chunk.finish(as: digest)
        #expect(edge.store[Self.key(of: digest)] == content)
        #expect(edge.store.uploads == [])
        #expect(try edge.cache.sizeAnew(digest) == Int64(size) && edge.read(digest) == content)
    }

    /// Bug: a bit that was flipped on the way made a healthy blob count as missing for ten minutes.
    @Test(arguments: [1_000, 100_000, 700_000])
    func oneDamagedTransferIsNoProof(_ size: Int) throws {
        let edge = try edge()
        let digest = edge.seed(Array(Self.content[..<size]))
        edge.store.tamper(gets: 1) { bytes in
            var bytes = bytes
            bytes[bytes.count / 2] ^= 1
            return bytes
        }
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.cache.waitForFills()
        #expect(try edge.cache.blobSize(digest) == Int64(size) && edge.cache.provide(digest))
    }

    /// Bug: a large push trusted an object that one pull had found damaged, and ended the doubt.
    @Test(arguments: [1_000, 100_000, 700_000])
    func aPushReplacesWhatIsDoubted(_ size: Int) throws {
        let edge = try edge()
        let content = Array(Self.content[..<size])
        let digest = Digest(of: content)
        var damaged = content
        damaged[size / 2] ^= 1
        _ = edge.seed(damaged, named: digest)
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.cache.waitForFills()
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<size)
        try edge.cache.openChunk(library, id, length: 0, closing: digest).finish(as: digest)
        #expect(edge.store[Self.key(of: digest)] == content)
    }

    @Test func aDamagedObjectCountsAgainOnceItIsAnotherOrLongAgo() throws {
        let edge = try edge { ($0.damagedTTL, $0.absentTTL) = (.seconds(60), .zero) }
        var damaged = Self.content
        damaged[5] ^= 1
        for isReplaced in [true, false] {
            edge.store[Self.key] = damaged
            for _ in 0..<2 {
                #expect(throws: EdgeError.self) { try edge.read(Self.digest) }
                edge.cache.waitForFills()
            }
            #expect(try edge.cache.blobSize(Self.digest) == nil)
            if isReplaced { edge.store[Self.key] = Self.content } else { edge.time.advance(.seconds(60)) }
            #expect(try edge.cache.blobSize(Self.digest) == 700_000)
        }
    }

    // MARK: Bytes that are nowhere

    /// Bug: after the origin had failed, a client that repeated the closing request alone was told that its digest is wrong.
    @Test(arguments: [false, true], [0, 100_000])
    func whoRepeatsTheClosingRequestAloneIsToldToSendTheBytes(_ isPatched: Bool, _ start: Int) throws {
        let edge = try edge(ceilingBytes: Self.roomBytes)
        let id = try edge.cache.beginUpload(library).id
        if start > 0 { try patch(edge, id, 0..<start) }
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == "PART" { throw MemoryStore.unreachable(call) }
        }
        #expect(throws: EdgeError.self) {
            if isPatched { try patch(edge, id, start..<700_000) } else { try close(edge, id, start..<700_000) }
        }
        edge.store.intercept(nil)
        // Whoever comes after a kill knows it as well.
        let other = try edge.killed(ceilingBytes: Self.roomBytes)
        for edge in [other, edge] {
            for _ in 0..<2 {
                let error = #expect(throws: EdgeError.self) { try close(edge, id) }
                guard case .bytesDropped(Int64(start))? = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
            }
            #expect(try edge.cache.uploadStatus(library, id).offset == Int64(start))
        }
        try close(edge, id, start..<700_000)
        #expect(edge.store[Self.key] == Self.content)
        // Without such a failure, a wrong digest is a wrong digest.
        let next = try edge.cache.beginUpload(library).id
        let error = #expect(throws: EdgeError.self) { try close(edge, next) }
        guard case .digestMismatch? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }
}
