import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

/// Fills that outlive what began them.
@Suite struct LeftFillTests {
    /// What a process leaves.
    struct Ruin {
        let store: MemoryStore
        let folder: TemporaryFolder
        let time: ManualTime
        let digest: Digest

        init(of edge: Edge, _ digest: Digest) {
            (store, folder, time, self.digest) = (edge.store, edge.folder, edge.time, digest)
        }

        func restarted(fileSystem: any FileSystem = LocalFileSystem()) throws -> Edge {
            try Edge(store: store, folder: folder, time: time, fileSystem: fileSystem, smallParts)
        }
    }

    /// An edge whose origin failed when so much of the blob had come.
    private func interrupted(_ content: [UInt8], at stop: Int = 6 * mebibyte) throws -> (Edge, Digest) {
        let edge = try Edge(smallParts)
        let digest = edge.seed(content)
        edge.store.fail(from: stop)
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.cache.waitForFills()
        edge.store.interceptPieces(nil)
        return (edge, digest)
    }

    /// The same, ended.
    private func ruin(_ content: [UInt8], at stop: Int = 6 * mebibyte) throws -> Ruin {
        let (edge, digest) = try interrupted(content, at: stop)
        return Ruin(of: edge, digest)
    }

    private func leftFile(_ folder: TemporaryFolder) throws -> String {
        let names = try LocalFileSystem().entries(of: folder.path + "/cache/incoming").map(\.name)
        return folder.path + "/cache/incoming/" + (try #require(names.first { !$0.contains(".") }))
    }

    private func overwrite(_ path: String, at offset: Int64, _ bytes: [UInt8]) throws {
        try overwriteLater(path, at: offset, bytes)
    }

    @Test func partsSurviveARestart() throws {
        let content = noise(12 * mebibyte)
        let ruin = try ruin(content)
        let edge = try ruin.restarted()
        let digest = ruin.digest
        #expect(edge.tier.statistics.reservedBytes >= 5 * mebibyte)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes == content.count + 1, "the origin says first that it has it still")
        #expect(edge.cache.fillStatistics.resumed == 1)
        #expect(try edge.tier.size(of: digest) == Int64(content.count))
        #expect(try LocalFileSystem().entries(of: edge.folder.path + "/cache/incoming").isEmpty)
    }

    /// Islands too, such as ranged readers leave.
    @Test func rangesFarApartSurviveARestart() throws {
        let content = noise(32 * mebibyte)
        let ruin = try {
            let edge = try Edge {
                smallParts(&$0)
                $0.fillUnattendedBytes = 0
            }
            let digest = edge.seed(content)
            for start in [20 * mebibyte, 5 * mebibyte, 30 * mebibyte] {
                let range = start..<start + mebibyte
                #expect(try edge.read(digest, range) == Array(content[range]))
                edge.cache.waitForFills()
            }
            return Ruin(of: edge, digest)
        }()
        let (edge, digest) = (try ruin.restarted(), ruin.digest)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes <= content.count + 1)
    }

    /// Bug: what this process had left itself was believed, also where somebody had written over it meanwhile.
    @Test func whatWasOverwrittenSinceIsFetchedAgain() throws {
        let content = noise(12 * mebibyte)
        let (edge, digest) = try interrupted(content)
        try overwrite(leftFile(edge.folder), at: 1000, [content[1000] ^ 1])
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(try edge.read(digest) == content)
        #expect(try edge.tier.verify(digest) == .verified)
    }

    /// Bug: what was written over a running fill's file was kept as verified.
    @Test func aFillThatIsOverwrittenIsNotKept() throws {
        let content = noise(4 * mebibyte)
        let (edge, digest, opened, gate) = try held(content)
        #expect(try bytes(0..<900, of: opened) == Array(content[..<900]))
        try overwrite(leftFile(edge.folder), at: 1000, [content[1000] ^ 1])
        gate.open()
        #expect(throws: EdgeError.self) { _ = try contents(opened, from: 900) }
        edge.cache.waitForFills()
        #expect(try edge.tier.size(of: digest) == nil)
        #expect(try edge.read(digest) == content)
    }

    private func cut(_ path: String, to size: Int64) throws {
        let files = LocalFileSystem()
        try files.truncate(files.open(path, .readWrite), to: size)
    }

