import DiskTier
import Glibc
import Hashing
import OCI
import System
import TestDoubles
import Testing
import Threading

func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for index in 0..<count {
            buffer[index] = UInt8(truncatingIfNeeded: (index &+ seed &* 7919) &* 2_654_435_761 >> 11)
        }
        filled = count
    }
}

extension DiskTier {
    convenience init(_ path: String, ceilingBytes: Int64 = 64 << 20, files: any FileSystem = LocalFileSystem()) throws {
        try self.init(Configuration(directory: path, ceilingBytes: ceilingBytes), fileSystem: files)
    }

    /// Stores content as a fill does.
    @discardableResult
    func store(_ content: [UInt8], since stamp: Stamp? = nil) throws -> Digest {
        let digest = Digest(of: content)
        let stamp = stamp ?? self.stamp()
        if content.count <= inlineLimitBytes {
            _ = try insertInline(digest, content, since: stamp)
            return digest
        }
        let file = try newFile(reserve(Int64(content.count)))
        try file.watch.write(content.span, at: 0)
        _ = try file.commit(as: digest, size: Int64(content.count), since: stamp)
        return digest
    }

    /// The bytes as a client gets them: `nil` also when they break off.
    func contents(_ digest: Digest, files: any FileSystem = LocalFileSystem()) throws -> [UInt8]? {
        switch try lookup(digest) {
        case .inline(let bytes): return bytes
        case .file(let file, let status): return try files.read(file, at: 0, count: Int(status.size))
        case .checking(let check):
            do throws(DiskTierError) {
                try check.waitUntilVerified()
            } catch .damaged {
                return nil
            }
            return try LocalFileSystem().read(check.file, at: 0, count: Int(check.size))
        case nil: return nil
        }
    }
}

/// A run that ends as a crash does.
func withCrashing(_ tier: DiskTier, _ body: (DiskTier) throws -> Void) rethrows {
    try body(tier)
    tier.stop()
}

func path(_ folder: TemporaryFolder, _ digest: Digest) -> String {
    "\(folder.path)/blobs/\(digest.algorithm.rawValue)/\(digest.hex.prefix(2))/\(digest.hex)"
}

@Suite struct ContentTests {
    let folder = TemporaryFolder()

    @Test(arguments: [0, 1, 16 << 10, (16 << 10) + 1, 1_000_000])
    func keepsContentOverARestart(_ size: Int) throws {
        let content = pattern(size)
        let digest = Digest(of: content)
        do {
            let tier = try DiskTier(folder.path)
            #expect(try tier.contents(digest) == nil)
            try tier.store(content)
            #expect(try tier.contents(digest) == content)
            #expect(try tier.size(of: digest) == Int64(size))
            tier.close()
        }
        let tier = try DiskTier(folder.path)
        #expect(!tier.statistics.wasUnclean)
        #expect(try tier.contents(digest) == content)
    }

    @Test func aFileIsNamedByItsDigest() throws {
        let tier = try DiskTier(folder.path)
        let digest = try tier.store(pattern(100_000))
        let path = "\(folder.path)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        #expect(try LocalFileSystem().contents(at: path) == pattern(100_000))
    }

    @Test func aDroppedFileLeavesNothing() throws {
        let tier = try DiskTier(folder.path)
        do {
            let file = try tier.newFile(tier.reserve(1 << 20))
            try file.watch.write(pattern(1000).span, at: 0)
            #expect(tier.statistics.reservedBytes >= 1 << 20)
        }
        #expect(tier.statistics.reservedBytes == 0)
        #expect(try LocalFileSystem().entries(of: folder.path + "/incoming") == [])
    }

    @Test(arguments: ["truncated", "longer", "missing"])
    func aFileThatDisagreesWithTheIndexIsAMiss(_ damage: String) throws {
        let tier = try DiskTier(folder.path)
        let digest = try tier.store(pattern(100_000))
        let path = "\(folder.path)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        switch damage {
        case "truncated": try LocalFileSystem().truncate(LocalFileSystem().open(path, .readWrite), to: 99_999)
        case "longer": try LocalFileSystem().truncate(LocalFileSystem().open(path, .readWrite), to: 100_001)
        default: try LocalFileSystem().remove(path)
        }
        #expect(try tier.size(of: digest) == nil)
        #expect(try tier.contents(digest) == nil)
        try tier.store(pattern(100_000))
        #expect(try tier.contents(digest) == pattern(100_000))
    }

    /// After a crash, bytes of the right length may still be the wrong ones.
    @Test func afterAnUncleanStopContentIsHashedBeforeItIsServed() throws {
        let (good, bad) = (pattern(100_000), pattern(100_000, seed: 1))
        try withCrashing(DiskTier(folder.path)) { tier in
            try tier.store(good)
            try tier.store(bad)
        }
        let path = "\(folder.path)/blobs/sha256/\(Digest(of: bad).hex.prefix(2))/\(Digest(of: bad).hex)"
        try LocalFileSystem().write([0, 1, 2].span, to: LocalFileSystem().open(path, .readWrite), at: 500)
        let tier = try DiskTier(folder.path)
        #expect(tier.statistics.wasUnclean)
        #expect(try tier.contents(Digest(of: good)) == good)
        #expect(try tier.contents(Digest(of: bad)) == nil)
    }

    @Test func aSecondUserIsTurnedAwayByName() throws {
        let tier = try DiskTier(folder.path)
        withExtendedLifetime(tier) {
            let error = #expect(throws: DiskTierError.self) { try DiskTier(folder.path) }
            guard case .held(_, getpid())? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }
}

