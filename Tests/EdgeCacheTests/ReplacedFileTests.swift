import DiskTier
import EdgeCache
import Glibc
import Hashing
import OCI
import System
import TestDoubles
import Testing

/// Something else in the place of a file must not hold up who reads it: opening a pipe waits for its other end.
@Suite(.timeLimit(.minutes(20))) struct ReplacedFileTests {
    private func makePipe(at path: String) throws {
        try LocalFileSystem().remove(path)
        try #require(mkfifo(path, 0o600) == 0)
    }

    @Test func aClientGetsTheTrueBytes() throws {
        let edge = try Edge()
        let content = pattern(400_000)
        let digest = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        let path = "\(edge.tier.directory)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        try makePipe(at: path)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        #expect(edge.tier.statistics.damagedBlobs == 1)
        #expect(try LocalFileSystem().status(at: path)?.isRegular == true, "it was stored again")
        #expect(try edge.read(digest) == content)
        #expect(edge.store.calls("GET") == 2)
    }

    /// Bug: the first answer from a file that was hashed again took its descriptor with it, and the others ended the program.
    @Test func rangesOfATouchedFileShareIt() throws {
        let edge = try Edge()
        let content = pattern(9_000_000)
        let digest = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        let path = "\(edge.tier.directory)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        try #require(chmod(path, 0o600) == 0)
        let found = try (0..<3).map { _ in try #require(try edge.cache.blob(digest)) }
        for one in found.prefix(2) {
            guard case .file(_, let status) = try one.forRanges() else {
                Issue.record("no file")
                continue
            }
            #expect(status.size == 9_000_000)
        }
        #expect(try contents(found[2]) == content)
    }

    /// Bug: what was overwritten between the hash and the answer with a range was sent, as the answer did not know what had been hashed.
    @Test func whatIsOverwrittenAfterTheHashIsNotWhatWasHashed() throws {
        let edge = try Edge()
        let content = pattern(9_000_000)
        let digest = edge.seed(content)
        #expect(try edge.read(digest) == content)
        edge.cache.waitForFills()
        let path = "\(edge.tier.directory)/blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)"
        try touchLater(path)
        let found = try #require(try edge.cache.blob(digest))
        #expect(try contents(found) == content)
        try overwriteLater(path)
        guard case .file(let file, let status) = try found.forRanges() else {
            Issue.record("no file")
            return
        }
        #expect(try !status.stillDescribes(LocalFileSystem().status(of: file)))
    }

    /// The record of a session, its bytes, and what it has begun at the origin.
    @Test(arguments: ["", ".data", ".remote"])
    func anUploadIsUnknownAndTheOthersGoOn(_ suffix: String) throws {
        let folder = TemporaryFolder()
        let store = MemoryStore()
        let (lost, kept): (String, String)
        do {
            let edge = try Edge(store: store, folder: folder)
            func begin() throws -> String {
                let id = try edge.cache.beginUpload(library).id
                let chunk = try edge.cache.openChunk(library, id, length: 100_000)
                chunk.append(pattern(100_000).span)
                _ = try chunk.keep()
                return id
            }
            (lost, kept) = (try begin(), try begin())
        }
        let path = folder.path + "/cache/uploads/"
        try makePipe(at: path + lost + suffix)
        let edge = try Edge(store: store, folder: folder)
        if suffix != ".remote" {
            #expect(throws: EdgeError.self) { try edge.cache.openChunk(library, lost) }
            #expect(try LocalFileSystem().entries(of: path).allSatisfy { $0.name.hasPrefix(kept) })
        }
        #expect(try edge.cache.uploadStatus(library, kept).offset == 100_000)
    }
}
