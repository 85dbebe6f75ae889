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