    /// Bug: who found the file of a fill cut went on from the origin, whatever it had been given before.
    @Test(arguments: [0, 1000, 1 << 20] as [Int64])
    func aReaderOfAFillThatIsCutIsBroken(_ size: Int64) throws {
        let content = noise(4 * mebibyte)
        let (edge, digest, opened, gate) = try held(content)
        #expect(try bytes(0..<mebibyte, of: opened) == Array(content[..<mebibyte]))
        let late = try #require(try edge.cache.blob(digest))
        try cut(leftFile(edge.folder), to: size)
        #expect(throws: EdgeError.self) { _ = try contents(opened, from: Int64(mebibyte)) }
        gate.open()
        #expect(try contents(late) == content, "it has had nothing")
        edge.cache.waitForFills()
        #expect(edge.cache.fillStatistics.damaged == 0)
        #expect(try edge.read(digest) == content)
    }

    /// Bug: so did all readers when the hash found that bytes had gone, and the origin was blamed when it found zeros in their place.
    @Test(arguments: [0, 5 << 19] as [Int64])
    func theOriginIsNotBlamedForAFillThatIsCut(_ size: Int64) throws {
        let edge = try Edge(smallParts)
        let content = noise(4 * mebibyte)
        let digest = edge.seed(content)
        let gate = Gate()
        // The first part stands still, and the others are to be hashed from the file.
        edge.store.interceptPieces { _, offset throws(StoreError) in
            if offset == mebibyte / 2 || offset == 4 * mebibyte - 16 << 10 { gate.pass() }
        }
        let opened = try #require(try edge.cache.blob(digest))
        gate.waitForArrivals(2)
        #expect(try bytes(0..<100_000, of: opened) == Array(content[..<100_000]))
        while edge.store.deliveredBytes < 7 * mebibyte / 2 - 16 << 10 { pauseThread(.milliseconds(1)) }
        try cut(leftFile(edge.folder), to: size)
        gate.open()
        #expect(throws: EdgeError.self) { _ = try contents(opened, from: 100_000) }
        edge.cache.waitForFills()
        #expect(edge.cache.fillStatistics.damaged == 0)
        #expect(try edge.cache.blobSize(digest) == Int64(content.count))
        #expect(try edge.read(digest) == content)
    }

    /// Bug: a change of mode, owner, links or attributes counted as somebody's writing: the client's answer broke off.
    @Test func aFillWhoseFileIsTouchedIsKept() throws {
        let (edge, digest, opened, gate) = try held(noise(4 * mebibyte))
        try touchLater(leftFile(edge.folder))
        gate.open()
        #expect(try contents(opened) == noise(4 * mebibyte))
        edge.cache.waitForFills()
        #expect(try edge.tier.verify(digest) == .verified)
        #expect(edge.cache.fillStatistics.notStored == 0)
    }

    /// Bug: so did a clock that was set back.
    @Test func aClockThatIsSetBackBreaksNoFill() throws {
        let fileSystem = FaultyFileSystem()
        let (edge, digest, opened, gate) = try held(noise(4 * mebibyte), on: fileSystem)
        fileSystem.setClock(by: -60_000_000_000)
        gate.open()
        #expect(try contents(opened) == noise(4 * mebibyte))
        edge.cache.waitForFills()
        #expect(try edge.tier.verify(digest) == .verified)
    }

    /// What this process knows of it is not believed, though nobody has touched it since it was left.
    @Test func whatWasOverwrittenBeforeItWasLeftIsNotKept() throws {
        let content = noise(4 * mebibyte)
        let (edge, digest, opened, gate) = try held(content, at: 2 * mebibyte)
        try overwrite(leftFile(edge.folder), at: 1000, [content[1000] ^ 1])
        edge.store.fail(from: 3 * mebibyte)
        gate.open()
        #expect(throws: EdgeError.self) { _ = try contents(opened) }
        edge.cache.waitForFills()
        edge.store.interceptPieces(nil)
        // It breaks off, unless that is known before it has had anything.
        #expect((try? edge.read(digest)) ?? content == content)
        #expect(edge.cache.fillStatistics.resumed == 1)
        edge.cache.waitForFills()
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(try edge.tier.verify(digest) == .verified)
    }