@Suite struct CeilingTests {
    let folder = TemporaryFolder()

    @Test func theCeilingHoldsUnderConcurrentStores() throws {
        let ceiling: Int64 = 8 << 20
        let tier = try DiskTier(folder.path, ceilingBytes: ceiling)
        let pool = WorkerPool(name: "store", threads: 4, queueLimit: 100)
        let folder = folder
        let path = folder.path
        pool.forEach(below: 100, width: 4) { index in
            do {
                let content = pattern(300_000, seed: index)
                let digest = try tier.store(content)
                let kept = try tier.contents(digest)
                #expect(kept == nil || kept == content)
                #expect(tier.statistics.usedBytes <= ceiling)
            } catch {
                Issue.record("\(error)")
            }
        }
        pool.close()
        #expect(try folder.allocatedBytes() <= ceiling, "\(path)")
        #expect(tier.statistics.evictedBlobs > 0)
        let kept = try (0..<100).filter { try tier.contents(Digest(of: pattern(300_000, seed: $0))) != nil }
        #expect(kept.count >= 10)
    }

    /// A reservation that is larger than an eviction step, and misses less than one, once asked for ever.
    @Test func aReservationThatAlmostFitsEvicts() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 10 << 20)
        for seed in 0..<30 { try tier.store(pattern(1 << 20, seed: seed)) }
        #expect(tier.statistics.evictedBlobs > 0)
    }

    @Test func aLoweredCeilingIsMet() throws {
        do {
            let tier = try DiskTier(folder.path, ceilingBytes: 32 << 20)
            for seed in 0..<50 { try tier.store(pattern(300_000, seed: seed)) }
            tier.close()
        }
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
        try tier.store(pattern(300_000, seed: 99))
        #expect(tier.statistics.usedBytes <= 8 << 20)
        #expect(try folder.allocatedBytes() <= 8 << 20)
    }

    @Test func whatAnEarlierRunLeftIsRemoved() throws {
        try withCrashing(DiskTier(folder.path)) { _ in }
        _ = try LocalFileSystem().open(folder.path + "/incoming/left", .create)
        try withCrashing(DiskTier(folder.path)) { _ in }
        #expect(try LocalFileSystem().entries(of: folder.path + "/incoming") == [])
    }

    @Test func neverAndNotNowAreDifferent() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        let never = #expect(throws: DiskTierError.self) { try tier.reserve(5 << 20) }
        guard case .neverFits? = never else {
            Issue.record("\(String(describing: never))")
            return
        }
        let first = try tier.reserve(3 << 20)
        withExtendedLifetime(first) {
            let busy = #expect(throws: DiskTierError.self) { try tier.reserve(3 << 20) }
            guard case .noRoomNow? = busy else {
                Issue.record("\(String(describing: busy))")
                return
            }
        }
    }

    @Test func whatIsReadStaysLonger() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
        let favourite = try tier.store(pattern(300_000, seed: -1))
        for seed in 0..<200 {
            try tier.store(pattern(300_000, seed: seed))
            _ = try tier.contents(favourite)
        }
        #expect(try tier.contents(favourite) != nil)
    }

    @Test func whatIsBeingReadCanBeReadToItsEnd() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        let digest = try tier.store(pattern(500_000, seed: -1))
        guard case .file(let file, let status)? = try tier.lookup(digest) else {
            Issue.record("it was just stored")
            return
        }
        try tier.remove(digest)
        #expect(try tier.contents(digest) == nil)
        #expect(try LocalFileSystem().read(file, at: 0, count: Int(status.size)) == pattern(500_000, seed: -1))
    }

    @Test func smallContentIsBoundedToo() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        for seed in 0..<2000 { try tier.store(pattern(10_000, seed: seed)) }
        let kept = try (0..<2000).filter { try tier.contents(Digest(of: pattern(10_000, seed: $0))) != nil }
        #expect(kept.count > 20, "what the index gave up once is used again")
        #expect(kept.last == 1999)
        #expect(tier.statistics.usedBytes <= 4 << 20)
        #expect(try folder.allocatedBytes() <= 4 << 20)
        #expect(try tier.contents(tier.store(pattern(300_000))) != nil)
    }
}

