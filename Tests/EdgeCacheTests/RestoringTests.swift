import EdgeCache
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing

/// Blobs that lie here and that another node has deleted at the origin: whoever refers to one must find it there.
@Suite struct RestoringTests {
    private func edge() throws -> Edge {
        let traits = MultipartTraits(
            thresholdBytes: 128 << 10,
            partBytes: 64 << 10,
            partsInFlight: 3,
            movesCheaply: false
        )
        return try Edge(store: MemoryStore(multipart: traits))
    }

    private func key(_ digest: Digest) -> String { "epoch/blobs/sha256/\(digest.hex)" }

    private func image(_ layer: Digest, _ size: Int) -> [UInt8] {
        Array("{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"x\",\"digest\":\"\(layer)\",\"size\":\(size)}]}".utf8)
    }

    private func push(_ edge: Edge, _ manifest: [UInt8]) throws {
        _ = try edge.cache.pushManifest(library, .tag(OCI.Tag("v1")), manifest, contentType: .imageManifest)
    }

    /// Bug: a push was acknowledged whose layer its client had left out, as this node had it still, and nobody else could pull it.
    @Test(arguments: [1_000, 100_000, 700_000], [false, true])
    func aPushBringsBackWhatAnotherNodeDeleted(size: Int, isPulled: Bool) throws {
        let edge = try edge()
        let content = pattern(size)
        let digest = isPulled ? edge.seed(content) : Digest(of: content)
        if isPulled { #expect(try edge.read(digest) == content) } else { try edge.push(content) }
        edge.cache.waitForFills()
        edge.store[key(digest)] = nil
        #expect(try edge.cache.blobSize(digest) == Int64(size))
        try push(edge, image(digest, size))
        #expect(edge.store[key(digest)] == content)
        #expect(edge.store.uploads == [])
    }

    /// Bug: so was an index whose manifests its client had left out.
    @Test func anIndexBringsBackItsManifests() throws {
        let edge = try edge()
        try edge.push(pattern(1_000))
        let blob = Digest(of: pattern(1_000))
        let child = image(blob, 1_000)
        let index = { (below: [UInt8]) in
            Array(
                "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":\"\(Digest(of: below))\",\"size\":1}]}"
                    .utf8
            )
        }
        let (inner, outer) = (index(child), index(index(child)))
        for manifest in [child, inner] { try push(edge, manifest) }
        for key in edge.store.keys { edge.store[key] = nil }
        try push(edge, outer)
        for manifest in [child, inner, outer] {
            let digest = Digest(of: manifest)
            #expect(edge.store["epoch/manifests/library/debian/_digests/sha256-\(digest.hex).json"] == manifest)
        }
        #expect(edge.store[key(blob)] == pattern(1_000))
    }

    /// Its client hears that it is missing, and sends it.
    @Test func aManifestThatCannotBeBroughtBackIsForgotten() throws {
        let edge = try edge()
        let child = image(edge.seed(pattern(1_000)), 1_000)
        try push(edge, child)
        for key in edge.store.keys { edge.store[key] = nil }
        let digest = Digest(of: child)
        let index = "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":\"\(digest)\",\"size\":1}]}"
        #expect(throws: EdgeError.self) { try push(edge, Array(index.utf8)) }
        #expect(try edge.cache.manifest(library, .digest(digest)) == nil)
        try push(edge, Array(index.utf8))
    }

    /// Bug: one that cannot be read as a manifest was left out, and the index acknowledged.
    @Test func whatIsNoManifestIsBroughtBackToo() throws {
        let edge = try edge()
        let child = Array("no manifest".utf8)
        let digest = Digest(of: child)
        let copy = "epoch/manifests/library/debian/_digests/sha256-\(digest.hex).json"
        edge.store[copy] = child
        #expect(try edge.cache.manifest(library, .digest(digest))?.bytes == child)
        edge.store[copy] = nil
        let index = "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"x\",\"digest\":\"\(digest)\",\"size\":1}]}"
        try push(edge, Array(index.utf8))
        #expect(edge.store[copy] == child)
    }

    /// Bug: so was a mount.
    @Test func aMountBringsItBackToo() throws {
        let edge = try edge()
        try edge.push(pattern(1_000))
        let digest = Digest(of: pattern(1_000))
        edge.store[key(digest)] = nil
        #expect(try edge.cache.provide(digest))
        #expect(edge.store[key(digest)] == pattern(1_000))
        #expect(try edge.cache.provide(Digest(of: [1])) == false)
    }

    /// Bug: a client that asks before it sends was told that there is nothing to send.
    @Test func whatIsOnlyHereIsNotConfirmed() throws {
        let edge = try edge()
        try edge.push(pattern(1_000))
        let digest = Digest(of: pattern(1_000))
        #expect(try edge.cache.confirmedSize(digest) == 1_000)
        edge.store[key(digest)] = nil
        #expect(try edge.cache.confirmedSize(digest) == nil)
    }

    @Test func whatIsDamagedHereIsNotBroughtBack() throws {
        let edge = try edge()
        let content = pattern(100_000)
        try edge.push(content)
        let digest = Digest(of: content)
        edge.store[key(digest)] = nil
        let path = "\(edge.folder.path)/cache/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        try overwriteLater(path, at: 5, [content[5] ^ 1])
        let error = #expect(throws: EdgeError.self) { try push(edge, image(digest, content.count)) }
        guard case .manifestBlobsUnknown([digest])? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(edge.store[key(digest)] == nil)
        // Its client hears that it is missing, and sends it.
        #expect(try edge.cache.blobSize(digest) == nil)
    }

    /// Nothing is acknowledged that the origin does not take.
    @Test(arguments: [1_000, 100_000, 700_000])
    func whatCannotBeBroughtBackFailsThePush(size: Int) throws {
        let edge = try edge()
        try edge.push(pattern(size))
        let digest = Digest(of: pattern(size))
        edge.store[key(digest)] = nil
        edge.store.intercept { _, call throws(StoreError) in
            if ["PUT", "PART"].contains(call.operation) { throw MemoryStore.unreachable(call) }
        }
        #expect(throws: EdgeError.self) { try push(edge, image(digest, size)) }
        edge.store.intercept(nil)
        #expect(edge.store.uploads == [] && edge.store[key(digest)] == nil)
        try push(edge, image(digest, size))
        #expect(edge.store[key(digest)] == pattern(size))
    }
}
