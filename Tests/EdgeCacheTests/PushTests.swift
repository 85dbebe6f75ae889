import DiskTier
import EdgeCache
import Hashing
import Logging
import OCI
import ObjectStorage
import Registry
import System
import TestDoubles
import Testing
import Threading

/// Pushes in parts of 64 KiB: how they reach the origin, and what becomes of them when it, or the disk, gives way.
@Suite struct PushTests {
    private static let content = pattern(700_000)
    private static let digest = Digest(of: content)
    private static let key = "epoch/blobs/sha256/\(digest.hex)"
    /// The parts that the content has.
    private static let parts = 11

    private func store(movesCheaply: Bool? = false, copiesCheaply: Bool? = nil) -> MemoryStore {
        MemoryStore(
            multipart: MultipartTraits(
                thresholdBytes: 128 << 10,
                partBytes: 64 << 10,
                partsInFlight: 3,
                movesCheaply: movesCheaply
            ),
            copiesCheaply: copiesCheaply
        )
    }

    private func append(_ bytes: ArraySlice<UInt8>, to chunk: UploadChunk) {
        for start in stride(from: bytes.startIndex, to: bytes.endIndex, by: 10_000) {
            chunk.append(Array(bytes[start..<min(start + 10_000, bytes.endIndex)]).span)
        }
    }

    private func patch(_ edge: Edge, _ id: String, _ range: Range<Int>, length: Int64? = nil) throws {
        let chunk = try edge.cache.openChunk(library, id, length: length)
        append(Self.content[range], to: chunk)
        _ = try chunk.keep()
    }

    private func close(_ edge: Edge, _ id: String, _ range: Range<Int> = 0..<0, as digest: Digest = digest) throws {
        let chunk = try edge.cache.openChunk(library, id, length: Int64(range.count), closing: digest)
        append(Self.content[range], to: chunk)
        try chunk.finish(as: digest)
    }

    private func expectPushed(_ edge: Edge, isWarm: Bool = true, sourceLocation: SourceLocation = #_sourceLocation)
        throws
    {
        #expect(edge.store[Self.key] == Self.content, sourceLocation: sourceLocation)
        #expect(edge.store.keys == [Self.key], sourceLocation: sourceLocation)
        #expect(edge.store.uploads == [], sourceLocation: sourceLocation)
        #expect(try edge.tier.size(of: Self.digest) == (isWarm ? 700_000 : nil), sourceLocation: sourceLocation)
        if !isWarm { #expect(edge.tier.statistics.reservedBytes == 0, sourceLocation: sourceLocation) }
    }

    // MARK: What is sent when

    @Test func partsOfANamedBlobAreSentWhileItComesIn() throws {
        let edge = try Edge(store: store())
        let chunk = try edge.cache.openBlob(library, as: Self.digest, length: 700_000)
        let sent = Monitor(0)
        edge.store.intercept { _, call throws(StoreError) in if call.operation == "PART" { sent.update { $0 += 1 } } }
        append(Self.content[...], to: chunk)
        // What the client's last bytes wait for is not the origin's first.
        _ = sent.wait { $0 >= 5 ? true : nil }
        #expect(edge.store.calls("COMPLETE") == 0)
        try chunk.finish(as: Self.digest)
        try expectPushed(edge)
        #expect(edge.store.calls("PART") == Self.parts)
        #expect(edge.store.calls("COPY") == 0)
    }

    @Test(arguments: [false, true], [nil, false, true])
    func anUnnamedBlobIsSentAheadWhereThatIsCheapOrWished(_ movesCheaply: Bool, _ isWished: Bool?) throws {
        let edge = try Edge(store: store(movesCheaply: movesCheaply)) { $0.sendsUnnamedParts = isWished }
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<700_000)
        let isAhead = isWished ?? movesCheaply
        // The first part begins the upload, in a thread of its own.
        if isAhead { while edge.store.uploads.isEmpty { pauseThread(.milliseconds(1)) } }
        #expect(edge.store.uploads.isEmpty != isAhead)
        try close(edge, id)
        try expectPushed(edge)
        #expect(edge.store.calls("COPY") == (isAhead && !movesCheaply ? 1 : 0))
        #expect(edge.store.calls("PART") == Self.parts)
    }

    /// Bug: the first large push of a process went there in parts and was copied then, which took twice as long where copies are dear.
    @Test(arguments: [false, true])
    func whatMovingPartsCostsIsTriedOutFirst(_ isCheap: Bool) throws {
        let edge = try Edge(store: store(movesCheaply: nil, copiesCheaply: isCheap))
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<400_000)
        while edge.store.multipart.movesCheaply == nil { pauseThread(.milliseconds(1)) }
        // Bytes that came meanwhile may have found out already.
        if !isCheap { #expect(edge.store.uploads.isEmpty && edge.store.calls("PART") == 1) }
        try patch(edge, id, 400_000..<700_000)
        if isCheap { while edge.store.uploads.isEmpty { pauseThread(.milliseconds(1)) } }
        #expect(edge.store.uploads.isEmpty != isCheap)
        try close(edge, id)
        while edge.store.keys != [Self.key] { pauseThread(.milliseconds(1)) }
        try expectPushed(edge)
        #expect(edge.store.calls("COPY") == (isCheap ? 2 : 1) && edge.store.calls("PART") == Self.parts + 1)
    }

    @Test func oneUploadTriesItOutAndTheOthersWait() throws {
        let edge = try Edge(store: store(movesCheaply: nil, copiesCheaply: false))
        let gate = Gate()
        edge.store.intercept { _, call throws(StoreError) in if call.operation == "COPY" { gate.pass() } }
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<700_000)
        gate.waitForArrivals(1)
        // It is on its way, and this push of the same bytes needs no answer.
        let other = try edge.cache.beginUpload(library).id
        try patch(edge, other, 0..<700_000)
        try close(edge, other)
        #expect(edge.store.calls("COPY") == 1 && edge.store.calls("PART") == Self.parts + 1)
        gate.open()
        try close(edge, id)
        while edge.store.keys != [Self.key] { pauseThread(.milliseconds(1)) }
        try expectPushed(edge)
    }