@Suite struct NameTests {
    let folder = TemporaryFolder()
    let name = try! RepositoryName("library/debian")  // A literal that parses.
    let latest = try! OCI.Tag("latest")  // A literal that parses.
    let bytes = Array("{}".utf8)

    private func record(_ tier: DiskTier, since stamp: DiskTier.Stamp) throws -> Bool {
        try tier.record(
            tag: latest,
            repository: name,
            digest: Digest(of: bytes),
            mediaType: .imageIndex,
            bytes: bytes,
            etag: "e",
            checkedAt: WallTime(seconds: 5, nanoseconds: 7),
            since: stamp
        )
    }

    @Test func keepsTagsAndManifests() throws {
        let tier = try DiskTier(folder.path)
        #expect(try record(tier, since: tier.stamp()))
        let tag = try #require(try tier.tag(repository: name, tag: latest))
        #expect(
            tag.digest == Digest(of: bytes) && tag.etag == "e" && tag.checkedAt == WallTime(seconds: 5, nanoseconds: 7)
        )
        #expect(tag.manifest?.bytes == bytes && tag.manifest?.mediaType == .imageIndex)
        #expect(try tier.manifest(repository: name, digest: Digest(of: bytes))?.bytes == bytes)
        #expect(try tier.manifest(repository: RepositoryName("library"), digest: Digest(of: bytes)) == nil)
        #expect(try tier.touch(tag: latest, repository: name, checkedAt: WallTime(seconds: 9), since: tier.stamp()))
        #expect(try tier.tag(repository: name, tag: latest)?.checkedAt == WallTime(seconds: 9))
    }

    @Test func forgettingADigestForgetsItsTagsHereOnly() throws {
        let tier = try DiskTier(folder.path)
        let other = try RepositoryName("library/debian2")
        _ = try record(tier, since: tier.stamp())
        _ = try tier.record(
            manifest: Digest(of: bytes),
            repository: other,
            mediaType: .imageIndex,
            bytes: bytes,
            since: tier.stamp()
        )
        try tier.forget(manifest: Digest(of: bytes), repository: name)
        #expect(try tier.tag(repository: name, tag: latest) == nil)
        #expect(try tier.manifest(repository: name, digest: Digest(of: bytes)) == nil)
        #expect(try tier.manifest(repository: other, digest: Digest(of: bytes)) != nil)
    }

    @Test func whatBeganBeforeADeleteCannotBringItBack() throws {
        let tier = try DiskTier(folder.path)
        let before = tier.stamp()
        try tier.forget(manifest: Digest(of: bytes), repository: name)
        #expect(try record(tier, since: before) == false)
        #expect(try tier.tag(repository: name, tag: latest) == nil)
        let between = tier.stamp()
        #expect(try record(tier, since: between))
        try tier.forget(tag: latest, repository: name)
        #expect(try record(tier, since: between) == false)
        try tier.remove(Digest(of: pattern(100_000)))
        try tier.store(pattern(100_000), since: between)
        #expect(try tier.contents(Digest(of: pattern(100_000))) == nil)
        try tier.store(pattern(100_000))
        #expect(try tier.contents(Digest(of: pattern(100_000))) != nil)
    }

    /// A delete used to overlook what was being committed at that moment, and it came back.
    @Test func aDeleteMeetsWhatIsJustBeingEntered() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 1 << 30)
        let pool = WorkerPool(name: "test", threads: 1, queueLimit: 4)
        defer { pool.close() }
        for round in 0..<300 {
            let content = pattern(round % 2 == 0 ? 20_000 : 2_000, seed: round)
            let digest = Digest(of: content)
            let list = NameList.tags(name)
            let (stamp, listStamp) = (tier.stamp(), tier.listStamp())
            let isEntered = Monitor(false)
            #expect(
                pool.submit {
                    _ = try? tier.store(content, since: stamp)
                    _ = try? tier.record(list, ["a"], checkedAt: WallTime(seconds: 1, nanoseconds: 0), since: listStamp)
                    isEntered.update { $0 = true }
                }
            )
            // At another moment each time.
            for _ in 0..<round % 60 { _ = try tier.size(of: digest) }
            try tier.remove(digest)
            try tier.forget(list)
            _ = isEntered.wait { $0 ? true : nil }
            #expect(try tier.contents(digest) == nil, "round \(round)")
            #expect(try tier.page(of: list, after: nil, limit: nil) == nil, "round \(round)")
        }
    }

    @Test func stampsStayRightWhenMuchIsDeleted() throws {
        let tier = try DiskTier(folder.path)
        let before = tier.stamp()
        try tier.remove(Digest(of: [255]))
        for number in 0..<5000 { try tier.remove(Digest(of: [1, UInt8(number % 251), UInt8(number / 251)])) }
        #expect(try tier.insertInline(Digest(of: [255]), [255], since: before) == false)
        #expect(try tier.insertInline(Digest(of: [255]), [255], since: tier.stamp()))
    }
}
