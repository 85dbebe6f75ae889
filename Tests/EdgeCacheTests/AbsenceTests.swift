import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

@Suite struct AbsenceTests {
    @Test func whatIsNowhereIsAskedForOncePerTTL() throws {
        let edge = try Edge()
        let content = noise(1000)
        let digest = Digest(of: content)
        for _ in 0..<3 {
            #expect(try edge.read(digest) == nil)
            #expect(try edge.cache.blobSize(digest) == nil)
        }
        #expect(edge.store.calls.count == 1)
        // Another node pushes it.
        _ = edge.seed(content)
        #expect(try edge.read(digest) == nil)
        edge.time.advance(.seconds(3))
        #expect(try edge.cache.blobSize(digest) == 1000)
        #expect(try edge.read(digest) == content)
    }

    /// Bug: a node that had asked for a blob a moment ago believed neither a mount nor a manifest that named it.
    @Test(arguments: [true, false])
    func whoeverSaysThatItIsThereIsBelieved(_ mounts: Bool) throws {
        let edge = try Edge()
        let content = noise(1000)
        let digest = Digest(of: content)
        #expect(try edge.read(digest) == nil)
        _ = edge.seed(content)
        #expect(try edge.read(digest) == nil)
        if mounts {
            #expect(try edge.cache.sizeAnew(digest) == 1000)
        } else {
            let config = #"{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"\#(digest)","size":1000}"#
            let manifest = Array(#"{"schemaVersion":2,"config":\#(config),"layers":[]}"#.utf8)
            _ = try edge.cache.pushManifest(
                library,
                .digest(Digest(of: manifest)),
                manifest,
                contentType: .imageManifest
            )
        }
        #expect(try edge.read(digest) == content)
    }

    @Test func aPushEndsItAtOnce() throws {
        let edge = try Edge()
        let content = noise(100_000)
        let digest = Digest(of: content)
        #expect(try edge.cache.blobSize(digest) == nil)
        try edge.push(content)
        try edge.tier.remove(digest)
        #expect(try edge.cache.blobSize(digest) == 100_000)
        #expect(try edge.read(digest) == content)
    }

    /// The origin says no, then the push ends, then that answer arrives.
    @Test(arguments: ["HEAD", "GET"])
    func anAnswerFromBeforeAPushIsNotRemembered(_ operation: String) throws {
        let store = MemoryStore()
        let edge = try Edge(store: store)
        let content = noise(100_000)
        let digest = Digest(of: content)
        let gate = Gate()
        store.interceptMisses { call in
            if call.operation == operation { gate.pass() }
        }
        let (cache, done) = (edge.cache, Monitor(false))
        spawnThread(name: "client") {
            if operation == "HEAD" { _ = try? cache.blobSize(digest) } else { _ = try? cache.blob(digest) }
            done.update { $0 = true }
        }
        gate.waitForArrivals()
        store.interceptMisses(nil)
        try edge.push(content)
        gate.open()
        _ = done.wait { $0 ? true : nil }
        try edge.tier.remove(digest)
        #expect(try edge.cache.blobSize(digest) == 100_000)
        #expect(try edge.read(digest) == content)
    }

    @Test func itIsBoundedAndCanBeSwitchedOff() throws {
        let edge = try Edge { $0.absentBlobLimit = 2 }
        for seed in 0..<5 as Range<UInt8> { #expect(try edge.read(Digest(of: [seed])) == nil) }
        let asked = edge.store.calls.count
        for seed in 0..<5 as Range<UInt8> { #expect(try edge.read(Digest(of: [seed])) == nil) }
        #expect(edge.store.calls.count >= asked + 3, "at most two were remembered")
        let always = try Edge { $0.absentTTL = .zero }
        for _ in 0..<2 { #expect(try always.read(Digest(of: [1])) == nil) }
        #expect(always.store.calls.count == 2)
    }

    @Test func anOriginInTroubleIsNotRemembered() throws {
        let edge = try Edge()
        let content = noise(1000)
        let digest = edge.seed(content)
        edge.store.intercept { _, call throws(StoreError) in throw MemoryStore.unreachable(call) }
        #expect(throws: EdgeError.self) { try edge.read(digest) }
        #expect(throws: EdgeError.self) { try edge.cache.blobSize(digest) }
        edge.store.intercept(nil)
        #expect(try edge.read(digest) == content)
    }
}
