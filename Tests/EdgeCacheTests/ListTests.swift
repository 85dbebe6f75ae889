import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

@Suite struct ListTests {
    private let image = Array("{\"schemaVersion\":2,\"manifests\":[]}".utf8)

    private func push(_ edge: Edge, _ tags: String...) throws {
        for text in tags {
            _ = try edge.cache.pushManifest(library, .tag(OCI.Tag(text)), image, contentType: .imageIndex)
        }
    }

    private func tags(_ edge: Edge, after last: String? = nil, limit: Int? = nil) throws -> [String]? {
        try edge.cache.names(.tags(library), after: last, limit: limit)?.names
    }

    @Test func answersFromTheIndexWithinTheTTL() throws {
        let edge = try Edge()
        try push(edge, "b", "a", "a.1")
        #expect(try tags(edge) == ["a", "a.1", "b"])
        #expect(try edge.cache.names(.repositories, after: nil, limit: nil)?.names == ["library/debian"])
        edge.store.intercept(nil)
        #expect(try tags(edge) == ["a", "a.1", "b"])
        #expect(try tags(edge, after: "a", limit: 1) == ["a.1"])
        #expect(try edge.cache.names(.repositories, after: nil, limit: nil)?.names == ["library/debian"])
        #expect(edge.store.calls == [])
        edge.time.advance(.seconds(11))
        #expect(try tags(edge) == ["a", "a.1", "b"])
        #expect(edge.store.calls("LIST") == 1)
    }

    @Test func ownWritesAreSeenAtOnce() throws {
        let edge = try Edge()
        try push(edge, "a")
        #expect(try tags(edge) == ["a"])
        try push(edge, "b")
        #expect(try tags(edge) == ["a", "b"])
        #expect(try edge.cache.deleteTag(library, OCI.Tag("a")))
        #expect(try tags(edge) == ["b"])
        #expect(try edge.cache.deleteManifest(library, Digest(of: image)))
        #expect(try tags(edge) == nil)
        #expect(try edge.cache.names(.repositories, after: nil, limit: nil)?.names == [])
    }

    /// A listing that was under way while a tag was pushed neither is kept nor answers those who ask after the push.
    @Test func aListingOvertakenByAPushIsNotKept() throws {
        let edge = try Edge()
        try push(edge, "a")
        let listed = Monitor(false)
        let mayGoOn = Monitor(false)
        edge.store.intercept { number, call throws(StoreError) in
            guard call.operation == "LIST", number == 1 else { return }
            listed.update { $0 = true }
            _ = mayGoOn.wait { $0 ? true : nil }
        }
        let pool = WorkerPool(name: "list", threads: 1, queueLimit: 1)
        _ = pool.submit { [cache = edge.cache] in _ = try? cache.names(.tags(library), after: nil, limit: nil) }
        _ = listed.wait { $0 ? true : nil }
        try push(edge, "b")
        #expect(try tags(edge) == ["a", "b"], "it does not join the listing that began before")
        mayGoOn.update { $0 = true }
        pool.close()
        #expect(try tags(edge) == ["a", "b"])
    }

    @Test func isServedStaleWhileTheOriginIsDown() throws {
        let edge = try Edge()
        try push(edge, "a")
        _ = try tags(edge)
        edge.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        edge.time.advance(.seconds(60))
        let answer = try edge.cache.names(.tags(library), after: nil, limit: nil)
        #expect(answer?.names == ["a"] && answer?.staleSeconds == 60)
        edge.time.advance(.seconds(24 * 3600))
        #expect(throws: EdgeError.self) { try tags(edge) }
    }

    /// Every page of a hundred thousand tags, by bisection and in order.
    @Test func longListsStayLexical() throws {
        let edge = try Edge(store: MemoryStore(listLimit: 100_000))
        let names = (0..<100_000).map { "v\($0)" }
        for name in names { edge.store["epoch/manifests/library/debian/\(name).json"] = image }
        let sorted = names.sorted()
        #expect(try tags(edge) == sorted)
        edge.store.intercept(nil)
        var seen: [String] = []
        while true {
            let page = try #require(try edge.cache.names(.tags(library), after: seen.last, limit: 7_777))
            seen += page.names
            if !page.hasMore { break }
        }
        #expect(seen == sorted)
        #expect(try tags(edge, after: "v5", limit: 1) == ["v50"])
        #expect(try tags(edge, after: "v49999", limit: 1) == ["v5"])
        #expect(try tags(edge, after: "", limit: 1) == ["v0"])
        #expect(try tags(edge, after: "w") == [])
        #expect(try tags(edge, limit: 0) == [])
        #expect(edge.store.calls == [])
    }

    /// Two readers of one digest: the one that asks after the push must not get the other's "unknown".
    @Test func aManifestReadOvertakenByAPushIsNotShared() throws {
        let edge = try Edge()
        let asked = Monitor(false)
        let mayGoOn = Monitor(false)
        edge.store.intercept { number, call throws(StoreError) in
            guard call.operation == "GET", number == 1 else { return }
            asked.update { $0 = true }
            _ = mayGoOn.wait { $0 ? true : nil }
        }
        let pool = WorkerPool(name: "read", threads: 1, queueLimit: 1)
        _ = pool.submit { [cache = edge.cache] in _ = try? cache.manifest(library, .tag(OCI.Tag("a"))) }
        _ = asked.wait { $0 ? true : nil }
        try push(edge, "a")
        try edge.tier.forget(tag: OCI.Tag("a"), repository: library)
        #expect(try edge.cache.manifest(library, .tag(OCI.Tag("a"))) != nil)
        mayGoOn.update { $0 = true }
        pool.close()
    }
}
