import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing

/// What a client was told is here it may leave out of its push: a manifest that refers to it is not acknowledged without it.
@Suite struct ToldContentTests {
    private static let content = pattern(100_000)
    private static let digest = Digest(of: content)
    private static let key = blobKey(digest)

    private func refusal(_ edge: Edge, _ manifest: [UInt8]) -> [Digest] {
        let error = #expect(throws: EdgeError.self) { try push(edge, manifest) }
        guard case .manifestBlobsUnknown(let digests)? = error else { return [] }
        return digests
    }

    private func push(_ edge: Edge, _ manifest: [UInt8], in name: RepositoryName = library) throws {
        _ = try edge.cache.pushManifest(name, .digest(Digest(of: manifest)), manifest, contentType: nil)
    }

    /// An image of the content and of a layer that is there.
    private func image(_ edge: Edge) throws -> [UInt8] {
        let other = pattern(100_001)
        try edge.push(other)
        return imageManifest([Self.content, other])
    }

    // MARK: Blobs

    enum Word: CaseIterable { case head, push, mount }

    /// Bug: it was remembered of what came from the origin only, so an image was acknowledged without a layer that had been here and was gone.
    @Test(arguments: Word.allCases, [false, true])
    func anImageWithoutABlobThatIsGoneIsRefused(_ word: Word, isDamaged: Bool) throws {
        let edge = try Edge()
        _ = edge.seed(Self.content)
        #expect(try edge.read(Self.digest) == Self.content)
        edge.cache.waitForFills()
        if word == .head { edge.store[Self.key] = nil }
        switch word {
        case .head: #expect(try edge.cache.blobSize(Self.digest) == 100_000)
        case .push: try edge.push(Self.content)
        case .mount: #expect(try edge.cache.provide(Self.digest))
        }
        edge.store[Self.key] = nil
        if isDamaged {
            let path = "\(edge.folder.path)/cache/blobs/sha256/\(Self.digest.hex.prefix(2))/\(Self.digest.hex)"
            try overwriteLater(path, at: 5, [Self.content[5] ^ 1])
        } else {
            _ = try edge.tier.evict([.blob(Self.digest)])
        }
        let image = try image(edge)
        for _ in 0..<2 { #expect(refusal(edge, image) == [Self.digest]) }
        // Its client asks again, and hears that it is missing.
        #expect(try edge.cache.blobSize(Self.digest) == nil)
        try edge.push(Self.content)
        try push(edge, image)
    }

    /// Bug: so was one whose layer another client had deleted meanwhile.
    @Test func aDeleteDoesNotUndoIt() throws {
        let edge = try Edge()
        _ = edge.seed(Self.content)
        #expect(try edge.cache.blobSize(Self.digest) == 100_000)
        #expect(try edge.cache.deleteBlob(Self.digest))
        #expect(try refusal(edge, image(edge)) == [Self.digest])
    }

    @Test func itIsRememberedForAWhile() throws {
        let edge = try Edge { $0.toldTTL = .seconds(3600) }
        _ = edge.seed(Self.content)
        let image = try image(edge)
        for isLater in [false, true] {
            edge.time.advance(.seconds(3599))
            if !isLater { #expect(try edge.cache.blobSize(Self.digest) == 100_000) }
            edge.store[Self.key] = nil
            #expect(refusal(edge, image) == [Self.digest])
        }
        edge.time.advance(.seconds(7200))
        try push(edge, image)
    }

    @Test func itIsBounded() throws {
        let edge = try Edge { $0.toldLimit = 8 }
        _ = edge.seed(Self.content)
        #expect(try edge.cache.blobSize(Self.digest) == 100_000)
        edge.store[Self.key] = nil
        let image = try image(edge)
        #expect(refusal(edge, image) == [Self.digest])
        for size in 1...8 { try edge.push(pattern(size)) }
        try push(edge, image)
    }

    // MARK: Manifests

    /// Bug: nothing was remembered of manifests.
    @Test(arguments: [false, true])
    func anIndexWithoutAManifestThatIsGoneIsRefused(isPushed: Bool) throws {
        let edge = try Edge()
        try edge.push(Self.content)
        let child = imageManifest([Self.content])
        let digest = Digest(of: child)
        let copy = "epoch/manifests/library/debian/_digests/sha256-\(digest.hex).json"
        if isPushed {
            try push(edge, child)
        } else {
            edge.store[copy] = child
            #expect(try edge.cache.manifest(library, .digest(digest))?.digest == digest)
            edge.cache.hasTold(digest, in: library)
        }
        edge.store[copy] = nil
        _ = try edge.tier.evict([.manifest(library, digest)])
        let index = indexManifest([child])
        for _ in 0..<2 { #expect(refusal(edge, index) == [digest]) }
        // Nobody was told so of another repository.
        try push(edge, index, in: RepositoryName("library/other"))
        try push(edge, child)
        try push(edge, index)
    }

    // MARK: Objects of another length

    /// Bug: a mount and a manifest took an object that was cut short for the blob.
    @Test(arguments: [false, true], [false, true])
    func whatWasCutShortIsBroughtBackFromHere(mounts: Bool, isInParts: Bool) throws {
        let traits = MultipartTraits(
            thresholdBytes: 64 << 10,
            partBytes: 64 << 10,
            partsInFlight: 3,
            movesCheaply: false
        )
        let edge = try isInParts ? Edge(store: MemoryStore(multipart: traits)) : Edge()
        try edge.push(Self.content)
        edge.store[Self.key] = Array(Self.content[..<40_000])
        if mounts { #expect(try edge.cache.provide(Self.digest)) } else { try push(edge, image(edge)) }
        #expect(edge.store[Self.key] == Self.content)
    }

    /// Bug: so did a node that had not the blob, though the manifest says how long it is.
    @Test func anImageWhoseLayerWasCutShortIsRefused() throws {
        let edge = try Edge()
        let image = try image(edge)
        _ = edge.seed(Array(Self.content[..<40_000]), named: Self.digest)
        for _ in 0..<2 { #expect(refusal(edge, image) == [Self.digest]) }
        // Its client asks again, and hears that it is missing.
        #expect(try edge.cache.blobSize(Self.digest) == nil)
        try edge.push(Self.content)
        #expect(edge.store[Self.key] == Self.content)
        try push(edge, image)
    }

    /// Bug: a node that had found an object damaged took a manifest for which it is needed.
    @Test func anImageWhoseLayerIsKnownToBeDamagedIsRefused() throws {
        let edge = try Edge()
        let image = try image(edge)
        var damaged = Self.content
        damaged[5] ^= 1
        _ = edge.seed(damaged, named: Self.digest)
        #expect(throws: EdgeError.self) { try edge.read(Self.digest) }
        edge.cache.waitForFills()
        #expect(refusal(edge, image) == [Self.digest])
        try edge.push(Self.content)
        try push(edge, image)
    }

    /// Bug: a client that named a wrong size made a healthy blob count as missing for everybody.
    @Test(arguments: [false, true])
    func aManifestMayBeWrongAboutALength(_ hasRoom: Bool) throws {
        let edge = try Edge(ceilingBytes: hasRoom ? 256 << 20 : 100_000)
        _ = edge.seed(Self.content)
        for _ in 0..<2 { try push(edge, imageManifest([Self.content], size: 7)) }
        #expect(try edge.cache.blobSize(Self.digest) == 100_000 && edge.cache.provide(Self.digest))
    }

    /// Each of them would have to be read.
    @Test func aManifestMayNotBeWrongAboutMany() throws {
        let edge = try Edge()
        let layers = (0..<9).map { pattern(1_000 + $0) }
        for layer in layers { _ = edge.seed(layer) }
        let error = #expect(throws: EdgeError.self) { try push(edge, imageManifest(layers, size: 7)) }
        guard case .manifestInvalid? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(edge.store.calls("GET") == 0)
        try push(edge, imageManifest(Array(layers.dropFirst()), size: 7))
    }

    // MARK: What it costs

    /// Nobody is asked about a blob more than once on its way: when it is pushed, where the store needs that, and for the manifest.
    @Test func aPushAsksTheOriginNoMoreForIt() throws {
        let edge = try Edge()
        try edge.push(Self.content)
        edge.store.intercept(nil)
        #expect(try edge.cache.blobSize(Self.digest) == 100_000)
        #expect(edge.store.calls == [])
        try push(edge, imageManifest([Self.content]))
        #expect(edge.store.calls("HEAD") == 1)
    }
}

private func blobKey(_ digest: Digest) -> String { "epoch/blobs/sha256/\(digest.hex)" }

private func imageManifest(_ layers: [[UInt8]], size: Int? = nil) -> [UInt8] {
    let layers = layers.map { #"{"mediaType":"x","digest":"\#(Digest(of: $0))","size":\#(size ?? $0.count)}"# }
    return Array(#"{"schemaVersion":2,"layers":[\#(layers.joined(separator: ","))]}"#.utf8)
}

private func indexManifest(_ children: [[UInt8]]) -> [UInt8] {
    let children = children.map { #"{"mediaType":"x","digest":"\#(Digest(of: $0))","size":\#($0.count)}"# }
    return Array(#"{"schemaVersion":2,"manifests":[\#(children.joined(separator: ","))]}"#.utf8)
}
