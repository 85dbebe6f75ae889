import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing
import Threading

@Suite struct TagTests {
    let first = Array("{\"schemaVersion\":2,\"manifests\":[]}".utf8)
    let second = Array("{\"schemaVersion\":2,\"manifests\":[ ]}".utf8)
    let latest = try! OCI.Tag("latest")  // A literal that parses.

    private func push(_ edge: Edge, _ bytes: [UInt8]) throws -> Digest {
        try edge.cache.pushManifest(library, .tag(latest), bytes, contentType: .imageIndex).digest
    }

    private func read(_ edge: Edge) throws -> ManifestAnswer? { try edge.cache.manifest(library, .tag(latest)) }

    @Test func ownWritesAreVisibleAtOnceAndWarm() throws {
        let edge = try Edge()
        _ = try push(edge, first)
        _ = try push(edge, second)
        let gets = edge.store.calls("GET")
        let answer = try #require(try read(edge))
        #expect(answer.bytes == second && answer.mediaType == .imageIndex && answer.staleSeconds == nil)
        #expect(edge.store.calls("GET") == gets)
    }

    @Test func anotherNodesWriteIsSeenWithinTheTTL() throws {
        let edge = try Edge()
        _ = try push(edge, first)
        let other = try Edge(store: edge.store)
        _ = try push(other, second)
        #expect(try read(edge)?.bytes == first, "still fresh")
        edge.time.advance(.seconds(11))
        #expect(try read(edge)?.bytes == second)
    }

    /// Bug: with an older index put back after a kill, the tag's image of then was answered for as long as the TTL.
    @Test func afterAKillTagsAreAskedForOnce() throws {
        let edge = try Edge()
        _ = try push(edge, first)
        let other = try Edge(store: edge.store)
        _ = try push(other, second)
        let killed = try edge.killed()
        #expect(try read(killed)?.bytes == second)
        edge.time.advance(.seconds(1))
        #expect(try read(killed)?.bytes == second)
    }

