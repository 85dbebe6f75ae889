import DiskTier
import Glibc
import Hashing
import OCI
import System
import TestDoubles
import Testing
import Threading

/// What the tier finds when it is opened, and may not use as it is.
@Suite struct OpeningTests {
    let folder = TemporaryFolder()
    let files = LocalFileSystem()

    private func configuration(_ adjust: (inout DiskTier.Configuration) -> Void = { _ in }) -> DiskTier.Configuration {
        var configuration = DiskTier.Configuration(directory: folder.path, ceilingBytes: 64 << 20)
        adjust(&configuration)
        return configuration
    }

    private func openingError(_ path: String, rebuilds: Bool = false) -> DiskTierError? {
        do throws(DiskTierError) {
            try DiskTier(configuration { $0.rebuildsIndex = rebuilds }).close()
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: ["truncated", "garbage", "short", "format", "no format"])
    func anUnusableIndexIsRefusedOrRebuilt(_ damage: String) throws {
        let content = pattern(100_000)
        do {
            let tier = try DiskTier(folder.path)
            try tier.store(content)
            for seed in 1..<30 { try tier.store(pattern(10_000, seed: seed)) }
            tier.close()
        }
        let index = folder.path + "/index/data.mdb"
        let file = try files.open(index, .readWrite)
        switch damage {
        case "truncated": try files.truncate(file, to: 64 << 10)
        case "short": try files.truncate(file, to: 100)
        case "garbage": try files.write(pattern(8192, seed: 5).span, to: file, at: 0)
        case "format": try overwrite(folder.path + "/format", at: 0, Array("forebay 9".utf8))
        default: try files.remove(folder.path + "/format")
        }
        let refusal = try #require(openingError(folder.path))
        switch refusal {
        case .unknownFormat, .unusableIndex: #expect(refusal.description.contains("rebuild"))
        default: Issue.record("\(refusal)")
        }
        #expect(openingError(folder.path)?.description == refusal.description, "a refusal changes nothing")
        let reports = Reports()
        let tier = try DiskTier(configuration { $0.rebuildsIndex = true }, report: reports.report)
        tier.waitUntilSettled()
        #expect(try tier.contents(Digest(of: content)) == content, "the files are taken over")
        #expect(tier.statistics.usedBytes < 16 << 20)
        #expect(reports.all.contains { if case .rebuilt = $0 { true } else { false } })
        #expect(reports.all.contains { if case .adopted(1, _) = $0 { true } else { false } })
        tier.close()
    }

    private func fillIndex() throws {
        let tier = try DiskTier(folder.path)
        for seed in 1..<40 { try tier.store(pattern(10_000, seed: seed)) }
        tier.close()
    }

    /// Each page of the index, but for the two that it begins with.
    private func forEachPage(_ body: (Int64) throws -> Void) throws {
        let size = try #require(try files.status(at: folder.path + "/index/data.mdb")).size
        for page in 2..<size / 4096 { try body(page * 4096) }
    }

    /// Bug: LMDB followed a damaged page and ended the process by a signal, at every start.
    @Test(arguments: [true, false])
    func damageInsideTheIndexIsFoundBeforeItIsFollowed(cleanly: Bool) throws {
        try fillIndex()
        if !cleanly { try withCrashing(DiskTier(folder.path)) { _ in } }
        try forEachPage { try overwrite(folder.path + "/index/data.mdb", at: $0, pattern(32, seed: 3)) }
        let refusal = try #require(openingError(folder.path))
        guard case .unusableIndex = refusal else { throw refusal }
        #expect(refusal.description.contains("--cache-unreadable rebuild"))
        #expect(openingError(folder.path, rebuilds: true) == nil)
        #expect(openingError(folder.path) == nil)
    }

    /// What nobody has written to since it was closed is not looked at again: a start does not wait for that.
    @Test func aLargeIndexIsLookedAtToItsEndOnlyAfterASecondUncleanStop() throws {
        try fillIndex()
        /// Whether a start that looks no longer than that has left it, and then crashes.
        func leaves(_ limit: Duration) throws -> Bool {
            try withCrashing(DiskTier(configuration { $0.structureCheckLimit = limit })) { _ in }
            return try files.status(at: folder.path + "/unchecked") != nil
        }
        #expect(try !leaves(.zero), "it was closed in order")
        #expect(try leaves(.zero))
        #expect(try !leaves(.zero), "it was looked through")
        #expect(try leaves(.zero))
        try forEachPage { try overwrite(folder.path + "/index/data.mdb", at: $0, pattern(32, seed: 3)) }
        let refusal = openingError(folder.path)
        guard case .unusableIndex = refusal else { throw try #require(refusal) }
        // The next start looks to the end too.
        try DiskTier(configuration { ($0.structureCheckLimit, $0.rebuildsIndex) = (.zero, true) }).close()
        #expect(openingError(folder.path) == nil)
    }

    /// Bug: a flipped bit in a number of the index was believed, or ended the process at every start.
    @Test func whatTheIndexAsAWholeKnowsIsNotBelievedWhenDamaged() throws {
        try fillIndex()
        let index = folder.path + "/index/data.mdb"
        let bytes = try #require(try files.contents(at: index))
        for key in ["segments", "run", "trusted"] {
            for start in bytes.indices.dropLast(20) where bytes[start...].starts(with: Array(key.utf8)) {
                try overwrite(index, at: Int64(start + key.utf8.count), [bytes[start + key.utf8.count] ^ 128])
            }
        }
        let refusal = openingError(folder.path)
        guard case .unusableIndex = refusal else { throw try #require(refusal) }
        #expect(openingError(folder.path, rebuilds: true) == nil)
    }

    /// Bug: a tag led to another digest, and a revalidation confirmed it.
    @Test func aDamagedTagIsAMiss() throws {
        let (manifest, name) = (Array(#"{"schemaVersion":2}"#.utf8), try RepositoryName("library/x"))
        let digest = Digest(of: manifest)
        try withExtendedLifetime(DiskTier(folder.path)) { tier in
            _ = try tier.record(
                tag: Tag("t"),
                repository: name,
                digest: digest,
                mediaType: .imageManifest,
                bytes: manifest,
                etag: "e",
                checkedAt: WallTime(seconds: 1),
                since: tier.stamp()
            )
            tier.close()
        }
        let path = folder.path + "/index/data.mdb"
        let index = try #require(try files.contents(at: path))
        let key = Array("library/x\0t".utf8)
        for start in index.indices.dropLast(80) where index[start...].starts(with: key) {
            try overwrite(path, at: Int64(start + key.count + 30), [index[start + key.count + 30] ^ 1])
        }
        let tier = try DiskTier(folder.path)
        #expect(try tier.tag(repository: name, tag: Tag("t")) == nil)
        #expect(!tier.hit(repository: name, tag: try Tag("t"), isFresh: { _ in true }) { _, _, _, _ in })
        #expect(try tier.manifest(repository: name, digest: digest)?.bytes == manifest)
        tier.close()
    }

    /// Bug: what eviction could not read held it up for ever.
    @Test func aDamagedPlaceInTheQueueDoesNotHoldUpEviction() throws {
        let first = Digest(of: pattern(1 << 20))
        do {
            let tier = try DiskTier(folder.path, ceilingBytes: 6 << 20)
            try tier.store(pattern(1 << 20))
            tier.close()
        }
        let path = folder.path + "/index/data.mdb"
        let index = try #require(try files.contents(at: path))
        let key = [1] + first.bytes
        for start in index.indices.dropLast(key.count) where index[start...].starts(with: key) {
            // As a key it comes after its length.
            guard index[start - 2] != UInt8(key.count) else { continue }
            try overwrite(path, at: Int64(start + 9), [index[start + 9] ^ 1])
        }
        let tier = try DiskTier(folder.path, ceilingBytes: 6 << 20)
        for seed in 1..<10 { try tier.store(pattern(1 << 20, seed: seed)) }
        #expect(try tier.contents(Digest(of: pattern(1 << 20, seed: 9))) != nil)
        #expect(tier.statistics.usedBytes <= 6 << 20)
        tier.close()
    }

    /// What is taken over is not believed.
    @Test func anAdoptedFileIsVerifiedBeforeItIsServed() throws {
        let (good, bad) = (pattern(100_000), pattern(100_000, seed: 1))
        do {
            let tier = try DiskTier(folder.path)
            try tier.store(good)
            try tier.store(bad)
            tier.close()
        }
        try overwrite(path(folder, Digest(of: bad)))
        try files.remove(folder.path + "/index/data.mdb")
        let tier = try DiskTier(folder.path)
        tier.waitUntilSettled()
        #expect(try tier.contents(Digest(of: bad)) == nil)
        #expect(try tier.contents(Digest(of: good)) == good)
        tier.close()
    }
}
