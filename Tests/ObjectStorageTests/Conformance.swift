import HTTPClient
import ObjectStorage
import Synchronization
import System
import Testing
import Threading

/// What every object store must do, whatever it is made of.
struct ConformanceCase: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let run: @Sendable (TestStore) throws -> Void

    init(_ description: String, _ run: @escaping @Sendable (TestStore) throws -> Void) {
        testDescription = description
        self.run = run
    }

    static let all: [ConformanceCase] =
        objectCases + rangeCases + conditionCases + listingCases + deletionCases + uploadCases + concurrencyCases
}

@Suite struct ConformanceTests {
    @Test(arguments: ConformanceCase.all)
    func directory(_ example: ConformanceCase) throws {
        try StoreUnderTest.directory.run(example.run)
    }

    @Test(.enabled(if: S3TestServer.isThere, S3TestServer.reason), arguments: StoreUnderTest.s3, ConformanceCase.all)
    func s3(_ store: StoreUnderTest, _ example: ConformanceCase) throws {
        try store.run(example.run)
    }
}

private let objectCases = [
    ConformanceCase("an object comes back as it was put") { test in
        let key = try test.key("manifests/app/v1.json")
        let type = "application/vnd.oci.image.manifest.v1+json"
        let bytes = pattern(70_000)
        let outcome = try test.store.put(key, .bytes(bytes), contentType: type)
        let info = try #require(try test.store.head(key))
        #expect(info.size == 70_000 && info.contentType == type && info.lastModified != nil)
        let etag = try #require(info.etag)
        #expect(!etag.contains("\"") && outcome == .stored(etag: etag))
        let read = try #require(try test.store.contents(of: key, limitBytes: 70_000))
        #expect(read.bytes == bytes && read.info == info)
    },
    ConformanceCase("an object is replaced as a whole") { test in
        let key = try test.key("a")
        try test.put("a", "a longer text")
        let first = try #require(try test.store.head(key)?.etag)
        try test.store.put(key, .bytes(Array("short".utf8)), contentType: "application/json")
        let second = try #require(try test.store.head(key))
        #expect(second.size == 5 && second.etag != first && second.contentType == "application/json")
        #expect(try test.bytes("a") == Array("short".utf8))
    },
    ConformanceCase("an object may be empty") { test in
        try test.put("empty", "")
        #expect(try test.store.head(test.key("empty"))?.size == 0)
        #expect(try test.bytes("empty") == [])
    },
    ConformanceCase("what is not there is no error") { test in
        let key = try test.key("no/such/object")
        #expect(try test.store.head(key) == nil)
        let outcome = try test.store.get(key, range: 0..<5, ifNoneMatch: "x", begin: { _ in }, receive: { _ in })
        #expect(outcome == .notFound)
        #expect(try test.bytes("no/such/object") == nil)
        try test.store.delete(key)
    },
    ConformanceCase("keys are taken as they are") { test in
        let names = [
            "a b", "a+b", "a%20b", "a%2Fb", "~x", "-_.", ".hidden", "q?x=1&y#z", "semi;colon,comma:@!$'()*[]\\",
            "caf\u{E9}", "cafe\u{301}", "\u{1234}/\u{1F600}", "<&>\"", "ABC", "abc", "\u{301}combining",
            "sha256-" + String(repeating: "0123456789abcdef", count: 4), String(repeating: "n", count: 250),
        ]
        for (index, name) in names.enumerated() { try test.put(name, "content \(index)") }
        for (index, name) in names.enumerated() {
            #expect(try test.bytes(name) == Array("content \(index)".utf8), "\(name)")
        }
        let listed = try allKeys(test)
        #expect(listed == Set(try names.map { try test.key($0) }), "as many as were put, none mangled")
    },
    ConformanceCase("a body may be a part of a file") { test in
        try withTemporaryDirectory { directory in
            let fileSystem = LocalFileSystem()
            let file = try fileSystem.open("\(directory)/body", .create)
            let bytes = pattern(900_000)
            try fileSystem.write(bytes.span, to: file, at: 0)
            try test.store.put(test.key("part"), .file(file, offset: 1_000, length: 600_001))
            #expect(try test.bytes("part") == Array(bytes[1_000..<601_001]))
            try test.store.put(test.key("none"), .file(file, offset: 5, length: 0))
            #expect(try test.bytes("none") == [])
            #expect(throws: StoreError.self) {
                try test.store.put(test.key("past"), .file(file, offset: 899_990, length: 11))
            }
            #expect(try test.store.head(test.key("past")) == nil)
        }
    },
    ConformanceCase("a large body arrives whole, with its type") { test in
        let bytes = pattern(17 << 20)
        let key = try test.key("large")
        let outcome = try test.store.put(key, .bytes(bytes), contentType: "application/x-layer")
        let info = try #require(try test.store.head(key))
        #expect(info.size == 17 << 20 && info.contentType == "application/x-layer")
        #expect(outcome == .stored(etag: info.etag))
        #expect(try test.bytes("large") == bytes)
    },
    ConformanceCase("an object above the reader's limit is refused") { test in
        try test.put("a", "12345")
        #expect(try test.store.contents(of: test.key("a"), limitBytes: 5)?.bytes.count == 5)
        let kind = failureKind { _ = try test.store.contents(of: test.key("a"), limitBytes: 4) }
        guard case .receiver(let error as TooLarge) = kind else {
            Issue.record("\(String(describing: kind))")
            return
        }
        #expect(error.size == 5 && error.limitBytes == 4)
    },
    ConformanceCase("a receiver's error ends the transfer and comes back") { test in
        struct Enough: Error {}
        let key = try test.key("a")
        try test.store.put(key, .bytes(pattern(3 << 20)))
        var calls = 0
        for failsInBegin in [true, false] {
            let kind = failureKind {
                _ = try test.store.get(
                    key,
                    range: nil,
                    ifNoneMatch: nil,
                    begin: { _ in if failsInBegin { throw Enough() } },
                    receive: { _ in
                        calls += 1
                        throw Enough()
                    }
                )
            }
            guard case .receiver(is Enough) = kind else {
                Issue.record("\(String(describing: kind))")
                return
            }
        }
        #expect(calls == 1, "not tried again")
    },
    ConformanceCase("the check passes") { test in try test.store.check() },
]

