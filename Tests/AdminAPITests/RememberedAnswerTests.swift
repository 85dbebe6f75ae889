import EdgeCache
import HTTPClient
import Hashing
import OCI
import ObjectStorage
import RegistryAPI
import TestDoubles
import Testing

/// An answer that is given again is what asking anew would give.
@Suite struct RememberedAnswerTests {
    private let time = ManualTime()
    private let manifest = "/v2/team/app/manifests/v1"
    private let type = [(name: "Content-Type", value: MediaType.imageIndex.rawValue)]

    private func node() throws -> MonitoredNode { try MonitoredNode(accessLog: .off, time: time) }

    private func index(_ note: String) -> [UInt8] {
        Array(#"{"schemaVersion":2,"manifests":[],"annotations":{"note":"\#(note)"}}"#.utf8)
    }

    private func push(_ note: String, to node: MonitoredNode) throws {
        #expect(try node.request("PUT", manifest, type, body: index(note)).0.status == 201)
    }

    /// The second's answer is kept, the third's is what was kept.
    private func expect(_ body: String, of path: String, _ node: MonitoredNode, _ location: SourceLocation) throws {
        for _ in 1...3 {
            let (response, text) = try node.request("GET", path)
            #expect(response.status == 200, sourceLocation: location)
            #expect(text == body, sourceLocation: location)
        }
    }

    /// The path of one whose answer is kept.
    private func blob(_ node: MonitoredNode, _ location: SourceLocation = #_sourceLocation) throws -> String {
        let path = "/v2/team/app/blobs/\(node.seed([1, 2, 3]))"
        #expect(node.statusOfGet(path) == 200, sourceLocation: location)
        node.cache.waitForFills()
        try expect("\u{1}\u{2}\u{3}", of: path, node, location)
        return path
    }

    /// Whoever hears by HEAD that a layer is here leaves it out: also an answer that is given again is a promise.
    @Test(arguments: ["GET", "HEAD"])
    func whatAKeptAnswerSaidIsRemembered(_ method: String) throws {
        let node = try node()
        let path = try blob(node)
        // What was said until now is forgotten.
        time.advance(.seconds(24 * 3600))
        #expect(try node.request(method, path).0.status == 200)
        #expect(try node.request("DELETE", path).0.status == 202)
        let layers = [Digest(of: [1, 2, 3]), node.seed([4, 5, 6])].map {
            #"{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"\#($0)","size":3}"#
        }
        let image = #"{"schemaVersion":2,"layers":[\#(layers.joined(separator: ","))]}"#
        let type = [(name: "Content-Type", value: MediaType.imageManifest.rawValue)]
        let status = try node.request("PUT", manifest, type, body: Array(image.utf8)).0.status
        #expect(status == (method == "HEAD" ? 400 : 201))
    }

    @Test func aTagThatMovesIsFollowedAtOnce() throws {
        let node = try node()
        for note in ["one", "two", "three"] {
            try push(note, to: node)
            try expect(String(decoding: index(note), as: UTF8.self), of: manifest, node, #_sourceLocation)
        }
        #expect(try node.sample("forebay_cache_hits_total") == 9)
    }

    @Test func whatIsDeletedIsGoneAtOnce() throws {
        let node = try node()
        let path = try blob(node)
        #expect(try node.request("DELETE", path).0.status == 202)
        #expect(node.statusOfGet(path) == 404)
        try push("one", to: node)
        let digest = "/v2/team/app/manifests/\(Digest(of: index("one")))"
        try expect(String(decoding: index("one"), as: UTF8.self), of: digest, node, #_sourceLocation)
        try expect(String(decoding: index("one"), as: UTF8.self), of: manifest, node, #_sourceLocation)
        #expect(try node.request("DELETE", digest).0.status == 202)
        #expect(node.statusOfGet(digest) == 404)
        #expect(node.statusOfGet(manifest) == 404)
    }

    @Test func aTagIsAskedForAgainWhenItsTimeIsUp() throws {
        let node = try node()
        try push("one", to: node)
        try expect(String(decoding: index("one"), as: UTF8.self), of: manifest, node, #_sourceLocation)
        let asked = try node.sample(#"forebay_origin_requests_total{operation="get",code="304"}"#) ?? 0
        time.advance(.seconds(3600))
        try expect(String(decoding: index("one"), as: UTF8.self), of: manifest, node, #_sourceLocation)
        #expect(try node.sample(#"forebay_origin_requests_total{operation="get",code="304"}"#) == asked + 1)
    }

    /// Also by an answer that was kept before, and no longer by one that was kept meanwhile.
    @Test(arguments: [RequestObserver.AccessLog.off, .full])
    func anOutageIsTold(_ accessLog: RequestObserver.AccessLog) throws {
        let node = try MonitoredNode(accessLog: accessLog, time: time)
        try push("one", to: node)
        let large = "/v2/team/app/blobs/\(node.seed([UInt8](repeating: 7, count: 100_000)))"
        #expect(node.statusOfGet(large) == 200)
        let paths = [try blob(node), large, manifest, "/v2/team/app/manifests/\(Digest(of: index("one")))"]
        #expect(node.statusOfGet("/v2/team/app/tags/list") == 200)
        for isDown in [false, true, false] {
            node.store.availability.set(isDown: isDown)
            let mark = isDown ? "112 forebay \"Disconnected Operation\"" : nil
            for path in paths {
                for (method, headers) in [("GET", []), ("GET", []), ("GET", []), ("GET", [("Range", "bytes=0-0")])]
                    + [("HEAD", []), ("GET", [("X-Request-Id", "1")])]
                {
                    let response = try node.request(method, path, headers).0
                    #expect(response.header("Warning") == mark, "\(method) \(path) \(headers)")
                    #expect([200, 206].contains(response.status) && response.header("Age") == nil)
                }
            }
            #expect(try node.request("GET", "/v2/team/app/tags/list").0.header("Warning") == mark)
        }
    }

    @Test func whatMayBeStaleSaysThatInstead() throws {
        let node = try node()
        try push("one", to: node)
        time.advance(.seconds(3600))
        node.store.availability.set(isDown: true)
        node.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        let response = try node.request("GET", manifest).0
        #expect(response.header("Warning") == "110 forebay \"Response is Stale\"")
        #expect(response.header("Age") == "3600")
    }

    @Test func aPartAndAConditionAreNotGivenTheWhole() throws {
        let node = try node()
        let path = try blob(node)
        let part = try node.request("GET", path, [("range", "bytes=1-1")])
        #expect(part.0.status == 206 && part.1 == "\u{2}")
        #expect(try node.request("GET", path, [("IF-NONE-MATCH", "\"\(Digest(of: [1, 2, 3]))\"")]).0.status == 304)
        #expect(try node.request("HEAD", path).0.header("Content-Length") == "3")
        #expect(try node.request("GET", path + "?ns=docker.io").1 == "\u{1}\u{2}\u{3}")
        #expect(node.statusOfGet("/v2/team/app/manifests/\(Digest(of: [1, 2, 3]))") == 404)
    }
}
