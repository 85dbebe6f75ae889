import AdminAPI
import DiskTier
import EdgeCache
import Hashing
import Logging
import OCI
import Registry
import System
import TestDoubles
import Testing

@Suite struct VerifyTests {
    /// Changes a byte of a blob's file without changing its length.
    private func damage(_ digest: Digest, in admin: Admin) throws {
        let path = "\(admin.tier.directory)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        let file = try LocalFileSystem().open(path, .readWrite)
        try LocalFileSystem().write([UInt8(ascii: "x"), UInt8(ascii: "y")].span, to: file, at: 1_000)
    }

    /// Bug: its progress counted manifests as blobs.
    @Test func everythingIsHashed() throws {
        let admin = try Admin()
        admin.seedImage("v1", layers: [pattern(300_000), pattern(200_000, seed: 1)])
        _ = try admin.events(CacheRequest(.prewarm, ["team/app:v1"]))
        let events = try admin.events(CacheRequest(.verify))
        let done = try #require(events.last?.done)
        #expect(done.blobs == 3 && done.manifests == 1 && done.problems == 0 && done.bytes > 500_000)
        #expect(events.contains { $0.progress?.blobs == 3 && $0.progress?.totalBlobs == 3 })
    }

    /// Blobs in the index count, of manifests the bytes, and no file is a multiple of a block.
    @Test func progressBeginsWithNothingAndEndsWithTheWhole() throws {
        let admin = try Admin()
        admin.seedImage("v1", layers: [pattern(300_001), pattern(200_001, seed: 1), pattern(100, seed: 2)])
        _ = try admin.events(CacheRequest(.prewarm, ["team/app:v1"]))
        for targets in [[], ["team/app:v1"]] {
            let events = try admin.events(CacheRequest(.verify, targets))
            let (first, last) = (events.compactMap(\.progress).first, events.compactMap(\.progress).last)
            let done = try #require(events.last?.done)
            #expect(first?.blobs == 0 && first?.bytes == 0)
            #expect(first?.totalBlobs == 4 && first?.totalBytes == done.bytes)
            #expect(last?.blobs == 4 && last?.totalBlobs == 4)
            #expect(last?.bytes == done.bytes && last?.totalBytes == done.bytes)
        }
    }

    @Test(arguments: [true, false])
    func whatComesOrGoesMeanwhileChangesTheTotal(comes: Bool) throws {
        let admin = try Admin()
        let image = admin.seedImage("v1", layers: [pattern(300_000), pattern(200_000, seed: 1)])
        _ = try admin.events(CacheRequest(.prewarm, ["team/app:v1"]))
        let more = admin.seed(pattern(100_000, seed: 2))
        var seen: [CacheEvent.Progress] = []
        var blobs: Int?
        CacheAdministration(tier: admin.tier, edge: admin.cache).run(CacheRequest(.verify)) { event in
            blobs = event.done?.blobs ?? blobs
            guard let progress = event.progress else { return true }
            if seen.isEmpty {
                if comes { _ = try? admin.events(CacheRequest(.prewarm, [more.description])) }
                if !comes { try? admin.tier.remove(image.blobs[1]) }
            }
            seen.append(progress)
            return true
        }
        #expect(blobs == (comes ? 4 : 2))
        #expect(seen.first?.totalBlobs == 3)
        #expect(seen.last?.blobs == (comes ? 4 : 2) && seen.last?.totalBlobs == seen.last?.blobs)
        #expect(seen.last.map { $0.bytes == $0.totalBytes } == true)
    }

    /// Bug: each blob had a synced commit of its own.
    @Test func whatProvedRightIsNotedTogether() throws {
        let folder = TemporaryFolder()
        func open() throws -> DiskTier {
            try DiskTier(DiskTier.Configuration(directory: folder.path, ceilingBytes: 64 << 20))
        }
        try {
            let tier = try open()
            for number in 0..<300 {
                let content = Array("\(number)".utf8)
                _ = try tier.insertInline(Digest(of: content), content, since: tier.stamp())
            }
            // As a crash does.
            tier.stop()
        }()
        let tier = try open()
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let cache = EdgeCache(registry: Registry(store: MemoryStore()), tier: tier, log: log)
        CacheAdministration(tier: tier, edge: cache).run(CacheRequest(.verify)) { _ in true }
        cache.close()
        tier.close()
        let mark = try #require(try LocalFileSystem().contents(at: folder.path + "/clean"))
        let words = String(decoding: mark, as: UTF8.self).split { $0 == " " || $0 == "\n" }
        let last = try #require(Int(words[3]))
        #expect(words[2] == "transaction" && last < 400)
    }

    @Test func damageIsNamedAndLeavesTheCache() throws {
        let admin = try Admin()
        let image = admin.seedImage("v1", layers: [pattern(300_000), pattern(200_000, seed: 1)])
        _ = try admin.events(CacheRequest(.prewarm, ["team/app:v1"]))
        try damage(image.blobs[1], in: admin)
        let events = try admin.events(CacheRequest(.verify, ["team/app:v1"]))
        #expect(events.compactMap { $0.problem?.what } == ["blob \(image.blobs[1])"])
        #expect(events.last?.done?.problems == 1 && events.last?.done?.blobs == 2)
        #expect(try admin.tier.size(of: image.blobs[1]) == nil)
        _ = try admin.events(CacheRequest(.prewarm, ["team/app:v1"]))
        #expect(try admin.events(CacheRequest(.verify)).last?.done?.problems == 0, "it was fetched again")
    }

    @Test func onlyWhatIsNamedIsHashed() throws {
        let admin = try Admin()
        let image = admin.seedImage("v1", layers: [pattern(300_000), pattern(200_000, seed: 1)])
        _ = try admin.events(CacheRequest(.prewarm, ["team/app:v1"]))
        try damage(image.blobs[1], in: admin)
        #expect(try admin.events(CacheRequest(.verify, [image.blobs[2].description])).last?.done?.problems == 0)
        #expect(try admin.events(CacheRequest(.verify, [Digest(of: [1]).description])).last?.done?.problems == 1)
    }
}