    /// One that has had bytes of it goes on once they have proved right, and else breaks off.
    @Test(arguments: [false, true])
    func aRangeOfAFileThatMayBeOverwrittenWaits(_ isTouched: Bool) throws {
        let content = noise(4 * mebibyte)
        let (edge, digest, opened, gate) = try held(content)
        let range = try #require(try edge.cache.blob(digest, near: 1000))
        #expect(try bytes(1000..<100_000, of: range) == Array(content[1000..<100_000]))
        let path = try leftFile(edge.folder)
        if isTouched { try touchLater(path) } else { try overwrite(path, at: 5000, [content[5000] ^ 1]) }
        gate.open()
        if isTouched {
            #expect(try bytes(100_000..<200_000, of: range) == Array(content[100_000..<200_000]))
        } else {
            #expect(throws: EdgeError.self) { _ = try bytes(100_000..<200_000, of: range) }
        }
        #expect(try contents(opened) == content, "it has had nothing yet")
        edge.cache.waitForFills()
        #expect(edge.cache.fillStatistics.damaged == 0)
    }

    /// A range need not wait until all of the file is hashed again.
    @Test func aRangeOfAFileThatMayBeOverwrittenComesFromTheOrigin() throws {
        let content = noise(4 * mebibyte)
        let (edge, digest, opened, gate) = try held(content)
        #expect(try bytes(0..<500, of: opened) == Array(content[..<500]))
        try overwrite(leftFile(edge.folder), at: 1000, [content[1000] ^ 1])
        #expect(try edge.read(digest, 900..<1100) == Array(content[900..<1100]))
        gate.open()
        #expect(throws: EdgeError.self) { _ = try contents(opened, from: 500) }
    }

    /// A fill that has a file, and stands still at some byte until the gate opens.
    private func held(
        _ content: [UInt8],
        at stop: Int = 3 * mebibyte,
        on fileSystem: any FileSystem = LocalFileSystem()
    ) throws -> (Edge, Digest, BlobContent, Gate) {
        let edge = try Edge(fileSystem: fileSystem) {
            smallParts(&$0)
            $0.fillPartsInFlight = 1
        }
        let digest = edge.seed(content)
        let gate = Gate()
        edge.store.hold(from: stop, at: gate)
        let opened = try #require(try edge.cache.blob(digest))
        gate.waitForArrivals()
        return (edge, digest, opened, gate)
    }

    /// The process is killed while parts are in flight: what was noted by then is not fetched again.
    @Test func partsSurviveAKill() throws {
        let before = try Edge {
            smallParts(&$0)
            $0.fillPartsInFlight = 1
        }
        let content = noise(24 * mebibyte)
        let digest = before.seed(content)
        let gate = Gate()
        before.store.hold(from: 16 * mebibyte, at: gate)
        let opened = try #require(try before.cache.blob(digest))
        gate.waitForArrivals()
        let folder = TemporaryFolder()
        try before.folder.copy(to: folder.path)
        gate.open()
        before.cache.waitForFills()
        withExtendedLifetime(opened) {}
        let store = MemoryStore()
        let edge = try Edge(store: store, folder: folder, smallParts)
        _ = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(edge.cache.fillStatistics.resumed == 1)
        #expect(store.deliveredBytes <= 9 * mebibyte)
        #expect(edge.tier.statistics.reservedBytes == 0)
    }

    /// A kill while all parts of a blob are on their way at once costs no more than what was not noted yet of each.
    @Test func partsOutOfOrderSurviveAKill() throws {
        let before = try Edge(smallParts)
        let content = noise(4 * mebibyte)
        let digest = before.seed(content)
        let gate = Gate()
        before.store.interceptPieces { _, offset throws(StoreError) in
            if offset % Int64(mebibyte) >= 7 * mebibyte / 8 { gate.pass() }
        }
        let opened = try #require(try before.cache.blob(digest))
        gate.waitForArrivals(4)
        let edge = try before.killed(smallParts)
        let fetched = before.store.deliveredBytes
        gate.open()
        before.cache.waitForFills()
        let all = before.store.deliveredBytes
        withExtendedLifetime(opened) {}
        #expect(try edge.read(digest) == content)
        #expect(before.store.deliveredBytes - all <= content.count - fetched + 7 * 256 << 10)
        #expect(edge.cache.fillStatistics.resumed == 1)
    }