    @Test func noTTLAsksEachTimeConditionally() throws {
        let edge = try Edge { $0.tagTTL = .zero }
        _ = try push(edge, first)
        edge.store.intercept(nil)
        for _ in 0..<3 { #expect(try read(edge)?.bytes == first) }
        #expect(edge.store.calls("GET") == 3)
    }

    /// It takes no error for it: nobody waits for long for an origin that is silent. What it says in the end counts.
    @Test func aTagIsServedStaleWhileTheOriginSaysNothing() throws {
        let edge = try Edge { $0.stalePatience = .milliseconds(20) }
        _ = try push(edge, first)
        let other = try Edge(store: edge.store)
        _ = try push(other, second)
        let gate = Gate()
        edge.store.intercept { _, _ in gate.pass() }
        edge.time.advance(.seconds(60))
        for _ in 0..<3 {
            let answer = try #require(try read(edge))
            #expect(answer.bytes == first && answer.staleSeconds == 60 && answer.status == .stale)
        }
        gate.waitForArrivals()
        #expect(edge.store.calls("GET") == 1, "one asks for all")
        gate.open()
        edge.store.intercept(nil)
        while try read(edge)?.bytes != second {}
    }

    @Test func aTagIsServedStaleWhileTheOriginIsDownButNotForEver() throws {
        let edge = try Edge()
        let digest = try push(edge, first)
        edge.store.intercept { _, call throws(StoreError) in
            throw MemoryStore.unreachable(call)
        }
        edge.time.advance(.seconds(60))
        let answer = try #require(try read(edge))
        #expect(answer.bytes == first && answer.staleSeconds == 60)
        edge.time.advance(.seconds(24 * 3600))
        #expect(throws: EdgeError.self) { try read(edge) }
        #expect(try edge.cache.manifest(library, .digest(digest))?.bytes == first, "a digest never needs the origin")
    }

    @Test func aTagThatIsGoneAtTheOriginIsGoneHere() throws {
        let edge = try Edge()
        _ = try push(edge, first)
        edge.store["epoch/manifests/library/debian/latest.json"] = nil
        edge.time.advance(.seconds(11))
        #expect(try read(edge) == nil)
    }

    @Test func deletingByDigestInvalidates() throws {
        let edge = try Edge()
        let digest = try push(edge, first)
        #expect(try edge.cache.deleteManifest(library, digest))
        #expect(try read(edge) == nil)
        #expect(try edge.cache.manifest(library, .digest(digest)) == nil)
        #expect(try edge.cache.deleteManifest(library, digest) == false)
    }

    @Test func deletingATagKeepsTheManifest() throws {
        let edge = try Edge()
        let digest = try push(edge, first)
        #expect(try edge.cache.deleteTag(library, latest))
        #expect(try read(edge) == nil)
        #expect(try edge.cache.manifest(library, .digest(digest))?.bytes == first)
        #expect(try edge.cache.deleteTag(library, latest) == false)
    }

    /// Bug: where the answer to a delete was lost, the tag went on being served from here.
    @Test(arguments: [(StoreError.Kind.timeout, nil), (.unavailable, true)] as [(StoreError.Kind, Bool?)])
    func aTagWhoseDeleteWasNotAnsweredIsAskedFor(_ kind: StoreError.Kind, mayBeDone: Bool?) throws {
        let edge = try Edge()
        _ = try push(edge, first)
        let store = edge.store
        store.intercept { _, call throws(StoreError) in
            guard call.operation == "DELETE" else { return }
            store[call.key] = nil
            throw StoreError(.delete, in: "memory", kind, "", mayBeDone: mayBeDone)
        }
        #expect(throws: EdgeError.self) { try edge.cache.deleteTag(library, latest) }
        #expect(try read(edge) == nil)
    }

    /// Bug: a delete that nobody had begun threw the cached image away, for all who asked during an outage.
    @Test(arguments: [StoreError.Kind.unavailable, .denied])
    func anImageWhoseDeleteWasRefusedIsServedOn(_ kind: StoreError.Kind) throws {
        let edge = try Edge()
        let digest = try push(edge, first)
        edge.store.intercept { _, call throws(StoreError) in
            if case .denied = kind, !["PUT", "DELETE", "DELETE-MANY"].contains(call.operation) { return }
            throw StoreError(.delete, in: "memory", kind, "")
        }
        #expect(throws: EdgeError.self) { try edge.cache.deleteManifest(library, digest) }
        edge.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        edge.time.advance(.seconds(60))
        #expect(try read(edge)?.bytes == first)
        #expect(try edge.cache.manifest(library, .digest(digest))?.bytes == first)
    }

    /// Bug: a tag that the delete had removed at the origin was served on here, as what it was before somebody else moved it.
    @Test(arguments: [true, false])
    func aTagThatWasMovedElsewhereGoesWithItsManifest(_ succeeds: Bool) throws {
        let edge = try Edge()
        _ = try push(edge, first)
        let other = try Edge(store: edge.store)
        let digest = try push(other, second)
        edge.store.intercept { _, call throws(StoreError) in
            guard !succeeds, call.operation == "DELETE", call.key.contains(digest.hex) else { return }
            throw StoreError(.delete, in: "memory", .unavailable, "")
        }
        if succeeds {
            #expect(try edge.cache.deleteManifest(library, digest))
        } else {
            #expect(throws: EdgeError.self) { try edge.cache.deleteManifest(library, digest) }
        }
        #expect(try read(edge) == nil)
        edge.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        #expect(throws: EdgeError.self) { try read(edge) }
    }

    /// Bug: a delete of what is not there, as one that failed halfway, had all other tags of its repository forgotten: nobody could pull them in an outage.
    @Test(arguments: [true, false])
    func otherTagsOutliveADelete(_ isKnown: Bool) throws {
        let edge = try Edge()
        _ = try push(edge, first)
        let digest = Digest(of: second)
        if isKnown {
            _ = try edge.cache.pushManifest(library, .tag(OCI.Tag("gone")), second, contentType: .imageIndex)
            edge.store.intercept { _, call throws(StoreError) in
                guard call.operation == "DELETE", call.key.contains(digest.hex) else { return }
                throw StoreError(.delete, in: "memory", .unavailable, "")
            }
            #expect(throws: EdgeError.self) { try edge.cache.deleteManifest(library, digest) }
        } else {
            #expect(try edge.cache.deleteManifest(library, digest) == false)
        }
        edge.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        let answer = try #require(try read(edge))
        #expect(answer.bytes == first && (answer.staleSeconds != nil) == isKnown)
    }

    /// Bug: of a manifest that has a digest of each kind, the tag that was cached by the other one was served on.
    @Test(arguments: DigestAlgorithm.allCases)
    func aTagGoesWithEitherDigest(_ algorithm: DigestAlgorithm) throws {
        let edge = try Edge()
        let long = Digest(of: first, .sha512)
        let stable = try OCI.Tag("stable")
        _ = try push(edge, first)
        _ = try edge.cache.pushManifest(library, .digest(long), tags: [stable], first, contentType: .imageIndex)
        #expect(try edge.cache.manifest(library, .tag(stable))?.digest == long)
        #expect(try edge.cache.deleteManifest(library, Digest(of: first, algorithm)))
        #expect(try edge.cache.manifest(library, .tag(stable)) == nil)
        #expect(try read(edge) == nil)
    }

    /// Bug: another node named a tagged manifest by a digest under which nobody could fetch or delete it.
    @Test func theDigestThatATagLeadsToIsThereForAll() throws {
        let edge = try Edge()
        let long = Digest(of: first, .sha512)
        _ = try edge.cache.pushManifest(library, .digest(long), tags: [latest], first, contentType: .imageIndex)
        let other = try Edge(store: edge.store)
        let digest = try #require(try read(other)).digest
        #expect(try edge.cache.manifest(library, .digest(digest))?.bytes == first)
        #expect(try edge.cache.manifest(library, .digest(long))?.bytes == first)
        #expect(try edge.cache.deleteManifest(library, digest))
        #expect(try read(edge) == nil)
    }

    /// Bug: after a push that failed halfway, the tag was what it had been for the whole TTL.
    @Test func aTagWhosePushFailedIsAskedFor() throws {
        let edge = try Edge()
        _ = try push(edge, first)
        edge.store.intercept { _, call throws(StoreError) in
            guard call.operation == "PUT", call.key.hasSuffix("catalog.json") else { return }
            throw StoreError(.put, in: "memory", .timeout, "")
        }
        #expect(throws: EdgeError.self) { try push(edge, second) }
        let store = edge.store
        store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        let stale = try #require(try read(edge))
        #expect(stale.bytes == first && stale.staleSeconds != nil, "it is served while nobody can say more")
        store.intercept(nil)
        #expect(try read(edge)?.bytes == second)
    }

    /// Bug: a node that had taken the push gave another type than those that read it from the bucket.
    @Test func aTypeThatSaysNothingIsTheManifestsOwn() throws {
        let edge = try Edge()
        let typed = Array("{\"schemaVersion\":2,\"mediaType\":\"\(MediaType.imageIndex)\",\"manifests\":[]}".utf8)
        _ = try edge.cache.pushManifest(library, .tag(latest), typed, contentType: .octetStream)
        let other = try Edge(store: edge.store)
        #expect(try read(edge)?.mediaType == .imageIndex && read(other)?.mediaType == .imageIndex)
    }

    @Test func whatADeleteRemovedBeforeItFailedIsNotServed() throws {
        let edge = try Edge()
        let digest = try push(edge, first)
        edge.store.intercept { _, call throws(StoreError) in
            guard call.operation == "DELETE", call.key.contains(digest.hex) else { return }
            throw StoreError(.delete, in: "memory", .unavailable, "")
        }
        #expect(throws: EdgeError.self) { try edge.cache.deleteManifest(library, digest) }
        #expect(try read(edge) == nil)
    }

    @Test func aManifestNeedsItsBlobs() throws {
        let edge = try Edge()
        let digest = Digest(of: pattern(100))
        let bytes = Array(
            "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"x\",\"digest\":\"\(digest)\",\"size\":100}]}".utf8
        )
        let missing = #expect(throws: EdgeError.self) {
            try edge.cache.pushManifest(library, .tag(latest), bytes, contentType: .imageManifest)
        }
        guard case .manifestBlobsUnknown([digest])? = missing else {
            Issue.record("\(String(describing: missing))")
            return
        }
        try edge.push(pattern(100))
        #expect(
            try edge.cache.pushManifest(library, .tag(latest), bytes, contentType: .imageManifest).digest
                == Digest(of: bytes)
        )
    }

    @Test func aSparseImageIsTaken() throws {
        let edge = try Edge()
        try edge.push(pattern(100))
        let layers = [Digest(of: pattern(100)), Digest(of: pattern(101))].map {
            "{\"mediaType\":\"x\",\"digest\":\"\($0)\",\"size\":100}"
        }
        let bytes = Array("{\"schemaVersion\":2,\"layers\":[\(layers.joined(separator: ","))]}".utf8)
        _ = try edge.cache.pushManifest(library, .tag(latest), bytes, contentType: .imageManifest)
        #expect(try read(edge)?.bytes == bytes)
    }

    /// Bug: a client that had been told that a layer was there left it out, and its image was taken without it.
    @Test func anImageWithoutALayerThatWasSaidToBeThereIsNot() throws {
        let edge = try Edge()
        try edge.push(pattern(100))
        let layer = edge.seed(pattern(101))
        #expect(try edge.cache.blobSize(layer) == 101)
        edge.store["epoch/blobs/sha256/\(layer.hex)"] = nil
        let layers = [Digest(of: pattern(100)), layer].map { "{\"mediaType\":\"x\",\"digest\":\"\($0)\",\"size\":100}" }
        let bytes = Array("{\"schemaVersion\":2,\"layers\":[\(layers.joined(separator: ","))]}".utf8)
        for _ in 0..<2 {
            let error = #expect(throws: EdgeError.self) {
                try edge.cache.pushManifest(library, .tag(latest), bytes, contentType: .imageManifest)
            }
            guard case .manifestBlobsUnknown([layer])? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        try edge.push(pattern(101))
        _ = try edge.cache.pushManifest(library, .tag(latest), bytes, contentType: .imageManifest)
    }

    @Test func aManifestMustHaveTheDigestOfItsAddress() throws {
        let edge = try Edge()
        #expect(throws: EdgeError.self) {
            try edge.cache.pushManifest(library, .digest(Digest(of: [1])), first, contentType: .imageIndex)
        }
        #expect(edge.store.keys == [])
        let tags = [try OCI.Tag("a"), try OCI.Tag("b")]
        let digest = try edge.cache.pushManifest(
            library,
            .digest(Digest(of: first, .sha512)),
            tags: tags,
            first,
            contentType: .imageIndex
        )
        #expect(try edge.cache.names(.tags(library), after: nil, limit: nil)?.names == ["a", "b"])
        #expect(try edge.cache.manifest(library, .digest(digest.digest))?.bytes == first)
    }
}
