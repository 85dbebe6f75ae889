import EdgeCache
import Hashing
import OCI
import TestDoubles
import Testing

/// A client gets bytes of one object, also where that is replaced at the origin while several transfers bring them.
@Suite struct ReplacedObjectTests {
    private static let content = noise(8 * mebibyte)

    /// What a client has before the object is replaced.
    private static let start = 0..<mebibyte / 16

    private func edge(ceilingBytes: Int64 = 4 << 20, files: FaultyFileSystem = FaultyFileSystem()) throws -> Edge {
        try Edge(ceilingBytes: ceilingBytes, fileSystem: files, smallParts)
    }

    private static let damaged = {
        var bytes = content
        bytes[100] ^= 1
        return bytes
    }()

    private func answer(_ edge: Edge, _ digest: Digest, _ range: Range<Int64>? = nil) throws -> BlobContent {
        let content = try #require(try edge.cache.blob(digest))
        try content.begin(range ?? 0..<content.size) { true }
        return content
    }

    /// Reads what it gets.
    private func readToEnd(_ content: BlobContent) { _ = try? contents(content) }

    private func isRefused(_ body: () throws -> Void) -> Bool {
        let error = #expect(throws: EdgeError.self) { try body() }
        if case .originChanged? = error { return true } else { return false }
    }

    /// Bug: a slow client that was left behind went on with a transfer of another object, and its whole ended cleanly.
    @Test func aSlowReaderDoesNotGoOnWithAnotherObject() throws {
        let edge = try edge()
        let digest = edge.seed(Self.damaged, named: Digest(of: Self.content))
        let (slow, fast) = (try answer(edge, digest), try answer(edge, digest))
        #expect(try bytes(Self.start, of: slow) == Array(Self.damaged[Self.start]))
        readToEnd(fast)
        _ = edge.seed(Self.content)
        #expect(isRefused { _ = try contents(slow, from: Int64(Self.start.upperBound)) })
        #expect(try edge.read(digest) == Self.content)
    }

    @Test func aSlowReaderGoesOnWithTheSameObject() throws {
        let edge = try edge()
        let digest = edge.seed(Self.content)
        let (slow, fast) = (try answer(edge, digest), try answer(edge, digest))
        #expect(try bytes(Self.start, of: slow) == Array(Self.content[Self.start]))
        readToEnd(fast)
        let rest = Array(Self.content[Self.start.upperBound...])
        #expect(try contents(slow, from: Int64(Self.start.upperBound)) == rest)
    }

    /// Bug: what a fill had given out before its disk failed was completed with the bytes of another object.
    @Test func whatAFillGaveIsNotCompletedFromAnotherObject() throws {
        let files = FaultyFileSystem()
        let edge = try edge(ceilingBytes: 256 << 20, files: files)
        let digest = edge.seed(Self.damaged, named: Digest(of: Self.content))
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        let client = try answer(edge, digest)
        #expect(try bytes(Self.start, of: client) == Array(Self.damaged[Self.start]))
        gate.waitForArrivals()
        _ = edge.seed(Self.content)
        files.failCall(1, code: 28, lasting: true)  // ENOSPC
        gate.open()
        #expect(isRefused { _ = try contents(client, from: Int64(Self.start.upperBound)) })
        #expect(try edge.read(digest) == Self.content)
    }

    /// Bug: for seconds, clients were told the size of an object that had been replaced, and got so much of the new one cleanly, or nothing.
    @Test(arguments: [6, 10], [false, true])
    func aSizeThatIsNoLongerTrueIsForgotten(mebibytes: Int, isRange: Bool) throws {
        let edge = try edge()
        let other = Array((Self.content + noise(2 * mebibyte)).prefix(mebibytes * mebibyte))
        let digest = edge.seed(other, named: Digest(of: Self.content))
        if isRange {
            #expect(try bytes(7..<100, of: answer(edge, digest, 7..<100)) == Array(other[7..<100]))
        } else {
            #expect(throws: EdgeError.self) { try edge.read(digest) }
        }
        _ = edge.seed(Self.content)
        // Only the transfer shows that a size of a moment ago is wrong.
        if isRange { #expect(isRefused { _ = try edge.read(digest) }) }
        #expect(try edge.read(digest) == Self.content)
    }

    @Test func whoWasToldAnotherSizeHasATransferOfItsOwn() throws {
        let edge = try edge()
        let digest = edge.seed(Array(Self.content[..<(6 * mebibyte)]), named: Digest(of: Self.content))
        let before = try answer(edge, digest)
        _ = edge.seed(Self.content)
        edge.time.advance(.seconds(11))
        let now = try answer(edge, digest)
        #expect(isRefused { _ = try contents(before) })
        #expect(try contents(now) == Self.content)
    }
}
