import DiskTier
import Hashing
import OCI
import System
import TestDoubles
import Testing

/// What is served without waiting: the same content as from the calls that may wait, or nothing.
@Suite struct HitTests {
    let folder = TemporaryFolder()
    let name = try! RepositoryName("library/debian")  // A literal that parses.
    let latest = try! OCI.Tag("latest")  // A literal that parses.

    private struct Small: Equatable {
        var number: UInt64
        var bytes: [UInt8]
    }

    private func small(_ tier: DiskTier, _ digest: Digest) -> Small? {
        var found: Small?
        let isHit = tier.hit(digest) {
            found = Small(number: $0.number, bytes: [UInt8]($1))
        } file: { _, _ in
        }
        return isHit ? found : nil
    }

    private func file(_ tier: DiskTier, _ digest: Digest) throws -> [UInt8]? {
        var found: (file: File, status: FileStatus)?
        guard tier.hit(digest, inline: { _, _ in }, file: { found = ($0, $1) }), let found else { return nil }
        return try LocalFileSystem().read(found.file, at: 0, count: Int(found.status.size))
    }

    private func record(_ tier: DiskTier, _ bytes: [UInt8]) throws {
        _ = try tier.record(
            tag: latest,
            repository: name,
            digest: Digest(of: bytes),
            mediaType: .imageIndex,
            bytes: bytes,
            etag: "e",
            checkedAt: WallTime(seconds: 5, nanoseconds: 7),
            since: tier.stamp()
        )
    }

    private func manifest(_ tier: DiskTier, _ digest: Digest, in repository: RepositoryName? = nil) -> Small? {
        var found: Small?
        let isHit = tier.hit(repository: repository ?? name, digest: digest) { sighting, type, bytes in
            #expect([UInt8](type) == Array(MediaType.imageIndex.rawValue.utf8))
            found = Small(number: sighting.number, bytes: [UInt8](bytes))
        }
        return isHit ? found : nil
    }

    private func tagged(
        _ tier: DiskTier,
        in repository: RepositoryName? = nil,
        _ tag: OCI.Tag? = nil,
        isFresh: (WallTime) -> Bool = { _ in true }
    ) -> (digest: Digest, manifest: Small)? {
        var found: (Digest, Small)?
        let isHit = tier.hit(repository: repository ?? name, tag: tag ?? latest, isFresh: isFresh) {
            found = ($0, Small(number: $1.number, bytes: [UInt8]($3)))
        }
        return isHit ? found : nil
    }

    @Test func smallContentHasANumberOfItsOwn() throws {
        let tier = try DiskTier(folder.path)
        let (a, b) = (try tier.store(pattern(100, seed: 1)), try tier.store(pattern(100, seed: 2)))
        let first = try #require(small(tier, a))
        #expect(first.bytes == pattern(100, seed: 1))
        #expect(small(tier, a) == first)
        #expect(try #require(small(tier, b)).number != first.number)
        try tier.remove(a)
        #expect(small(tier, a) == nil)
        try tier.store(pattern(100, seed: 1))
        #expect(try #require(small(tier, a)).number != first.number, "another record, another number")
        #expect(small(tier, Digest(of: [9])) == nil)
    }

    @Test func whatWasSeenHoldsUntilTheNextCommit() throws {
        let tier = try DiskTier(folder.path)
        let digest = try tier.store(pattern(100))
        func see() -> DiskTier.Sighting? {
            var seen: DiskTier.Sighting?
            _ = tier.hit(digest, inline: { sighting, _ in seen = sighting }, file: { _, _ in })
            return seen
        }
        let first = try #require(see())
        #expect(tier.stillHolds(first))
        try tier.store(pattern(100, seed: 1))
        #expect(!tier.stillHolds(first), "it might be gone")
        let second = try #require(see())
        #expect(second.number == first.number && tier.stillHolds(second))
        try tier.remove(digest)
        #expect(!tier.stillHolds(second))
    }

    @Test func aFileIsGivenOnlyWhenNobodyTouchedIt() throws {
        let tier = try DiskTier(folder.path)
        let content = pattern(100_000)
        let digest = try tier.store(content)
        #expect(try file(tier, digest) == content)
        #expect(small(tier, digest) == nil)
        let touched = try LocalFileSystem().open(path(folder, digest), .readWrite)
        try LocalFileSystem().write([content[0]].span, to: touched, at: 0)
        #expect(try file(tier, digest) == nil, "it has to be looked at first")
        #expect(try tier.contents(digest) == content)
        #expect(try file(tier, digest) == content, "and is ready again")
        try LocalFileSystem().remove(path(folder, digest))
        #expect(try file(tier, digest) == nil)
    }

    @Test func whatAnUncleanStopMayHaveDamagedIsVerifiedFirst() throws {
        let (content, large) = (pattern(100), pattern(100_000))
        try withCrashing(DiskTier(folder.path)) { tier in
            try tier.store(content)
            try tier.store(large)
        }
        let tier = try DiskTier(folder.path)
        let (digest, largeDigest) = (Digest(of: content), Digest(of: large))
        // The background may have come first; what is given must be right in any case.
        #expect([nil, content].contains(small(tier, digest)?.bytes))
        #expect(try tier.contents(digest) == content)
        #expect(try tier.contents(largeDigest) == large)
        #expect(small(tier, digest)?.bytes == content)
        #expect(try file(tier, largeDigest) == large)
    }

    @Test func aManifestIsFoundByDigestAndByFreshTag() throws {
        let tier = try DiskTier(folder.path)
        let bytes = Array("{}".utf8)
        try record(tier, bytes)
        let digest = Digest(of: bytes)
        let byDigest = try #require(manifest(tier, digest))
        #expect(byDigest.bytes == bytes)
        let byTag = try #require(tagged(tier) { $0 == WallTime(seconds: 5, nanoseconds: 7) })
        #expect(byTag.digest == digest && byTag.manifest == byDigest)
        #expect(tagged(tier) { _ in false } == nil)
        #expect(manifest(tier, digest, in: try RepositoryName("library/debian2")) == nil)
        try tier.forget(manifest: digest, repository: name)
        #expect(manifest(tier, digest) == nil)
        #expect(tagged(tier) == nil)
    }

    @Test func aTagThatMovesGivesTheNewManifest() throws {
        let tier = try DiskTier(folder.path)
        try record(tier, [1])
        try record(tier, [2])
        #expect(tagged(tier)?.manifest.bytes == [2])
    }

    @Test func aLongNameAndASha512DigestFit() throws {
        let tier = try DiskTier(folder.path)
        let long = try RepositoryName(String(repeating: "a", count: 255))
        let tag = try OCI.Tag(String(repeating: "t", count: 128))
        let digest = Digest(of: [1], .sha512)
        _ = try tier.record(
            tag: tag,
            repository: long,
            digest: digest,
            mediaType: .imageIndex,
            bytes: [1],
            etag: nil,
            checkedAt: WallTime(seconds: 1),
            since: tier.stamp()
        )
        #expect(tagged(tier, in: long, tag)?.digest == digest)
        #expect(manifest(tier, digest, in: long)?.bytes == [1])
    }
}