    /// Bug: while one transfer wrote what all had to note, what the others brought stayed unnoted until somebody brought more.
    @Test func whatComesWhileANoteIsWrittenIsNotedToo() throws {
        let (second, others, note, end) = (Gate(), Gate(), Gate(), Gate())
        let fileSystem = FaultyFileSystem()
        let before = try Edge(fileSystem: fileSystem, smallParts)
        let content = noise(4 * mebibyte)
        let digest = before.seed(content)
        fileSystem.beforeCalls { operation, path in
            if operation == "pwrite", path.hasSuffix(".parts") { note.pass() }
        }
        // The first part brings all of its blocks after one of the second, which makes enough for a note; then come the rest.
        before.store.interceptPieces { _, offset throws(StoreError) in
            switch (Int(offset) / mebibyte, Int(offset) % mebibyte) {
            case (_, (7 * mebibyte / 8)...): end.pass()
            case (0, (mebibyte / 4)...): second.waitForArrivals()
            case (1, (mebibyte / 4)...): second.pass()
            case (2..., _): others.pass()
            default: break
            }
        }
        let opened = try #require(try before.cache.blob(digest))
        note.waitForArrivals()
        for gate in [second, others] { gate.open() }
        end.waitForArrivals(3)
        note.open()
        end.waitForArrivals(4)
        let edge = try before.killed(smallParts)
        let fetched = before.store.deliveredBytes
        end.open()
        before.cache.waitForFills()
        let all = before.store.deliveredBytes
        withExtendedLifetime(opened) {}
        #expect(try edge.read(digest) == content)
        #expect(before.store.deliveredBytes - all <= content.count - fetched + 7 * 256 << 10)
    }

    /// A fill with parts of a large blob here and there, which nobody waits for.
    private func islands(_ content: [UInt8], fileSystem: any FileSystem = LocalFileSystem()) throws -> (Edge, Digest) {
        let edge = try Edge(fileSystem: fileSystem) {
            smallParts(&$0)
            $0.fillUnattendedBytes = 0
        }
        let digest = edge.seed(content)
        for start in [20 * mebibyte, 5 * mebibyte] {
            let range = start..<start + mebibyte
            #expect(try edge.read(digest, range) == Array(content[range]))
            edge.cache.waitForFills()
        }
        return (edge, digest)
    }

    /// The origin is needed only to hear that it has the blob still, and not for that if it has just said so.
    @Test func whatIsHereIsReadWithoutWaitingForTheOrigin() throws {
        let content = noise(32 * mebibyte)
        let (edge, digest) = try islands(content)
        let range = 20 * mebibyte + 5..<20 * mebibyte + 1000
        let gate = Gate()
        edge.store.intercept { _, _ throws(StoreError) in gate.pass() }
        #expect(try edge.read(digest, range) == Array(content[range]))
        gate.open()
        edge.cache.waitForFills()
        edge.store.intercept(nil)
        edge.time.advance(.seconds(10))
        #expect(try edge.read(digest, range) == Array(content[range]))
        edge.cache.waitForFills()
        let place = Int64(range.lowerBound)
        #expect(edge.store.calls.first?.range == place..<place + 1)
        #expect(edge.cache.fillStatistics.originBytes <= content.count + 1)
        // What another node has deleted is not served for longer.
        edge.store["epoch/blobs/sha256/\(digest.hex)"] = nil
        edge.time.advance(.seconds(10))
        #expect(try edge.read(digest, range) == nil)
        edge.cache.waitForFills()
        #expect(edge.tier.statistics.reservedBytes == 0)
    }

    /// As long as this process runs, what it fetched is not read again to go on.
    /// Bug: the next fill waited two seconds for a transfer of a silent origin to end, and then fetched everything again.
    @Test func aFailedFillIsTakenUpWhileOneOfItsTransfersIsSilent() throws {
        let edge = try Edge(smallParts)
        let content = noise(4 * mebibyte)
        let digest = edge.seed(content)
        edge.store.silence(from: 3 * mebibyte)
        edge.store.interceptPieces { call, place throws(StoreError) in
            if place >= 5 * mebibyte / 2 { throw MemoryStore.unreachable(call) }
        }
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.store.interceptPieces { _, _ in }
        edge.cache.waitForFills()
        edge.store.silence(from: nil)
        let before = edge.store.deliveredBytes
        #expect(try edge.read(digest) == content)
        #expect(edge.store.deliveredBytes - before < content.count)
    }

