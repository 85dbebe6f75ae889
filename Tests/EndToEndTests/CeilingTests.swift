import Foundation
import Glibc
import Synchronization
import Testing

@Suite("The cache's byte ceiling")
struct CeilingTests {
    private static let ceiling = 64 << 20

    /// Bytes that the files below `folder` take on the disk.
    private static func allocatedBytes(below folder: String) -> Int {
        files(below: folder).reduce(0) { total, path in
            var status = stat()
            // A file that has gone meanwhile takes no bytes.
            guard stat("\(folder)/\(path)", &status) == 0 else { return total }
            return total + Int(status.st_blocks) * 512
        }
    }

    /// Looks at `folder` again and again while `body` runs; the most it ever took.
    private func largestSize(of folder: String, during body: () throws -> Void) throws -> Int {
        let largest = Atomic<Int>(0)
        let isOver = Atomic<Bool>(false)
        let ended = DispatchSemaphore(value: 0)
        try withoutActuallyEscaping({ @Sendable in
            while !isOver.load(ordering: .acquiring) {
                largest.max(Self.allocatedBytes(below: folder), ordering: .relaxed)
                usleep(2_000)
            }
            ended.signal()
        }) { look in
            Thread.detachNewThread(look)
            defer {
                isOver.store(true, ordering: .releasing)
                ended.wait()
            }
            try body()
        }
        return largest.load(ordering: .relaxed)
    }

    @Test(arguments: OriginKind.allCases)
    func theDiskNeverHoldsMore(origin: OriginKind) throws {
        try withForebay(origin, cacheSize: "64MiB") { forebay in
            let repository = Repository(forebay)
            let endpoint = forebay.endpoint
            let sizes = Array(repeating: 8 << 20, count: 20) + Array(repeating: 1 << 20, count: 40)
            let digests = sizes.enumerated().map { sha256(noise($1, seed: UInt64($0) + 1_000)) }
            let largest = try largestSize(of: forebay.cacheDirectory) {
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
    func whatCannotFitStreamsThrough(origin: OriginKind) throws {
        try withForebay(origin, cacheSize: "64MiB") { forebay in
            let repository = Repository(forebay)
            let content = noise(80 << 20, seed: 51)
            let largest = try largestSize(of: forebay.cacheDirectory) {
                let digest = try repository.push(blob: content)
                for _ in 0..<2 {
                    #expect(try repository.request("GET", "blobs/\(digest)").body == content)
                }
                let range = try repository.request("GET", "blobs/\(digest)", ["Range": "bytes=70000000-70000999"])
                #expect(range.status == 206)
                #expect(range.body == Array(content[70_000_000..<70_001_000]))
            }
            #expect(largest <= Self.ceiling, "\(largest) bytes")
        }
    }
}
