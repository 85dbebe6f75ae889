import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import Synchronization
import System
import TestDoubles
import Testing

/// Other processes change the file of a push while it comes in: what is stored is true, or nothing is.
@Suite struct SpoolWatchTests {
    private static let content = pattern(700_000)

    /// How it comes, and goes on to the origin.
    enum Way: CaseIterable {
        case oneRequest, session, sessionSentAhead, small

        var content: [UInt8] { self == .small ? Array(SpoolWatchTests.content[..<100_000]) : SpoolWatchTests.content }
        /// When some of it is in the file.
        var middle: Int { self == .small ? 80_000 : 350_000 }
    }

    enum Harm: CaseIterable {
        case overwritten, cut, cutToNothing
    }

    private func edge(_ way: Way, fileSystem: any FileSystem = LocalFileSystem()) throws -> Edge {
        let traits = MultipartTraits(
            thresholdBytes: 128 << 10,
            partBytes: 64 << 10,
            partsInFlight: 3,
            movesCheaply: false
        )
        return try Edge(store: MemoryStore(multipart: traits), fileSystem: fileSystem) {
            $0.sendsUnnamedParts = way == .sessionSentAhead
        }
    }

    private func open(_ edge: Edge, _ way: Way) throws -> UploadChunk {
        let length = Int64(way.content.count)
        switch way {
        case .oneRequest, .small:
            return try edge.cache.openBlob(library, as: Digest(of: way.content), length: length)
        case .session, .sessionSentAhead:
            return try edge.cache.openChunk(library, edge.cache.beginUpload(library).id, length: length)
        }
    }

    private func append(_ bytes: ArraySlice<UInt8>, to chunk: UploadChunk) {
        for start in stride(from: bytes.startIndex, to: bytes.endIndex, by: 10_000) {
            chunk.append(Array(bytes[start..<min(start + 10_000, bytes.endIndex)]).span)
        }
    }

    private func push(_ edge: Edge, _ way: Way, meanwhile: () throws -> Void = {}) throws {
        let chunk = try open(edge, way)
        append(way.content[..<way.middle], to: chunk)
        try meanwhile()
        append(way.content[way.middle...], to: chunk)
        try chunk.finish(as: Digest(of: way.content))
    }

    private func spool(_ folder: String) throws -> String {
        let files = LocalFileSystem()
        for place in ["incoming", "uploads"] {
            let directory = "\(folder)/cache/\(place)"
            let names = try files.entries(of: directory).map(\.name)
            if let name = names.first(where: { place == "incoming" || $0.hasSuffix(".data") }) {
                return "\(directory)/\(name)"
            }
        }
        throw CancellationError()
    }

    private func apply(_ harm: Harm, to path: String, _ content: [UInt8]) throws {
        let files = LocalFileSystem()
        switch harm {
        case .overwritten: try overwriteLater(path, at: 1000, [content[1000] ^ 1])
        case .cut: try files.truncate(files.open(path, .readWrite), to: 1000)
        case .cutToNothing: try files.truncate(files.open(path, .readWrite), to: 0)
        }
    }