private let rangeCases = [
    ConformanceCase("a range is clipped to the object") { test in
        let bytes = pattern(300_000)
        let key = try test.key("a")
        try test.store.put(key, .bytes(bytes))
        for range in [0..<1, 0..<300_000, 100..<200_000, 299_999..<300_000, 5..<400_000, 7..<Int64.max] {
            var info: ObjectInfo?
            var received: [UInt8] = []
            let outcome = try test.store.get(
                key,
                range: range,
                ifNoneMatch: nil,
                begin: { info = $0 },
                receive: { piece in for index in piece.indices { received.append(piece[index]) } }
            )
            #expect(received == Array(bytes[Int(range.lowerBound)..<Int(min(range.upperBound, 300_000))]))
            #expect(try info?.size == 300_000 && outcome == .complete(#require(info)))
        }
    },
    ConformanceCase("a range past the end is an error") { test in
        try test.put("a", "12345")
        for range in [5..<6, 1_000..<Int64.max] {
            let kind = failureKind {
                _ = try test.store.get(
                    test.key("a"),
                    range: range,
                    ifNoneMatch: nil,
                    begin: { _ in Issue.record("nothing begins") },
                    receive: { _ in }
                )
            }
            guard case .invalidRange = kind else {
                Issue.record("\(String(describing: kind))")
                return
            }
        }
    },
    ConformanceCase("an unchanged object is not delivered") { test in
        try test.put("a", "text")
        let etag = try #require(try test.store.head(test.key("a"))?.etag)
        func outcome(_ etag: String) throws -> (GetOutcome, Int) {
            var begun = 0
            let outcome = try test.store.get(
                test.key("a"),
                range: nil,
                ifNoneMatch: etag,
                begin: { _ in begun += 1 },
                receive: { _ in }
            )
            return (outcome, begun)
        }
        #expect(try outcome(etag) == (.notModified, 0))
        #expect(try outcome("another").1 == 1)
        try test.put("a", "other text")
        #expect(try outcome(etag).1 == 1)
    },
]

private let conditionCases = [
    ConformanceCase("a condition is honoured") { test in
        let able = try test.store.probe(at: test.key("probe"))
        #expect(able == test.store.capabilities)
        #expect(able.ifAbsent == test.hasConditions && able.ifMatch == test.hasConditions)
        #expect(try test.store.head(test.key("probe")) == nil)
        guard test.hasConditions else { return }

        #expect(try test.put("a", "1", .ifMatch("none")) == .conditionFailed)
        guard case .stored(let first?) = try test.put("a", "1", .ifAbsent) else {
            Issue.record("not stored")
            return
        }
        #expect(try test.put("a", "two", .ifAbsent) == .conditionFailed)
        #expect(try test.bytes("a") == Array("1".utf8))
        guard case .stored(let second?) = try test.put("a", "two", .ifMatch(first)) else {
            Issue.record("not stored")
            return
        }
        #expect(try test.put("a", "three", .ifMatch(first)) == .conditionFailed)
        #expect(try test.bytes("a") == Array("two".utf8))
        #expect(try test.put("a", "three", .ifMatch(second)) != .conditionFailed)
        #expect(try test.bytes("a") == Array("three".utf8))
    }
]

private let deletionCases = [
    ConformanceCase("what is deleted is gone") { test in
        try test.put("a/b/c", "1")
        try test.put("a/d", "2")
        try test.store.delete(test.key("a/b/c"))
        #expect(try test.bytes("a/b/c") == nil)
        #expect(try test.bytes("a/d") == Array("2".utf8))
        try test.store.delete(test.key("a/b/c"))
        try test.put("a/b/c", "again")
        #expect(try test.bytes("a/b/c") == Array("again".utf8))
    },
    ConformanceCase("many are deleted at once") { test in
        let names = (0..<25).map { "n \($0) & <\u{E9}>" }
        for name in names { try test.put(name, name) }
        try test.put("stays", "1")
        try test.store.delete(try (names + ["missing"]).map { try test.key($0) })
        #expect(try allKeys(test) == [try test.key("stays")])
        try test.store.delete([])
    },
]

/// Everything below the test's prefix.
func allKeys(_ test: TestStore) throws -> Set<ObjectKey> {
    var keys: Set<ObjectKey> = []
    try test.store.listAll(prefix: test.prefix) { page throws(StoreError) in keys.formUnion(page.objects.map(\.key)) }
    return keys
}
