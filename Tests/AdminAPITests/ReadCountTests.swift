import DiskTier
import EdgeCache
import HTTPClient
import Hashing
import OCI
import ObjectStorage
import RegistryAPI
import System
import TestDoubles
import Testing
import Threading

/// Every read of content is one hit, one miss or one that joined another, and the access log says which.
@Suite struct ReadCountTests {
    private func path(_ digest: Digest) -> String { "/v2/team/app/blobs/\(digest)" }

    /// Asks, and gives what the request was counted as, and what its line says.
    private func count(
        _ node: MonitoredNode,
        _ method: String,
        _ path: String,
        _ headers: [(name: String, value: String)] = []
    ) throws -> String {
        func counts() throws -> [Double] {
            try ["forebay_cache_hits_total", "forebay_cache_misses_total", "forebay_coalesced_requests_total"].map {
                try #require(try node.sample($0))
            }
        }
        let before = try counts()
        let id = "r\(node.lines.withLock { $0.count })"
        let status = try node.request(method, path, headers + [("X-Request-Id", id)]).0.status
        let line = try #require(node.line(with: "\"id\":\"\(id)\""))
        let said = line.firstRange(of: "\"cache\":\"").map { line[$0.upperBound...].prefix { $0 != "\"" } } ?? "none"
        let added = zip(try counts(), before).map { Int($0 - $1) }
        let counted = zip(["hit", "miss", "fill"], added).map { String(repeating: " \($0)", count: $1) }.joined()
        return "\(status) \(said) =\(counted)"
    }

    @Test func aHeadIsCountedAsTheGetWouldBe() throws {
        let node = try MonitoredNode()
        let (small, large) = (node.seed(pattern(1_000)), node.seed(pattern(100_000)))
        for digest in [small, large] {
            #expect(try count(node, "HEAD", path(digest)) == "200 miss = miss", "the origin is asked")
            #expect(try count(node, "HEAD", path(digest)) == "200 miss = miss", "and again: a HEAD fetches nothing")
            #expect(try count(node, "GET", path(digest)) == "200 miss = miss")
            node.cache.waitForFills()
            for _ in 0..<3 { #expect(try count(node, "HEAD", path(digest)) == "200 hit = hit") }
            #expect(try count(node, "GET", path(digest)) == "200 hit = hit")
        }
        #expect(node.store.calls("HEAD") == 4)
    }

    /// Without an access log, the answer is kept from the second time on.
    @Test(arguments: ["GET", "HEAD"])
    func anAnswerThatIsKeptIsAHitEachTime(_ method: String) throws {
        let node = try MonitoredNode(accessLog: .off)
        let digest = node.seed(pattern(1_000))
        _ = try node.request("GET", path(digest))
        node.cache.waitForFills()
        for _ in 0..<5 { #expect(try node.request(method, path(digest)).0.status == 200) }
        #expect(try node.sample("forebay_cache_hits_total") == 5)
        #expect(try node.sample("forebay_cache_misses_total") == 1)
    }

    /// Its size is known all the same.
    @Test func aHeadOfWhatIsToBeHashedAgainIsAHit() throws {
        let node = try MonitoredNode()
        let digest = node.seed(pattern(100_000))
        #expect(try count(node, "GET", path(digest)) == "200 miss = miss")
        node.cache.waitForFills()
        let file = "\(node.tier.directory)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        try LocalFileSystem().setModified(LocalFileSystem().open(file, .readWrite), nanoseconds: 5)
        #expect(try count(node, "HEAD", path(digest)) == "200 hit = hit")
        #expect(try count(node, "GET", path(digest)) == "200 hit = hit")
    }

    @Test(arguments: ["GET", "HEAD"])
    func whatIsNowhereIsAMiss(_ method: String) throws {
        let node = try MonitoredNode()
        let none = path(Digest(of: [1]))
        #expect(try count(node, method, none) == "404 miss = miss")
        #expect(try count(node, method, none) == "404 miss = miss", "as the origin said a moment ago")
        #expect(try count(node, method, "/v2/team/app/manifests/none") == "404 miss = miss")
        node.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        #expect(try count(node, method, path(Digest(of: [2]))) == "503 miss = miss")
        #expect(try count(node, method, "/v2/team/app/manifests/other") == "503 miss = miss")
    }

    /// It used to be looked up twice.
    @Test func aRangeThatIsNoneOfTheBlobsIsOneHit() throws {
        let node = try MonitoredNode()
        let (small, large) = (node.seed(pattern(1_000)), node.seed(pattern(100_000)))
        for digest in [small, large] {
            #expect(try count(node, "GET", path(digest)) == "200 miss = miss")
            node.cache.waitForFills()
            #expect(try count(node, "GET", path(digest), [("Range", "bytes=100000-")]) == "416 hit = hit")
            #expect(try count(node, "GET", path(digest), [("Range", "bytes=5-9")]) == "206 hit = hit")
            let known = [(name: "If-None-Match", value: "\"\(digest)\"")]
            #expect(try count(node, "GET", path(digest), known) == "304 hit = hit")
        }
    }
}