    @Test func anOriginThatCopiesNothingGetsNamedParts() throws {
        let edge = try Edge(store: store(movesCheaply: nil))
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == "COPY" { throw StoreError(.put, in: "memory", .denied, "no copies", status: 403) }
        }
        let id = try edge.cache.beginUpload(library).id
        for start in stride(from: 0, to: 700_000, by: 100_000) {
            try patch(edge, id, start..<start + 100_000)
            if start == 100_000 { while edge.store.calls("COPY") == 0 { pauseThread(.milliseconds(1)) } }
        }
        try close(edge, id)
        while edge.store.keys != [Self.key] { pauseThread(.milliseconds(1)) }
        #expect(edge.store[Self.key] == Self.content && edge.store.calls("COPY") == 1)
    }

    @Test(arguments: [false, true])
    func whatTheOriginHasIsNotSentAgain(_ isNamed: Bool) throws {
        let edge = try Edge(store: store()) { $0.sendsUnnamedParts = true }
        _ = edge.seed(Self.content)
        if isNamed {
            let chunk = try edge.cache.openBlob(library, as: Self.digest, length: 700_000)
            append(Self.content[...], to: chunk)
            try chunk.finish(as: Self.digest)
            #expect(edge.store.calls("PART") + edge.store.calls("BEGIN") == 0)
        } else {
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<700_000)
            try close(edge, id)
        }
        #expect(edge.store.calls("PUT") + edge.store.calls("COMPLETE") == 0)
        try expectPushed(edge)
    }

    /// A large blob's upload looks once more when it begins.
    @Test func whatAClientHasJustLookedForIsNotLookedForAgain() throws {
        let edge = try Edge(store: store())
        let digest = Digest(of: Array(Self.content.prefix(1_000)))
        #expect(try edge.cache.blobSize(digest) == nil)
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<1_000)
        try close(edge, id, as: digest)
        #expect(edge.store.calls("HEAD") == 1)
        #expect(edge.store.calls("PUT") == 1)
    }

    @Test func aWrongDigestIsNeverVisible() throws {
        let edge = try Edge(store: store())
        let wrong = Digest(of: [1])
        let chunk = try edge.cache.openBlob(library, as: wrong, length: nil)
        append(Self.content[...], to: chunk)
        #expect(throws: EdgeError.self) { try chunk.finish(as: wrong) }
        #expect(edge.store.keys == [] && edge.store.uploads == [])

        // Parts that were begun for one digest must not be completed under it when the client then names another.
        let id = try edge.cache.beginUpload(library).id
        #expect(throws: EdgeError.self) { try close(edge, id, 0..<700_000, as: wrong) }
        try close(edge, id, 0..<700_000)
        try expectPushed(edge)
    }

    @Test func aChunkThatFailsTakesItsPartsBack() throws {
        let edge = try Edge(store: store(movesCheaply: true))
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<250_000)
        let failing = try edge.cache.openChunk(library, id)
        failing.append(pattern(400_000, seed: 3).span)
        failing.abandon()
        #expect(try edge.cache.uploadStatus(library, id).offset == 250_000)
        try patch(edge, id, 250_000..<600_000)
        try close(edge, id, 600_000..<700_000)
        try expectPushed(edge)
    }

    @Test func twoClientsMayPushOneBlobAtOnce() throws {
        let edge = try Edge(store: store())
        let chunks = try (0..<2).map { _ in try edge.cache.openBlob(library, as: Self.digest, length: 700_000) }
        for chunk in chunks { append(Self.content[...], to: chunk) }
        for chunk in chunks { try chunk.finish(as: Self.digest) }
        try expectPushed(edge)
    }

    @Test(arguments: [false, true])
    func aDeleteDuringAPushLeavesNothingOnDisk(_ isAhead: Bool) throws {
        let edge = try Edge(store: store(movesCheaply: isAhead))
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<700_000)
        let cache = edge.cache
        edge.store.intercept { _, call throws(StoreError) in
            // The delete is done, at the origin too, before the blob arrives there.
            if call.operation == "COMPLETE" { _ = try? cache.deleteBlob(Self.digest) }
        }
        try close(edge, id)
        #expect(try edge.tier.size(of: Self.digest) == nil, "the tier cannot know which of the two the origin saw last")
        #expect(edge.store.uploads == [])
    }

    // MARK: An origin that fails

    @Test(arguments: [1_000, 100_000, 700_000], [false, true])
    func aRetryOfThePutAloneFinishesIt(_ size: Int, _ bodyComesAgain: Bool) throws {
        let edge = try Edge(store: store())
        let content = Array(Self.content[..<size])
        let digest = Digest(of: content)
        let id = try edge.cache.beginUpload(library).id
        edge.store.intercept { _, call throws(StoreError) in
            if ["PUT", "COMPLETE"].contains(call.operation) { throw MemoryStore.unreachable(call) }
        }
        for attempt in 0..<2 {
            let error = #expect(throws: EdgeError.self) {
                try close(edge, id, attempt == 0 || bodyComesAgain ? 0..<size : 0..<0, as: digest)
            }
            guard case .origin? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(try edge.cache.uploadStatus(library, id).offset == Int64(size))
        }
        edge.store.intercept(nil)
        let other = try edge.killed()
        for edge in [other, edge] {
            try close(edge, id, bodyComesAgain ? 0..<size : 0..<0, as: digest)
            #expect(edge.store["epoch/blobs/sha256/\(digest.hex)"] == content)
            #expect(edge.store.calls("PART") == 0, "the parts were there")
            #expect(edge.store.uploads == [])
        }
    }

    /// A blob cannot have another length: what lies there was left by a broken push, or by something else.
    @Test(arguments: [1_000, 100_000, 700_000], [0, 1])
    func anObjectOfAnotherLengthIsReplaced(_ size: Int, _ named: Int) throws {
        let edge = try Edge(store: store())
        let content = Array(Self.content[..<size])
        let digest = Digest(of: content)
        let key = "epoch/blobs/sha256/\(digest.hex)"
        edge.store[key] = Array(content[..<(size / 2)])
        let id = try edge.cache.beginUpload(library).id
        if named == 0 { try patch(edge, id, 0..<size) }
        try close(edge, id, named == 0 ? 0..<0 : 0..<size, as: digest)
        #expect(edge.store[key] == content)
        #expect(edge.store.uploads == [])
    }

    @Test func aRepeatedRangeIsTheSameBytes() throws {
        let edge = try Edge(store: store())
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<500_000)
        edge.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        func closing() throws {
            let range = ContentRange("500000-699999")
            let chunk = try edge.cache.openChunk(library, id, range: range, length: 200_000, closing: Self.digest)
            append(Self.content[500_000...], to: chunk)
            try chunk.finish(as: Self.digest)
        }
        #expect(throws: EdgeError.self) { try closing() }
        edge.store.intercept(nil)
        try closing()
        try expectPushed(edge)
    }

    /// The n-th call fails, for each n, until it passes untouched: nothing acknowledged is lost, nothing wrong becomes visible, nothing stays.
    @Test(arguments: [false, true], [false, true])
    func everyCallMayFail(_ movesCheaply: Bool, _ isNamed: Bool) throws {
        let code = Monitor(0)
        for failing in 1...60 {
            let edge = try Edge(store: store(movesCheaply: movesCheaply)) { $0.sendsUnnamedParts = true }
            code.update { $0 = 0 }
            edge.store.intercept { number, call throws(StoreError) in
                guard number == failing else { return }
                code.update { $0 += 1 }
                throw MemoryStore.unreachable(call)
            }
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<400_000)
            try? close(edge, id, isNamed ? 400_000..<700_000 : 0..<0, as: isNamed ? Self.digest : Digest(of: [1]))
            for key in edge.store.keys where key.hasPrefix("epoch/blobs/") { #expect(key == Self.key) }
            if (try? edge.cache.uploadStatus(library, id)) != nil {
                let offset = Int(try edge.cache.uploadStatus(library, id).offset)
                #expect(offset >= 400_000)
                if (try? close(edge, id, offset..<700_000)) == nil { try close(edge, id) }
            }
            #expect(edge.store[Self.key] == Self.content, "call \(failing)")
            #expect(try edge.read(Self.digest) == Self.content)
            edge.store.intercept(nil)
            edge.time.advance(.seconds(49 * 3600))
            // What could not be aborted or removed then is so later.
            _ = try edge.registry.removeAbandonedUploads(
                before: WallTime(seconds: SystemTime().wallTime().seconds + 60),
                except: []
            )
            #expect(edge.store.uploads == [], "call \(failing)")
            if code.withLock({ $0 }) == 0 { return }
        }
        Issue.record("the origin was never left in peace")
    }

    @Test func anUploadThatTheOriginForgotIsSentAnew() throws {
        let edge = try Edge(store: store(movesCheaply: true))
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<700_000)
        while edge.store.uploads.isEmpty { pauseThread(.milliseconds(1)) }
        for upload in edge.store.uploads { try edge.store.abortUpload(upload) }
        if (try? close(edge, id)) == nil { try close(edge, id) }
        try expectPushed(edge)
    }

    /// Bug: the upload that a part began for the wrong digest, while the right one was named, was completed under that and ended the process.
    @Test func aDigestMayTurnOutWrongWhileTheOriginIsSlow() throws {
        let edge = try Edge(store: store()) { $0.sendsUnnamedParts = false }
        let id = try edge.cache.beginUpload(library).id
        // Few enough for nobody to wait for the origin.
        try patch(edge, id, 0..<150_000)
        #expect(throws: EdgeError.self) { try close(edge, id, as: Digest(of: [1])) }
        let begun = Monitor(false)
        edge.store.intercept { _, call throws(StoreError) in
            guard call.operation == "BEGIN" else { return }
            begun.update { $0 = true }
            pauseThread(.milliseconds(50))
        }
        try patch(edge, id, 150_000..<150_001)
        _ = begun.wait { $0 ? true : nil }
        let digest = Digest(of: Array(Self.content[...150_000]))
        try close(edge, id, as: digest)
        #expect(edge.store.keys == ["epoch/blobs/sha256/\(digest.hex)"])
        #expect(edge.store.uploads == [])
    }

    // MARK: A process that ends

    @Test func partsAreNotSentAgainAfterAKill() throws {
        let first = try Edge(store: store(movesCheaply: true))
        let id = try first.cache.beginUpload(library).id
        try patch(first, id, 0..<400_000)
        // A second look acknowledges the parts too.
        while first.store.calls("PART") < 6 { pauseThread(.milliseconds(1)) }
        while try first.cache.uploadStatus(library, id).offset < 400_001 { try patch(first, id, 400_000..<400_001) }
        let edge = try first.killed()
        edge.store.intercept(nil)
        try close(edge, id, 400_001..<700_000)
        try expectPushed(edge)
        #expect(edge.store.calls("PART") <= Self.parts - 3)
    }

    @Test func expiryAndCancelAbortWhatIsAtTheOrigin() throws {
        let edge = try Edge(store: store(movesCheaply: true)) { $0.uploadExpiry = .seconds(60) }
        for isCanceled in [true, false] {
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<400_000)
            while edge.store.uploads.isEmpty { pauseThread(.milliseconds(1)) }
            if isCanceled {
                try edge.cache.cancelUpload(library, id)
            } else {
                let later = try edge.killed { $0.uploadExpiry = .seconds(60) }
                later.time.advance(.seconds(61))
                later.cache.expireUploads()
            }
            #expect(edge.store.uploads == [])
        }
    }

    @Test func abandonedUploadsAreAbortedAfterAGracePeriod() throws {
        let store = store(movesCheaply: true)
        let edge = try Edge(store: store, time: ManualTime(at: SystemTime().wallTime())) {
            $0.abandonedUploadGrace = .seconds(3600)
            $0.uploadExpiry = .seconds(1_000_000)
        }
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<400_000)
        // Only with its first part does the session know its upload.
        while store.calls("PART") < 1 { pauseThread(.milliseconds(1)) }
        let living = store.uploads
        let keys = ["epoch/_uploads/left", "epoch/blobs/sha256/\(Self.digest.hex)", "epoch/other", "elsewhere"]
        let others = try keys.map { try store.beginUpload(ObjectKey($0), contentType: nil) }
        edge.cache.removeAbandonedUploads()
        #expect(Set(store.uploads) == Set(living + others), "they are young yet")
        edge.time.advance(.seconds(3700))
        edge.cache.removeAbandonedUploads()
        #expect(Set(store.uploads) == Set(living + others.suffix(2)), "what is no blob's is not ours")
        try close(edge, id, 400_000..<700_000)
        #expect(store[Self.key] == Self.content)
    }

    /// Bug: a node whose clock was days ahead, and which knew it, aborted what others had just begun.
    @Test func theGracePeriodIsOnTheStoresClock() throws {
        let store = store(movesCheaply: true)
        let fast = WallTime(seconds: SystemTime().wallTime().seconds + 3 * 86_400)
        let edge = try Edge(store: store, time: ManualTime(at: fast)) { $0.abandonedUploadGrace = .seconds(3_600) }
        store.clockOffsetSeconds = -3 * 86_400
        let other = try store.beginUpload(ObjectKey("epoch/_uploads/other"), contentType: nil)
        edge.cache.removeAbandonedUploads()
        #expect(store.uploads == [other])
        edge.time.advance(.seconds(3_700))
        edge.cache.removeAbandonedUploads()
        #expect(store.uploads == [])
    }

    /// Bug: the first that could not be aborted kept all after it.
    @Test func anUploadThatCannotBeAbortedKeepsNoOther() throws {
        let store = store(movesCheaply: true)
        let edge = try Edge(store: store, time: ManualTime(at: SystemTime().wallTime())) {
            $0.abandonedUploadGrace = .seconds(3_600)
        }
        let uploads = try (0..<6).map { try store.beginUpload(ObjectKey("epoch/_uploads/\($0)"), contentType: nil) }
        edge.time.advance(.seconds(3_700))
        store.intercept { _, call throws(StoreError) in
            guard call.operation == "ABORT", call.key.hasSuffix("2") else { return }
            throw StoreError(.put, in: "memory", .denied, "", status: 403)
        }
        edge.cache.removeAbandonedUploads()
        #expect(store.uploads == [uploads[2]])
    }

    // MARK: A disk without room

    private func tightEdge(_ store: MemoryStore, _ adjust: (inout EdgeCache.Configuration) -> Void = { _ in }) throws
        -> Edge
    {
        try Edge(store: store, ceilingBytes: 600_000, adjust)
    }

    /// The length is announced, or found out on the way.
    @Test(arguments: [nil, 700_000], [false, true])
    func whatNeverFitsGoesToTheOriginAllTheSame(_ length: Int64?, _ isNamed: Bool) throws {
        let edge = try tightEdge(store())
        if isNamed {
            let chunk = try edge.cache.openBlob(library, as: Self.digest, length: length)
            append(Self.content[...], to: chunk)
            try chunk.finish(as: Self.digest)
        } else {
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<700_000, length: length)
            try close(edge, id)
        }
        try expectPushed(edge, isWarm: false)
        #expect(edge.store.calls("COPY") == (isNamed ? 0 : 1))
    }

    @Test func chunksPastTheDiskCanFailAndBeKilled() throws {
        // Room for the record with its part, not for a file of unknown length.
        var edge = try Edge(store: store(), ceilingBytes: 1_200_000)
        let id = try edge.cache.beginUpload(library).id
        var offset = 0
        for end in [100_000, 400_000, 620_000] {
            try patch(edge, id, offset..<end)
            offset = end
            let failing = try edge.cache.openChunk(library, id)
            append(pattern(330_000, seed: 5)[...], to: failing)
            failing.abandon()
            #expect(try edge.cache.uploadStatus(library, id).offset == Int64(end))
            edge = try edge.killed(ceilingBytes: 1_200_000)
            #expect(try edge.cache.uploadStatus(library, id).offset == Int64(end))
        }
        try close(edge, id, 620_000..<700_000)
        #expect(edge.store[Self.key] == Self.content)
        #expect(edge.store.uploads == [])
    }

    @Test func aFullDiskIsPassedBy() throws {
        for failing in 1...200 {
            let files = FaultyFileSystem()
            let edge = try Edge(store: store(), fileSystem: files)
            files.failCall(failing, code: 28, lasting: true, of: ["pwrite", "fallocate", "mkdir", "rename"])  // ENOSPC
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<300_000)
            try patch(edge, id, 300_000..<600_000)
            try close(edge, id, 600_000..<700_000)
            #expect(edge.store[Self.key] == Self.content, "operation \(failing)")
            #expect(edge.store.uploads == [])
            if !files.hasFailed { return }
        }
        Issue.record("the disk was never left in peace")
    }

    @Test func tooManyWithoutRoomAreRefused() throws {
        let edge = try tightEdge(store()) { $0.passingUploadLimit = 1 }
        let first = try edge.cache.openBlob(library, as: Self.digest, length: 700_000)
        let error = #expect(throws: EdgeError.self) {
            _ = try edge.cache.openBlob(library, as: Self.digest, length: 700_000)
        }
        guard case .tier(let reason)? = error, reason.isNoSpace else {
            Issue.record("\(String(describing: error))")
            return
        }
        append(Self.content[...], to: first)
        try first.finish(as: Self.digest)
        let next = try edge.cache.openBlob(library, as: Self.digest, length: 700_000)
        append(Self.content[...], to: next)
        try next.finish(as: Self.digest)
    }

    /// Bug: they counted as acknowledged though the origin had not all of them, and the retry was told that there is no such upload.
    @Test func aClosingRequestPastTheDiskCanBeRepeated() throws {
        let edge = try tightEdge(store())
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<100_000)
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == "PART", call.key.hasSuffix(" 10") { throw MemoryStore.unreachable(call) }
        }
        #expect(throws: EdgeError.self) { try close(edge, id, 100_000..<700_000) }
        #expect(try edge.cache.uploadStatus(library, id).offset == 100_000)
        edge.store.intercept(nil)
        try close(edge, id, 100_000..<700_000)
        try expectPushed(edge, isWarm: false)
    }

    /// Bug: a chunk that announced more bytes than any disk has ended the process.
    @Test(arguments: ["0-9223372036854775806", "5-9223372036854775806"])
    func anyNumberOfBytesMayBeAnnounced(_ range: String) throws {
        let edge = try Edge(store: store())
        let id = try edge.cache.beginUpload(library).id
        if range.hasPrefix("5") { try patch(edge, id, 0..<5) }
        let chunk = try edge.cache.openChunk(library, id, range: ContentRange(range))
        append(Self.content[..<200_000], to: chunk)
        #expect(throws: EdgeError.self) { try chunk.keep() }
        #expect(throws: EdgeError.self) {
            try edge.cache.openBlob(library, as: Self.digest, length: .max).finish(as: Self.digest)
        }
        #expect(try edge.cache.uploadStatus(library, id).offset == (range.hasPrefix("5") ? 5 : 0))
    }

    @Test func partsLostPastTheDiskEndTheSession() throws {
        let edge = try tightEdge(store())
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<650_000)
        for upload in edge.store.uploads { try edge.store.abortUpload(upload) }
        #expect(throws: EdgeError.self) { try close(edge, id, 650_000..<700_000) }
        #expect(throws: EdgeError.self) { try edge.cache.openChunk(library, id) }
        #expect(edge.store.keys == [])
    }
}
