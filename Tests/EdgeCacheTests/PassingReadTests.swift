import EdgeCache
import OCI
import ObjectStorage
import TestDoubles
import Testing
import Threading

/// Who reads what the disk has no room for takes no more transfers than may be, however they come to need one.
@Suite struct PassingReadTests {
    private static let content = noise(8 * mebibyte)

    private func edge(limit: Int, _ files: FaultyFileSystem = FaultyFileSystem()) throws -> Edge {
        try Edge(ceilingBytes: 4 << 20, fileSystem: files) {
            smallParts(&$0)
            $0.passingReadLimit = limit
        }
    }

    private func isRefused(_ body: () throws -> Void) -> Bool {
        let error = #expect(throws: EdgeError.self) { try body() }
        if case .busy? = error { return true } else { return false }
    }

    /// Bug: who came when another read of the same blob was past its start had a transfer beyond the limit.
    @Test func readsOfOneBlobAfterEachOtherTakeATransferEach() throws {
        let edge = try edge(limit: 2)
        let digest = edge.seed(Self.content)
        let clients = try (0..<2).map { _ in
            let client = try #require(try edge.cache.blob(digest))
            #expect(try bytes(0..<mebibyte, of: client) == Array(Self.content[..<mebibyte]))
            return client
        }
        #expect(isRefused { _ = try edge.cache.blob(digest) })
        #expect(isRefused { _ = try edge.cache.blob(digest, near: 100) })
        for client in clients {
            #expect(try contents(client, from: Int64(mebibyte)) == Array(Self.content[mebibyte...]))
        }
    }

    @Test func readsThatBeginTogetherTakeOneTransfer() throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        let clients = try (0..<8).map { _ in try #require(try edge.cache.blob(digest)) }
        let right = Monitor(0)
        for client in clients {
            spawnThread(name: "client") {
                let read = try? contents(client)
                right.update { $0 += read == Self.content ? 1 : -100 }
            }
        }
        #expect(right.wait { $0 == 8 || $0 < 0 ? $0 : nil } == 8)
        #expect(edge.store.calls("GET") == 2, "the fill that does not fit, and the one for all")
    }

    /// Bug: who was left behind by others went on with a transfer beyond the limit.
    @Test func aSlowReaderIsWaitedForWhereThereIsNoOtherTransfer() throws {
        let edge = try edge(limit: 1)
        let digest = edge.seed(Self.content)
        let slow = try #require(try edge.cache.blob(digest))
        let fast = try #require(try edge.cache.blob(digest))
        let read = Monitor<[UInt8]?>(nil)
        spawnThread(name: "fast") {
            let bytes = (try? contents(fast)) ?? []
            read.update { $0 = bytes }
        }
        // Long enough for it to be through, were it not to wait.
        #expect(read.wait(until: .after(.milliseconds(500))) { $0 } == nil)
        #expect(try contents(slow) == Self.content)
        #expect(read.wait { $0 } == Self.content)
        #expect(edge.store.calls("GET") == 2)
    }

    /// Bug: who read along with a fill that the disk failed went on with a transfer beyond the limit.
    @Test func aReaderOfAFillThatTheDiskFailsTakesATransfer() throws {
        let files = FaultyFileSystem()
        let edge = try edge(limit: 1, files)
        let passing = try #require(try edge.cache.blob(edge.seed(Self.content)))
        let small = Array(Self.content[..<(2 * mebibyte)])
        let gate = Gate()
        edge.store.hold(from: mebibyte / 2, at: gate)
        let filling = try #require(try edge.cache.blob(edge.seed(small)))
        gate.waitForArrivals()
        files.failCall(1, code: 28, lasting: true)  // ENOSPC
        gate.open()
        #expect(isRefused { _ = try contents(filling) })
        #expect(try contents(passing) == Self.content)
    }
}