    private func expectDamaged(_ push: () throws -> Void) {
        let error = #expect(throws: EdgeError.self) { try push() }
        guard case .uploadDamaged? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    private func expectPushed(_ edge: Edge, _ content: [UInt8]) throws {
        let digest = Digest(of: content)
        #expect(edge.store["epoch/blobs/sha256/\(digest.hex)"] == content)
        #expect(edge.store.keys.count == 1 && edge.store.uploads == [])
        #expect(try edge.read(digest) == content)
    }

    /// Bug: what was written over a push within one request was acknowledged, stored and served; a store that hashes what it is sent was
    /// blamed.
    @Test(arguments: Way.allCases, Harm.allCases)
    func whatIsChangedWithinARequestIsNotStored(_ way: Way, _ harm: Harm) throws {
        let edge = try edge(way)
        expectDamaged {
            try push(edge, way) { try apply(harm, to: spool(edge.folder.path), way.content) }
        }
        #expect(edge.store.keys == [] && edge.store.uploads == [])
        #expect(try edge.tier.size(of: Digest(of: way.content)) == nil)
        #expect(edge.tier.statistics.reservedBytes == 0)
        try push(edge, way)
        try expectPushed(edge, way.content)
    }

    /// Bug: what came within one of our own writes went unnoticed.
    @Test(arguments: Way.allCases, [2, 3])
    func whatIsOverwrittenWithinAWriteIsNotStored(_ way: Way, _ first: Int) throws {
        let files = FaultyFileSystem()
        let edge = try edge(way, fileSystem: files)
        let calls = Atomic(0)
        files.beforeCalls { called, path in
            guard called == "pwrite", path.contains("/incoming/") || path.hasSuffix(".data") else { return }
            guard calls.wrappingAdd(1, ordering: .relaxed).newValue == first else { return }
            try? overwriteLater(path, at: 1000, [way.content[1000] ^ 1])
        }
        expectDamaged { try push(edge, way) }
        #expect(edge.store.keys == [] && edge.store.uploads == [])
        #expect(try edge.tier.size(of: Digest(of: way.content)) == nil)
        try push(edge, way)
        try expectPushed(edge, way.content)
    }

    /// Bug: a push whose file was touched again and again was refused, though its bytes were right.
    @Test(arguments: Way.allCases)
    func whatIsTouchedAgainAndAgainIsStored(_ way: Way) throws {
        let files = FaultyFileSystem()
        let edge = try edge(way, fileSystem: files)
        files.beforeCalls { called, path in
            guard called == "pread", path.contains("/incoming/") || path.hasSuffix(".data") else { return }
            try? touchLater(path)
            _ = try? LocalFileSystem().open(path, .readWrite)
        }
        try push(edge, way) { try touchLater(spool(edge.folder.path)) }
        try expectPushed(edge, way.content)
        #expect(try edge.tier.verify(Digest(of: way.content)) == .verified)
    }

    @Test(arguments: Way.allCases)
    func whatIsTouchedWithinARequestIsStored(_ way: Way) throws {
        let edge = try edge(way)
        try push(edge, way) { try touchLater(spool(edge.folder.path)) }
        try expectPushed(edge, way.content)
        #expect(try edge.tier.verify(Digest(of: way.content)) == .verified)
    }

    /// Bug: nobody looked at it once its digest had proved right.
    @Test(arguments: [Way.oneRequest, .session, .small])
    func whatIsChangedWhileItIsSentIsNotStored(_ way: Way) throws {
        let edge = try edge(way)
        let (content, folder) = (way.content, edge.folder.path)
        let hasStruck = Atomic(false)
        let chunk = try open(edge, way)
        append(content[...], to: chunk)
        edge.store.intercept { _, call throws(StoreError) in
            guard ["PART", "PUT"].contains(call.operation) else { return }
            guard !hasStruck.exchange(true, ordering: .relaxed) else { return }
            // The end may still be in memory, and then be written over this.
            try? overwriteLater(spool(folder), at: 1000, [content[1000] ^ 1])
        }
        expectDamaged { try chunk.finish(as: Digest(of: content)) }
        edge.store.intercept(nil)
        #expect(try edge.cache.sizeAnew(Digest(of: content)) == nil, "a client that looks first sends it")
        #expect(try edge.tier.size(of: Digest(of: content)) == nil)
        try push(edge, way)
        try expectPushed(edge, content)
    }

    @Test func whatIsChangedOnceTheOriginHasItIsNotKept() throws {
        let edge = try edge(.session)
        let (content, folder) = (Self.content, edge.folder.path)
        edge.store.intercept { _, call throws(StoreError) in
            if call.operation == "COMPLETE" { try? overwriteLater(spool(folder), at: 5, [content[5] ^ 1]) }
        }
        try push(edge, .session)
        #expect(try edge.tier.size(of: Digest(of: content)) == nil)
        try expectPushed(edge, content)
    }

    /// The disk fails after somebody has written to the file: nothing of that goes on to the origin.
    @Test func whatIsChangedIsNotPassedOn() throws {
        let files = FaultyFileSystem()
        let edge = try edge(.oneRequest, fileSystem: files)
        expectDamaged {
            try push(edge, .oneRequest) {
                try overwriteLater(spool(edge.folder.path), at: 5, [Self.content[5] ^ 1])
                files.failCall(1, code: 28, lasting: true, of: ["pwrite"])  // ENOSPC
            }
        }
        #expect(edge.store.keys == [] && edge.store.uploads == [])
    }

    /// Bug: a push was refused when making room for it met an index that could not be written.
    @Test func anIndexThatCannotBeWrittenIsPassedBy() throws {
        let traits = MultipartTraits(
            thresholdBytes: 128 << 10,
            partBytes: 64 << 10,
            partsInFlight: 3,
            movesCheaply: false
        )
        let edge = try Edge(store: MemoryStore(multipart: traits), ceilingBytes: 2_500_000)
        edge.tier.waitUntilSettled()
        let others = (1...3).map { pattern(600_000, seed: $0) }
        for other in others { try edge.push(other) }
        #expect(failNextMetaWrite(of: edge.folder.path + "/cache/index"))
        try push(edge, .oneRequest)
        for content in others + [Self.content] { #expect(try edge.read(Digest(of: content)) == content) }
        #expect(edge.store.uploads == [])
    }
}
