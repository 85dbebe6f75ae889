import Glibc
import HTTPServer
import System
import TestDoubles
import Testing
import Threading

@Suite struct SentFileTests {
    private static let size = 48 << 20
    private let folder = TemporaryFolder()
    private let files = LocalFileSystem()

    /// A server without an idle timeout, and a file that no socket's buffers hold.
    private func withSlowReaders(
        _ count: Int,
        isInMemory: Bool = true,
        _ body: ([RawClient], ScriptedHandler, File) throws -> Void
    ) throws {
        let file = try files.open(folder.path + "/sent", .create)
        for offset in stride(from: 0, to: Self.size, by: 1 << 20) {
            try files.write([UInt8](repeating: 7, count: 1 << 20).span, to: file, at: Int64(offset))
        }
        if !isInMemory {
            try files.synchronize(file)
            posix_fadvise(file.descriptor, 0, 0, POSIX_FADV_DONTNEED)
        }
        try withServer(ScriptedHandler(file: file)) {
            $0.idleTimeoutSeconds = 0
        } _: { server, handler in
            let clients = try (0..<count).map { _ in try RawClient(port: server.port) }
            for client in clients {
                try client.send("GET /whole-file HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try client.status() == 200)
            }
            try body(clients, handler, file)
        }
    }

    /// Bug: libmicrohttpd took the end of the file for a client that is slow, and the client waited until it was timed out.
    @Test func aFileThatIsCutShortBreaksItsReaders() throws {
        try withSlowReaders(3) { clients, handler, file in
            // One leaves, so that the others change places.
            clients[0].close()
            #expect(handler.waitForEnds(1)?.first?.isBroken == false)
            try files.truncate(file, to: 1 << 20)
            for client in clients.dropFirst() {
                #expect(throws: RawClient.Failure.self) { try client.rest(Self.size) }
                #expect(!client.isStuck)
            }
            let ends = try #require(handler.waitForEnds(3))
            #expect(ends.dropFirst().allSatisfy { $0.isBroken && !$0.isComplete && $0.bodyBytes < Self.size })
        }
    }

    /// Bugs: what was not in memory, and is read by threads for that reason, had a good end; and so had what was written to by somebody who put
    /// the time of modification back. What was written to a quarter of a second before the end of its answer had a good end as well.
    @Test(arguments: [true, false])
    func aFileThatIsWrittenToBreaksItsReaders(isInMemory: Bool) throws {
        try withSlowReaders(1, isInMemory: isInMemory) { clients, handler, file in
            try overwriteLater(file.path, at: Int64(Self.size) - 100)
            #expect(throws: RawClient.Failure.self) { try clients[0].rest(Self.size) }
            #expect(!clients[0].isStuck)
            #expect(handler.waitForEnds(1)?.first?.isBroken == true)
        }
    }

    private func withSmallFile(_ body: (Server, ScriptedHandler, File) throws -> Void) throws {
        let file = try files.open(folder.path + "/sent", .create)
        try files.write([UInt8](repeating: 7, count: 100_000).span, to: file, at: 0)
        try withServer(ScriptedHandler(file: file)) { try body($0, $1, file) }
    }

    /// Bug: an answer that had to wait before its first byte went into the socket was sent without another look at the file.
    @Test func aFileThatIsWrittenToBeforeItsFirstByteIsSentBreaksItsReader() throws {
        try withSmallFile { server, handler, file in
            let client = try RawClient(port: server.port)
            try client.sendUntilStuck("GET /small-part HTTP/1.1\r\nHost: a\r\n\r\n")
            let ended = handler.seen.withLock { $0.ends.count }
            try overwriteLater(file.path, at: 50)
            #expect(throws: RawClient.Failure.self) { try client.rest(.max) }
            #expect(!client.isStuck)
            let ends = try #require(handler.waitForEnds(ended + 1))
            #expect(ends.count == ended + 1 && ends.last?.isBroken == true)
            #expect(ends.dropLast().allSatisfy { $0.isComplete })
        }
    }

    /// Bug: what was written over a file before its answer began was not noticed, as the answer looked only then at what the file was.
    @Test func aFileThatWasWrittenToBeforeItsAnswerIsNotSent() throws {
        try withSmallFile { server, _, _ in
            let client = try RawClient(port: server.port)
            try client.send("GET /overwritten-file HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try client.status() == 503)
        }
    }

    /// Who reads a blob that is deleted meanwhile gets it all.
    @Test func aFileThatLosesItsNameIsSentToItsEnd() throws {
        try withSlowReaders(2) { clients, handler, file in
            try files.remove(file.path)
            for client in clients { #expect(try client.rest(Self.size) > Self.size) }
            #expect(try #require(handler.waitForEnds(2)).allSatisfy { !$0.isBroken && $0.isComplete })
        }
    }
}
