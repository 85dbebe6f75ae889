import FaultProxy
import Foundation
import Testing

@Suite("Blobs over raw HTTP")
struct BlobTests {
    static let content = noise(100_000, seed: 7)

    @Test(arguments: OriginKind.allCases)
    func aBlobComesBackByteForByte(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: Self.content)
            for size in [0, 1, 16_384, 16_385, 3_000_000] {
                let bytes = noise(size, seed: UInt64(size) + 1)
                let other = try repository.push(blob: bytes)
                let response = try repository.request("GET", "blobs/\(other)")
                #expect(response.status == 200)
                #expect(response["Content-Length"] == "\(size)")
                #expect(response["Docker-Content-Digest"] == other)
                #expect(same(response.body, bytes), "\(size) bytes")
            }
            let head = try repository.request("HEAD", "blobs/\(digest)")
            #expect(head.status == 200)
            #expect(head["Content-Length"] == "100000")
            #expect(head["Docker-Content-Digest"] == digest)
            #expect(head["Content-Type"] == "application/octet-stream")
        }
    }

    @Test func aHeadResponseHasNoBody() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: Self.content)
            let connection = try Connection(to: forebay.endpoint)
            // A body after any of these would be read as the next response's head.
            for (path, status) in [
                ("blobs/\(digest)", 200), ("blobs/\(sha256([1]))", 404), ("manifests/none", 404),
                ("manifests/\(sha256([1]))", 404),
            ] {
                #expect(try connection.request("HEAD", repository.path(path)).status == status)
                #expect(try connection.request("GET", "/v2/").status == 200)
            }
        }
    }

    @Test(arguments: OriginKind.allCases, [10_000, 200_000])
    func rangesAreServed(origin: OriginKind, size: Int) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let content = noise(size, seed: 9)
            let digest = try repository.push(blob: content)
            let last = size - 1
            let cases: [(header: String, range: ClosedRange<Int>)] = [
                ("500-1499", 500...1499), ("500-", 500...last), ("-500", (size - 500)...last), ("0-", 0...last),
                ("0-0", 0...0), ("\(last)-", last...last), ("2000-\(size + 5_000)", 2000...last),
                ("-\(size + 1)", 0...last),
            ]
            let connection = try Connection(to: forebay.endpoint)
            for (header, range) in cases {
                let response = try connection.request(
                    "GET",
                    repository.path("blobs/\(digest)"),
                    ["Range": "bytes=\(header)"]
                )
                #expect(response.status == 206, "\(header)")
                #expect(response["Content-Range"] == "bytes \(range.lowerBound)-\(range.upperBound)/\(size)")
                #expect(response["Content-Length"] == "\(range.count)", "\(header)")
                #expect(response["Docker-Content-Digest"] == digest, "\(header)")
                #expect(same(response.body, Array(content[range])), "\(header)")
            }
            for header in ["\(size)-", "\(size + 5_000)-\(size + 9_000)"] {
                let response = try connection.request(
                    "GET",
                    repository.path("blobs/\(digest)"),
                    ["Range": "bytes=\(header)"]
                )
                #expect(response.status == 416, "\(header)")
                #expect(response["Content-Range"] == "bytes */\(size)", "\(header)")
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func rangesOfAColdBlobAreServed(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let content = noise(3_000_000, seed: 10)
            let digest = try repository.push(blob: content)
            for (header, range) in [
                ("2000000-2000999", 2_000_000...2_000_999), ("-1", 2_999_999...2_999_999), ("0-", 0...2_999_999),
            ] {
                try forebay.restart(wipingCache: true)
                let response = try repository.request("GET", "blobs/\(digest)", ["Range": "bytes=\(header)"])
                #expect(response.status == 206, "\(header)")
                #expect(response["Content-Range"] == "bytes \(range.lowerBound)-\(range.upperBound)/3000000")
                #expect(same(response.body, Array(content[range])), "\(header)")
            }
        }
    }

    @Test func aMalformedRangeIsIgnored() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: Self.content)
            for header in ["bytes", "bytes=", "bytes=x-y", "bytes=5-2", "lines=1-2", "bytes=--5"] {
                let response = try repository.request("GET", "blobs/\(digest)", ["Range": header])
                #expect(response.status == 200, "\(header)")
                #expect(same(response.body, Self.content), "\(header)")
            }
        }
    }

    @Test func bytesAreNeverEncoded() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let content = [UInt8](repeating: 0x61, count: 500_000)
            let digest = try repository.push(blob: content)
            let response = try repository.request("GET", "blobs/\(digest)", ["Accept-Encoding": "gzip, zstd, br"])
            #expect(response["Content-Encoding"] == nil)
            #expect(same(response.body, content))
        }
    }

    @Test(arguments: OriginKind.allCases)
    func anAbsentBlobIsUnknown(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            expectError(try repository.request("GET", "blobs/\(sha256([1, 2]))"), 404, "BLOB_UNKNOWN")
            expectError(try repository.request("GET", "blobs/\(sha512([1, 2]))"), 404, "BLOB_UNKNOWN")
            #expect(try repository.request("HEAD", "blobs/\(sha256([1, 2]))").status == 404)
        }
    }

    @Test func aMalformedDigestIsInvalid() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let hex = sha256Hex([1])
            for digest in [
                "sha256:", "sha256:abc", "sha256:\(hex)0", "sha256:\(hex.uppercased())", "md5:\(hex.prefix(32))",
                "sha512:\(hex)", "sha256-\(hex)", "\(hex)", "sha256:\(hex.dropLast())g", "nothing",
            ] {
                expectError(try repository.request("GET", "blobs/\(digest)"), 400, "DIGEST_INVALID")
                #expect(try repository.request("HEAD", "blobs/\(digest)").status == 400, "\(digest)")
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func sha512IsAsGood(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: Self.content, as: sha512(Self.content))
            for isCold in [false, true] {
                if isCold { try forebay.restart(wipingCache: true) }
                let response = try repository.request("GET", "blobs/\(digest)")
                #expect(response.status == 200)
                #expect(response["Docker-Content-Digest"] == digest)
                #expect(same(response.body, Self.content))
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func manyReadersOfAColdBlobAllGetIt(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let content = noise(300_000, seed: 11)
            let digest = try repository.push(blob: content)
            try forebay.restart(wipingCache: true)
            let relay = (forebay.origin as? S3Origin)?.relay
            relay?.forget()
            for response in try inParallel(8, { _ in try repository.request("GET", "blobs/\(digest)") }) {
                #expect(response.status == 200)
                #expect(same(response.body, content))
            }
            let fetches = relay?.blobRequests.filter { $0.hasPrefix("GET ") } ?? []
            #expect(fetches.count <= 1, "one fill serves all")
        }
    }

    /// Bytes that the process has written by write(2) or sendfile(2); what send(2) sends is not among them (`proc(5)`, "io").
    private func bytesWritten(_ forebay: Forebay) throws -> Int? {
        let page = text(of: "/proc/\(try #require(forebay.processIdentifier))/io")
        let line = page.split(separator: "\n").first { $0.hasPrefix("wchar: ") }
        return line.flatMap { Int($0.dropFirst("wchar: ".count)) }
    }

    @Test func aWarmBlobGoesOutBySendfile() throws {
        try withForebay { forebay in
            try require(bytesWritten(forebay) != nil, "the kernel does not count a process's I/O")
            let repository = Repository(forebay)
            let content = noise(16 << 20, seed: 13)
            let digest = try repository.push(blob: content)
            // Brings it into memory, if it is not there since it was pushed.
            #expect(try same(repository.request("GET", "blobs/\(digest)").body, content))
            let before = try #require(try bytesWritten(forebay))
            #expect(try same(repository.request("GET", "blobs/\(digest)").body, content))
            #expect(try #require(try bytesWritten(forebay)) - before >= content.count)
        }
    }

    @Test func aReaderThatLeavesDoesNotHurtTheNext() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let content = noise(8_000_000, seed: 12)
            let digest = try repository.push(blob: content)
            try forebay.restart(wipingCache: true)
            for _ in 0..<3 {
                let connection = try Connection(to: forebay.endpoint, receiveBuffer: 4_096)
                try connection.sendHead("GET", repository.path("blobs/\(digest)"), ["Range": "bytes=0-"], body: .none)
                #expect(try connection.readHead().status == 206)
                #expect(try same(connection.read(1_000), Array(content[..<1_000])))
            }
            #expect(try same(repository.request("GET", "blobs/\(digest)").body, content))
        }
    }

    /// Bug: the client hung until it was timed out, and nobody heard of the damage until the next one asked.
    @Test func aFileThatIsCutShortWhileItIsSentIsDamage() throws {
        try withForebay(flags: ["--idle-timeout", "10m"]) { forebay in
            // More than the sockets' buffers hold.
            let bytes = noise(32 << 20, seed: 9)
            let repository = Repository(forebay)
            let digest = try repository.push(blob: bytes)
            let hex = digest.dropFirst("sha256:".count)
            let connection = try Connection(to: forebay.endpoint, receiveBuffer: 65_536)
            try connection.sendHead("GET", repository.path("blobs/\(digest)"), body: .none)
            #expect(try connection.readHead().status == 200)
            #expect(try connection.read(1_000) == Array(bytes[..<1_000]))
            #expect(truncate("\(forebay.cacheDirectory)/blobs/sha256/\(hex.prefix(2))/\(hex)", 1 << 20) == 0)
            #expect(throws: HTTPError.self) { try connection.read(bytes.count - 1_000) }
            let told = "damaged content: \(digest)"
            try poll(for: "the damage to be told") { forebay.log.contains(told) ? () : nil }
            let response = try repository.request("GET", "blobs/\(digest)")
            #expect(response.status == 200 && same(response.body, bytes))
            #expect(try forebay.endpoint.request("GET", "/metrics").text.contains("forebay_cache_damaged_total 1\n"))
            #expect(forebay.log.components(separatedBy: told).count == 2, "once")
        }
    }

    /// Bug: the first range of a large file that was damaged was refused, though the origin had the blob.
    @Test func aRangeOfADamagedFileIsFetched() throws {
        try withForebay { forebay in
            let bytes = noise(20 << 20, seed: 10)
            let repository = Repository(forebay)
            let digest = try repository.push(blob: bytes)
            let hex = digest.dropFirst("sha256:".count)
            let path = "\(forebay.cacheDirectory)/blobs/sha256/\(hex.prefix(2))/\(hex)"
            let file = try #require(FileHandle(forWritingAtPath: path))
            try file.write(contentsOf: [UInt8](repeating: 0, count: 1_000))
            try file.close()
            let response = try repository.request("GET", "blobs/\(digest)", ["Range": "bytes=500-1499"])
            #expect(response.status == 206 && same(response.body, Array(bytes[500..<1_500])), "\(response.text)")
        }
    }
}
