import FaultProxy
import Foundation
import Testing

/// A process that is killed goes on with the uploads that it has acknowledged.
@Suite("Uploads across restarts")
struct UploadRestartTests {
    private static let content = noise(3_000_000, seed: 77)
    private static let digest = sha256(content)

    private func patch(
        _ forebay: Forebay,
        _ session: String,
        _ range: Range<Int>,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let response = try forebay.endpoint.request(
            "PATCH",
            session,
            ["Content-Range": "\(range.lowerBound)-\(range.upperBound - 1)"],
            body: .bytes(Array(Self.content[range]))
        )
        #expect(response.status == 202, "\(response.text)", sourceLocation: sourceLocation)
        return try #require(response.location, sourceLocation: sourceLocation)
    }

    @Test(arguments: OriginKind.allCases, [true, false])
    func aSessionGoesOn(origin: OriginKind, isKilled: Bool) throws {
        try withForebay(origin) { forebay in
            var session = try Repository(forebay).openUpload()
            var offset = 0
            for end in [1_000, 900_000, 2_500_000] {
                session = try patch(forebay, session, offset..<end)
                offset = end
                // A request that the end of the process cuts off.
                let cut = try Connection(to: forebay.endpoint)
                try cut.sendHead("PATCH", session, body: .bytes(Self.content))
                try cut.socket.send(Self.content[..<500_000])
                if isKilled {
                    forebay.kill()
                } else {
                    cut.socket.shutDown()
                    try forebay.stop()
                }
                try forebay.start()
                let status = try forebay.endpoint.request("GET", session)
                #expect(status.status == 204)
                #expect(status["Range"] == "0-\(end - 1)")
                session = try #require(status.location)
            }
            let response = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(Self.digest)", to: session),
                ["Content-Range": "\(offset)-\(Self.content.count - 1)"],
                body: .bytes(Array(Self.content[offset...]))
            )
            #expect(response.status == 201, "\(response.text)")
            #expect(try same(forebay.origin.object("epoch/blobs/sha256/\(sha256Hex(Self.content))"), Self.content))
            forebay.kill()
            try forebay.start()
            #expect(try forebay.endpoint.request("GET", session).status == 404, "a finished session stays gone")
        }
    }

    @Test func aSessionExpiresWhileNobodyRuns() throws {
        try withForebay(flags: ["--upload-expiry", "1s"]) { forebay in
            let session = try patch(forebay, Repository(forebay).openUpload(), 0..<100_000)
            forebay.kill()
            let folder = forebay.cacheDirectory + "/uploads"
            for name in try FileManager.default.contentsOfDirectory(atPath: folder) where !name.contains(".") {
                let path = "\(folder)/\(name)"
                // It holds more than text, so each byte has to stay one.
                let record = try String(contentsOfFile: path, encoding: .isoLatin1)
                let aged = record.replacing(/used [0-9]+/, with: "used 1")
                try #require(aged.data(using: .isoLatin1)).write(to: URL(fileURLWithPath: path))
            }
            try forebay.start()
            #expect(try forebay.endpoint.request("GET", session).status == 404)
            try poll(for: "the upload's files to go") {
                try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty ? () : nil
            }
        }
    }
}