    @Test func aPausedFillGoesOnWithoutReadingWhatIsHere() throws {
        let files = FaultyFileSystem()
        let content = noise(32 * mebibyte)
        let (edge, digest) = try islands(content, fileSystem: files)
        // Only then may the hash go on over what landed.
        edge.store.interceptPieces { call, _ throws(StoreError) in throw MemoryStore.unreachable(call) }
        let reads = Monitor(0)
        files.beforeCalls { operation, path in
            if operation == "pread", path.contains("/incoming/") { reads.update { $0 += 1 } }
        }
        for _ in 0..<5 {
            _ = try? edge.read(digest, 20 * mebibyte..<20 * mebibyte + 1000)
            edge.cache.waitForFills()
        }
        #expect(reads.withLock { $0 } <= 5, "each client's own")
    }

    /// After a restart too: the bytes that are wanted are proved, and the others later.
    @Test func theFirstRangeAfterAKillWaitsForItsOwnBytesOnly() throws {
        let content = noise(32 * mebibyte)
        let (before, digest) = try islands(content)
        let ruin = Ruin(of: before, digest)
        let folder = TemporaryFolder()
        try before.folder.copy(to: folder.path)
        let files = FaultyFileSystem()
        let edge = try Edge(store: ruin.store, folder: folder, time: ruin.time, fileSystem: files, smallParts)
        let reads = Monitor(0)
        files.beforeCalls { operation, path in
            if operation == "pread", path.contains("/incoming/") { reads.update { $0 += 1 } }
        }
        let gate = Gate()
        edge.store.intercept { _, _ throws(StoreError) in gate.pass() }
        let (cache, range, got) = (edge.cache, 20 * mebibyte + 5..<20 * mebibyte + 1000, Monitor<[UInt8]?>(nil))
        spawnThread(name: "client") {
            let read = try? cache.blob(digest, near: Int64(range.lowerBound)).map { try bytes(range, of: $0) }
            got.update { $0 = read ?? [] }
        }
        gate.waitForArrivals()
        // The note, and one block.
        #expect(reads.withLock { $0 } <= 2)
        gate.open()
        #expect(got.wait { $0 } == Array(content[range]))
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes <= content.count + 1)
    }

    /// A range of it too: what is damaged is fetched again, and nothing else.
    @Test func aBlockThatWasOverwrittenIsFetchedAgain() throws {
        let content = noise(12 * mebibyte)
        let ruin = try ruin(content)
        let place = 3 * mebibyte + 777
        try overwrite(leftFile(ruin.folder), at: Int64(place), [content[place] ^ 1])
        let edge = try ruin.restarted()
        let range = place - 10..<place + 10
        #expect(try edge.read(ruin.digest, range) == Array(content[range]))
        #expect(try edge.read(ruin.digest) == content)
        edge.cache.waitForFills()
        #expect(edge.store.deliveredBytes <= content.count + 256 << 10)
        #expect(edge.cache.fillStatistics.damaged == 0)
    }

    @Test func whatIsDeletedWhileItIsFetchedIsNotLeft() throws {
        let edge = try Edge {
            smallParts(&$0)
            $0.fillUnattendedBytes = 0
        }
        let digest = edge.seed(noise(12 * mebibyte))
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        _ = try edge.cache.blob(digest)
        gate.waitForArrivals()
        #expect(try edge.cache.deleteBlob(digest))
        gate.open()
        edge.cache.close()
        #expect(edge.tier.statistics.reservedBytes == 0)
        #expect(try edge.tier.resumeFill(digest) == nil)
    }

    enum Harm: CaseIterable {
        case flippedStart, flippedEnd, cut, noNote, garbledNote, olderNote, lyingNote, replaced, gone
    }

    /// Whatever happened to the files, or to the origin's object, meanwhile: the answer is right.
    @Test(arguments: Harm.allCases)
    func whatIsWrongWithTheBytesThatWereLeftHarmsNobody(_ harm: Harm) throws {
        var content = noise(12 * mebibyte)
        let ruin = try ruin(content)
        let (digest, file) = (ruin.digest, try leftFile(ruin.folder))
        let files = LocalFileSystem()
        switch harm {
        case .flippedStart: try overwrite(file, at: 1000, [content[1000] ^ 1])
        case .flippedEnd: try overwrite(file, at: 5 * Int64(mebibyte), [content[5 * mebibyte] ^ 1])
        case .cut: try files.truncate(files.open(file, .readWrite), to: 3_000_000)
        case .noNote: _ = try files.remove(file + ".parts")
        case .garbledNote: try overwrite(file + ".parts", at: 0, Array("part 5 4 x\n".utf8))
        case .olderNote:
            let note = "digest \(digest)\nsize \(content.count)\npart 0 \(content.count) \(digest)\n"
            _ = try files.remove(file + ".parts")
            try files.write(Array(note.utf8).span, to: files.open(file + ".parts", .create), at: 0)
        case .lyingNote:
            // Blocks that never came.
            let note = try files.open(file + ".parts", .readWrite)
            let start = try files.status(of: note).size / 24 * 24
            for unit in 20..<40 as Range<UInt64> {
                let record = [unit << 18, 256 << 10, 0].flatMap { word in
                    (0..<8).map { UInt8((word << ($0 * 8)) >> 56) }
                }
                try files.write(record.span, to: note, at: start + Int64(unit - 20) * 24)
            }
        case .replaced:
            // Under the same name lies another object now, whose digest is wrong; the old parts do not hide that.
            content[11 * mebibyte] ^= 1
            ruin.store["epoch/blobs/sha256/\(digest.hex)"] = content
        case .gone: ruin.store["epoch/blobs/sha256/\(digest.hex)"] = nil
        }
        let edge = try ruin.restarted()
        switch harm {
        case .gone: #expect(try edge.read(digest) == nil)
        case .replaced:
            #expect(throws: EdgeError.self) { try edge.read(digest) }
            content[11 * mebibyte] ^= 1
            _ = edge.seed(content)
            edge.cache.waitForFills()
            #expect(try edge.read(digest) == content)
        default: #expect(try edge.read(digest) == content, "\(harm)")
        }
        edge.cache.waitForFills()
        #expect(try files.entries(of: edge.folder.path + "/cache/incoming").isEmpty, "\(harm)")
        #expect(edge.tier.statistics.reservedBytes == 0)
    }

    @Test func theyAreTheFirstToGoWhenRoomIsNeeded() throws {
        let store = MemoryStore()
        let edge = try Edge(store: store, ceilingBytes: 32 << 20, smallParts)
        let kept = noise(5 * mebibyte, seed: 3)
        #expect(try edge.read(edge.seed(kept)) == kept)
        let content = noise(20 * mebibyte)
        let digest = edge.seed(content)
        store.fail(from: 10 * mebibyte)
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        edge.cache.waitForFills()
        store.interceptPieces(nil)
        #expect(edge.tier.statistics.reservedBytes > 9 * mebibyte)
        let next = noise(24 * mebibyte, seed: 2)
        #expect(try edge.read(edge.seed(next)) == next)
        edge.cache.waitForFills()
        #expect(try edge.tier.size(of: Digest(of: next)) != nil)
        #expect(try edge.tier.size(of: Digest(of: kept)) != nil, "a whole blob stays before a part of one")
        #expect(edge.tier.statistics.reservedBytes == 0)
        #expect(try edge.read(digest) == content)
    }

    @Test func theyAreDroppedAfterADay() throws {
        let (edge, _) = try interrupted(noise(12 * mebibyte))
        let other = edge.seed(noise(12 * mebibyte, seed: 2))
        edge.time.advance(.seconds(25 * 3600))
        edge.store.fail(from: 2 * mebibyte)
        #expect(throws: EdgeError.self) { try edge.read(other) }
        edge.cache.waitForFills()
        #expect(edge.tier.statistics.reservedBytes < 4 * mebibyte)
    }

    @Test func aDeleteDropsThem() throws {
        let (edge, digest) = try interrupted(noise(12 * mebibyte))
        #expect(try edge.cache.deleteBlob(digest))
        #expect(edge.tier.statistics.reservedBytes == 0)
        #expect(try edge.read(digest) == nil)
    }

    @Test func aPushMakesThemNeedless() throws {
        let content = noise(12 * mebibyte)
        let (edge, digest) = try interrupted(content)
        try edge.push(content)
        #expect(edge.tier.statistics.reservedBytes == 0)
        #expect(try edge.read(digest) == content)
    }

    /// The disk breaks at the n-th operation while a fill goes on with what was left, for each n.
    @Test func aFailingDiskNeverCostsAResumedPull() throws {
        let content = noise(3 * mebibyte)
        for failing in 1...400 {
            let files = FaultyFileSystem()
            let ruin = try ruin(content, at: 2 * mebibyte)
            let edge = try ruin.restarted(fileSystem: files)
            files.failCall(failing)
            #expect(try edge.read(ruin.digest) == content, "operation \(failing)")
            edge.cache.close()
            if !files.hasFailed { return }
        }
        Issue.record("the disk was never left in peace")
    }
}
