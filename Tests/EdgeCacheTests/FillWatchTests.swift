import DiskTier
import EdgeCache
import Hashing
import OCI
import System
import TestDoubles
import Testing
import Threading

/// Other processes write to the file of a fill: its clients get the blob's bytes, or a broken connection.
@Suite struct FillWatchTests {
    private let content = noise(4 * mebibyte)
    private let files = FaultyFileSystem()

    private func edge() throws -> (Edge, Digest) {
        let edge = try Edge(fileSystem: files) {
            smallParts(&$0)
            $0.fillPartsInFlight = 1
        }
        return (edge, edge.seed(content))
    }

    /// Changes a byte before each of those calls, from the n-th on.
    private func overwrite(before operation: String, from first: Int, at offset: Int) {
        let calls = Monitor(0)
        files.beforeCalls { [content] called, path in
            guard called == operation, path.contains("/incoming/"), !path.hasSuffix(".parts") else { return }
            let number = calls.update { calls in
                calls += 1
                return calls
            }
            if number >= first { try? overwriteLater(path, at: Int64(offset), [content[offset] ^ 1]) }
        }
    }

    private func expectWell(_ edge: Edge, _ digest: Digest) throws {
        files.beforeCalls { _, _ in }
        edge.cache.waitForFills()
        #expect(edge.cache.fillStatistics.damaged == 0)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(try edge.tier.verify(digest) == .verified)
    }

    /// Bug: what came within one of our own writes went unnoticed.
    @Test(arguments: [2, 5, 1000])
    func whatIsOverwrittenWithinAWriteIsNotServed(_ first: Int) throws {
        let (edge, digest) = try edge()
        overwrite(before: "pwrite", from: first, at: 1000)
        #expect((try? edge.read(digest)) ?? content == content)
        try expectWell(edge, digest)
    }

    /// Bug: a range that was read from it just then went out.
    @Test func whatIsOverwrittenBeforeItIsReadIsNotServed() throws {
        let (edge, digest) = try edge()
        let gate = Gate()
        edge.store.hold(from: 3 * mebibyte, at: gate)
        let opened = try #require(try edge.cache.blob(digest))
        #expect(try bytes(0..<500, of: opened) == Array(content[..<500]))
        gate.waitForArrivals()
        overwrite(before: "pread", from: 1, at: 1000)
        #expect(try edge.read(digest, 900..<1100) == Array(content[900..<1100]))
        gate.open()
        #expect(throws: EdgeError.self) { _ = try contents(opened, from: 500) }
        try expectWell(edge, digest)
    }

    /// Bug: who reads slowly got what was written over the file after it had proved right.
    @Test(arguments: [0, 1000])
    func whatIsOverwrittenOnceItHasProvedRightIsNotServed(_ start: Int) throws {
        let (edge, digest) = try edge()
        let end = start == 0 ? content.count : content.count - 1
        let opened = try #require(try edge.cache.blob(digest, near: Int64(start)))
        try opened.begin(Int64(start)..<Int64(end))
        #expect(try bytes(start..<start + 500, of: opened) == Array(content[start..<start + 500]))
        edge.cache.waitForFills()
        #expect(try edge.tier.size(of: digest) == Int64(content.count))
        let path = "\(edge.folder.path)/cache/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        try overwriteLater(path, at: 2_000_000, [content[2_000_000] ^ 1])
        if case .stream(let stream, _) = opened { #expect(stream.countInFile(from: 500) == 0) }
        #expect(throws: EdgeError.self) { _ = try bytes(start + 500..<end, of: opened) }
        try expectWell(edge, digest)
    }
}
