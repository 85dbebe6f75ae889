import DiskTier
import Glibc
import Hashing
import OCI
import System
import TestDoubles
import Testing

@Suite struct PinTests {
    let folder = TemporaryFolder()
    let name = try! RepositoryName("library/debian")  // A literal that parses.

    private func item(_ content: [UInt8]) -> PinnedItem { PinnedItem(.blob(Digest(of: content))) }

    @Test func pinnedContentOutlastsEverythingElse() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
        let (large, small) = (pattern(500_000, seed: -1), pattern(5000, seed: -2))
        try tier.store(large)
        try tier.store(small)
        try tier.pin("library/debian:12", [item(large), item(small)])
        for seed in 0..<60 {
            try tier.store(pattern(300_000, seed: seed))
            for number in 0..<3 { try tier.store(pattern(16_000, seed: 1000 + seed * 3 + number)) }
        }
        #expect(tier.statistics.evictedBlobs > 30)
        // Asking for the size is no read, which would make eviction spare it.
        #expect(try tier.size(of: Digest(of: large)) == 500_000)
        #expect(try tier.size(of: Digest(of: small)) == 5000)
        #expect(try tier.unpin("library/debian:12")?.items.isEmpty == false)
        #expect(try tier.unpin("library/debian:12") == nil)
        #expect(tier.statistics.pinnedBytes == 0)
        for seed in 100..<160 {
            try tier.store(pattern(300_000, seed: seed))
            for number in 0..<3 { try tier.store(pattern(16_000, seed: 1000 + seed * 3 + number)) }
        }
        #expect(try tier.size(of: Digest(of: small)) == nil)
        #expect(try tier.size(of: Digest(of: large)) == nil)
    }

    @Test func aPinnedManifestStays() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        let manifest = pattern(2000)
        func keep() throws {
            _ = try tier.record(
                manifest: Digest(of: manifest),
                repository: name,
                mediaType: .imageManifest,
                bytes: manifest,
                since: tier.stamp()
            )
        }
        try keep()
        try tier.pin("x", [PinnedItem(.manifest(name, Digest(of: manifest)))])
        // Kept anew by a pull, it is still the pinned one.
        try keep()
        for seed in 0..<100 {
            let bytes = pattern(15_000, seed: seed)
            _ = try tier.record(
                manifest: Digest(of: bytes),
                repository: name,
                mediaType: .imageManifest,
                bytes: bytes,
                since: tier.stamp()
            )
        }
        #expect(try tier.manifest(repository: name, digest: Digest(of: pattern(15_000))) == nil)
        #expect(try tier.manifest(repository: name, digest: Digest(of: manifest))?.bytes == manifest)
    }

    @Test func pinsAreListedWithTheirBytesOverARestart() throws {
        let (one, two) = (pattern(100_000), pattern(200_000, seed: 1))
        let expected = [
            Pin(name: "a", items: [PinnedItem(.blob(Digest(of: one)), size: 100_000)]),
            Pin(
                name: "b",
                items: [
                    PinnedItem(.blob(Digest(of: one)), size: 100_000),
                    PinnedItem(.manifest(name, Digest(of: two)), size: 77),
                ]
            ),
        ]
        do {
            let tier = try DiskTier(folder.path)
            try tier.store(one)
            try tier.pin("b", [item(one), PinnedItem(.manifest(name, Digest(of: two)), size: 77), item(one)])
            try tier.pin("a", [item(one)])
            #expect(try tier.pins() == expected)
            tier.close()
        }
        let tier = try DiskTier(folder.path)
        #expect(try tier.pins() == expected)
        #expect(try tier.pins(after: "a", limit: 1) == [expected[1]])
        #expect(try tier.pins(after: "b") == [])
        // What two pins share counts once.
        #expect(tier.statistics.pinnedBytes == 100_077)
        #expect(try tier.isPinned(.blob(Digest(of: one))))
        #expect(try tier.unpin("b") != nil)
        #expect(try tier.isPinned(.blob(Digest(of: one))), "the other pin still holds it")
        #expect(tier.statistics.pinnedBytes == 100_000)
        #expect(try tier.unpin("a") != nil)
        #expect(try !tier.isPinned(.blob(Digest(of: one))))
    }

    @Test func aNameIsPinnedAnew() throws {
        let tier = try DiskTier(folder.path)
        let (old, new) = (pattern(100_000), pattern(200_000, seed: 1))
        try tier.pin("app:latest", [PinnedItem(.blob(Digest(of: old)), size: 100_000)])
        try tier.pin("app:latest", [PinnedItem(.blob(Digest(of: new)), size: 200_000)])
        #expect(try !tier.isPinned(.blob(Digest(of: old))))
        #expect(try tier.isPinned(.blob(Digest(of: new))))
        #expect(tier.statistics.pinnedBytes == 200_000)
    }

    @Test func pinsCannotTakeTheWholeCeiling() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 10 << 20)
        let first = PinnedItem(.blob(Digest(of: pattern(1))), size: 5 << 20)
        let second = PinnedItem(.blob(Digest(of: pattern(2))), size: 5 << 20)
        try tier.pin("first", [first])
        let error = #expect(throws: DiskTierError.self) { try tier.pin("second", [second]) }
        guard case .pinsNeverFit(bytes: 10_485_760, limitBytes: 8_388_608)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try tier.pins().map(\.name) == ["first"])
        // Instead of the other it fits, and what is pinned already takes nothing more.
        try tier.pin("first", [second])
        try tier.pin("third", [second])
        #expect(tier.statistics.pinnedBytes == 5 << 20)
    }

    @Test func whatIsNotHereNeedsASize() throws {
        let tier = try DiskTier(folder.path)
        let error = #expect(throws: DiskTierError.self) { try tier.pin("x", [item(pattern(1000))]) }
        guard case .notCached(.blob)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(throws: DiskTierError.self) { try tier.pin("", []) }
        #expect(throws: DiskTierError.self) { try tier.pin(String(repeating: "x", count: 401), []) }
        #expect(try tier.pins() == [])
    }

    @Test func evictingByHandNeedsAnUnpin() throws {
        let tier = try DiskTier(folder.path)
        let (pinned, plain) = (pattern(100_000), pattern(200_000, seed: 1))
        try tier.store(pinned)
        try tier.store(plain)
        try tier.pin("x", [item(pinned)])
        let items: [TierItem] = [
            .blob(Digest(of: pinned)), .blob(Digest(of: plain)), .blob(Digest(of: pattern(3))),
        ]
        let evicted = try tier.evict(items)
        #expect(evicted.items == [items[1]] && evicted.pinned == [items[0]] && evicted.bytes >= 200_000)
        #expect(try tier.contents(Digest(of: plain)) == nil)
        #expect(try tier.contents(Digest(of: pinned)) == pinned)
        _ = try tier.unpin("x")
        #expect(try tier.evict(items).items == [items[0]])
        #expect(try tier.contents(Digest(of: pinned)) == nil)
    }
}
