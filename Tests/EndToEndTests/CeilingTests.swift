import FaultProxy
import Foundation
import Testing

@Suite("The cache's byte ceiling")
struct CeilingTests {
    private static let ceiling = 64 << 20

    @Test(arguments: OriginKind.allCases)
    func theDiskNeverHoldsMore(origin: OriginKind) throws {
        try withForebay(origin, cacheSize: "64MiB") { forebay in
            let repository = Repository(forebay)
            let endpoint = forebay.endpoint
            let sizes = Array(repeating: 8 << 20, count: 20) + Array(repeating: 1 << 20, count: 40)
            let digests = sizes.enumerated().map { sha256(noise($1, seed: UInt64($0) + 1_000)) }
            let largest = try largestAllocation(below: forebay.cacheDirectory) {
                for (index, size) in sizes.enumerated() {
                    try repository.push(blob: noise(size, seed: UInt64(index) + 1_000))
                }
                for digest in digests.shuffled() {
                    let response = try repository.request("GET", "blobs/\(digest)")
                    #expect(sha256(response.body) == digest)
                }
                // Several at once want room for more than there is.
                let answers = try inParallel(10) { index in
                    let response = try Repository(endpoint).request("GET", "blobs/\(digests[index])")
                    return sha256(response.body)
                }
                #expect(answers == Array(digests[..<10]))
            }
            #expect(largest <= Self.ceiling, "\(largest) bytes")
            #expect(largest >= 8 << 20, "a cache that keeps nothing keeps below any ceiling")
        }
    }

    @Test(arguments: OriginKind.allCases)
    func whatCannotFitStreamsThrough(kind: OriginKind) throws {
        let origin = try kind.make()
        let content = noise(80 << 20, seed: 51)
        let digest = sha256(content)
        // Put there by a node that has the room.
        try withForebay(origin) { try Repository($0).push(blob: content) }
        try withForebay(origin, cacheSize: "64MiB") { forebay in
            let repository = Repository(forebay)
            let largest = try largestAllocation(below: forebay.cacheDirectory) {
                for _ in 0..<2 {
                    #expect(try same(repository.request("GET", "blobs/\(digest)").body, content))
                }
                let range = try repository.request("GET", "blobs/\(digest)", ["Range": "bytes=70000000-70000999"])
                #expect(range.status == 206)
                #expect(same(range.body, Array(content[70_000_000..<70_001_000])))
            }
            #expect(largest <= Self.ceiling, "\(largest) bytes")
        }
    }

    /// Bug: a damaged blob's file went from the books with its fill, while each reader that had stopped in it kept it on the disk.
    @Test func whatIsGoneAndStillReadCounts() throws {
        let origin = try DirectoryOrigin()
        try withForebay(origin, cacheSize: "64MiB") { forebay in
            let path = Repository(forebay).path("blobs/")
            let readers = try (0..<16).map { number in
                var content = noise(12 << 20, seed: 6_000 + UInt64(number))
                let digest = sha256(content)
                content[content.count - 1] ^= 1
                try origin.write(content, to: "epoch/blobs/sha256/\(digest.dropFirst("sha256:".count))")
                let reader = try Connection(to: forebay.endpoint, receiveBuffer: 4_096)
                try reader.sendHead("GET", path + digest, body: .none)
                #expect(try reader.readHead().status == 200)
                return reader
            }
            try poll(for: "the fills to end") {
                try forebay.endpoint.request("GET", "/metrics").text.contains("\nforebay_fills_running 0\n") ? () : nil
            }
            let process = try #require(forebay.processIdentifier)
            let held = try withExtendedLifetime(readers) { try deletedBytes(heldBy: process) }
            #expect((12 << 20...Self.ceiling).contains(held), "\(held) bytes")
        }
    }

    /// Of files that have no name any more.
    private func deletedBytes(heldBy process: Int32) throws -> Int {
        let folder = "/proc/\(process)/fd/"
        return try FileManager.default.contentsOfDirectory(atPath: folder).reduce(0) { sum, descriptor in
            var status = stat()
            guard stat(folder + descriptor, &status) == 0, status.st_nlink == 0 else { return sum }
            return sum + Int(status.st_blocks) * 512
        }
    }

    /// Bug: what the records of open uploads took was in no books, and each restart let in some more.
    @Test(arguments: OriginKind.allCases)
    func openUploadsTakeNoMoreOverRestarts(origin: OriginKind) throws {
        try withForebay(origin, cacheSize: "64MiB", flags: ["--inline-limit", "1MiB"]) { forebay in
            let (repository, endpoint) = (Repository(forebay), forebay.endpoint)
            let content = noise(12 << 20, seed: 54)
            var sessions: [(path: String, size: Int)] = []
            let largest = try largestAllocation(below: forebay.cacheDirectory) {
                for round in 0..<4 {
                    for size in Array(repeating: 12 << 20, count: 6) + Array(repeating: 1_000_000, count: 10) {
                        let session = try repository.openUpload()
                        let bytes = RequestBody.bytes(Array(content[..<size]))
                        let response = try endpoint.request("PATCH", session, body: bytes)
                        #expect([202, 507].contains(response.status), "\(response.text)")
                        if let path = response.location, response.status == 202 { sessions.append((path, size)) }
                    }
                    if round.isMultiple(of: 2) { forebay.kill() } else { try forebay.stop() }
                    try forebay.start()
                }
            }
            #expect(largest <= Self.ceiling, "\(largest) bytes")
            #expect(largest >= 48 << 20, "and what fits is kept")
            let known = try sessions.filter { session in
                let status = try endpoint.request("GET", session.path)
                #expect([204, 404].contains(status.status))
                if status.status == 204 { #expect(status["Range"] == "0-\(session.size - 1)") }
                return status.status == 204
            }
            #expect(known.count >= 5 && known.count < sessions.count, "\(known.count) of \(sessions.count)")
            for session in known {
                let digest = sha256(Array(content[..<session.size]))
                let response = try endpoint.request("PUT", adding("digest=\(digest)", to: session.path))
                #expect(response.status == 201, "\(response.text)")
            }
            let key = "epoch/blobs/sha256/\(sha256Hex(content))"
            #expect(try same(forebay.origin.object(key), content))
        }
    }

    /// The bytes of a push are verified before the origin gets them, and that takes room.
    @Test func aPushThatCannotFitIsRefusedClearly() throws {
        try withForebay(cacheSize: "64MiB") { forebay in
            let repository = Repository(forebay)
            let content = noise(80 << 20, seed: 52)
            let path = repository.path("blobs/uploads/?digest=\(sha256(content))")
            for body in [RequestBody.bytes(content), .chunked([content])] {
                let largest = try largestAllocation(below: forebay.cacheDirectory) {
                    let response = try forebay.endpoint.request("POST", path, body: body)
                    #expect([201, 507].contains(response.status))
                    #expect(response.status == 201 || response.text.contains("cache-size"), "\(response.text)")
                }
                #expect(largest <= Self.ceiling, "\(largest) bytes")
            }
            try repository.push(blob: noise(8 << 20, seed: 53))
        }
    }
}
