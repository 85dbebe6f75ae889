import EdgeCache
import Glibc
import HTTPClient
import Hashing
import OCI
import TestDoubles
import Testing

/// What a client is told when the cache's disk fails.
@Suite struct FailingDiskTests {
    /// Bug: that the disk is full was said without what to do, and with a path of the server's; of another failure, that it is not supported.
    @Test(arguments: [(ENOSPC, 507, "free space"), (EIO, 500, "its log says why")])
    func aPushIsToldWhatToDoAndNoPath(_ code: Int32, _ status: Int, _ text: String) throws {
        let files = FaultyFileSystem()
        // No upload may go past the disk.
        let node = try MonitoredNode(fileSystem: files, adjust: { $0.passingUploadLimit = 0 })
        let content = pattern(100_000)
        files.failCall(1, code: code, lasting: true, of: ["pwrite"])
        let path = "/v2/a/blobs/uploads/?digest=\(Digest(of: content))"
        let (answer, body) = try node.request("POST", path, body: content)
        #expect(answer.status == status && body.contains("BLOB_UPLOAD_INVALID"), "\(answer.status) \(body)")
        #expect(body.contains(text) && !body.contains(node.folder.path), "\(body)")
    }
}
