import EdgeCache
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing
import Threading

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

    private func image(_ layer: Digest, _ size: Int) -> [UInt8] { image([(layer, size)]) }

    private func image(_ layers: [(digest: Digest, size: Int)]) -> [UInt8] {
        let layers = layers.map { #"{"mediaType":"x","digest":"\#($0.digest)","size":\#($0.size)}"# }
        return Array(#"{"schemaVersion":2,"layers":[\#(layers.joined(separator: ","))]}"#.utf8)
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
        #expect(throws: EdgeError.self) { try push(edge, Array(index.utf8)) }
        try edge.push(pattern(1_000))
        try push(edge, child)
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

    /// Bug: each of the manifests that miss the same blob sent it again.
    @Test func whatSeveralMissIsSentOnce() throws {
        let edge = try edge()
        let content = pattern(100_000)
        let digest = Digest(of: content)
        try edge.push(content)
        let images = try (1...4).map { size in
            try edge.push(pattern(size))
            return image([(digest, content.count), (Digest(of: pattern(size)), size)])
        }
        let (blob, gate) = (key(digest), Gate())
        let (looks, sent, pushed) = (Monitor(0), Monitor(0), Monitor([Bool]()))
        edge.store[blob] = nil
        edge.store.intercept { _, call throws(StoreError) in
            guard call.key == blob else { return }
            if call.operation == "HEAD" { looks.update { $0 += 1 } }
            guard call.operation == "PUT" else { return }
            sent.update { $0 += 1 }
            gate.pass()
        }
        for image in images {
            spawnThread(name: "client") { [cache = edge.cache] in
                let answer = try? cache.pushManifest(library, .digest(Digest(of: image)), image, contentType: nil)
                pushed.update { $0.append(answer != nil) }
            }
        }
        // One for each client, and another before the blob is sent.
        _ = looks.wait { $0 > images.count ? true : nil }
        gate.waitForArrivals()
        gate.open()
        _ = pushed.wait { $0.count == images.count ? true : nil }
        #expect(pushed.withLock { $0 } == [true, true, true, true])
        #expect(sent.withLock { $0 } == 1)
        #expect(edge.store[blob] == content)
    }

    /// Bug: nor does one send it that looked before another had.
    @Test func whatAnotherHasBroughtBackIsNotSentAgain() throws {
        let edge = try edge()
        let content = pattern(100_000)
        let digest = Digest(of: content)
        try edge.push(content)
        let (blob, gate, done) = (key(digest), Gate(), Monitor(false))
        edge.store[blob] = nil
        edge.store.interceptMisses { _ in gate.pass() }
        let image = image(digest, content.count)
        spawnThread(name: "client") { [cache = edge.cache] in
            _ = try? cache.pushManifest(library, .digest(Digest(of: image)), image, contentType: nil)
            done.update { $0 = true }
        }
        gate.waitForArrivals()
        edge.store.interceptMisses(nil)
        edge.store.intercept(nil)
        #expect(try edge.cache.provide(digest))
        gate.open()
        _ = done.wait { $0 ? true : nil }
        #expect(edge.store.calls.filter { $0.operation == "PUT" && $0.key == blob }.count == 1)
    }
}
