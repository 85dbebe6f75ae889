import OCI
import Testing

@Suite struct NamesTests {
    @Test(arguments: [
        "a", "library/debian", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", "a.b_c__d-e/f",
        String(repeating: "a", count: 255), "tags/list", "blobs/uploads",
    ])
    func acceptsRepositoryNames(_ text: String) throws {
        #expect(try RepositoryName(text).description == text)
    }

    @Test(arguments: [
        "", "/", "a/", "/a", "a//b", "A", "aB", "a..b", "a.", ".a", "a._b", "a___b", "_a", "-a", "a-", "a_", "..",
        "a/..",
        "a/../b", "a/.", "a b", "a\nb", "a\0b", "é", "a:b", "a@b", "a%2fb", String(repeating: "a", count: 256),
        "_digests",
        "a/_digests", "a\\b",
    ])
    func refusesRepositoryNames(_ text: String) {
        #expect(throws: NameError.self) { try RepositoryName(text) }
    }

    @Test(arguments: ["latest", "1.0", "_x", "A-b.C", "v1.2.3-rc.1", String(repeating: "t", count: 128)])
    func acceptsTags(_ text: String) throws {
        #expect(try Tag(text).description == text)
    }

    @Test(arguments: [
        "", ".a", "-a", "a/b", "a:b", "a b", "a\n", "..", "é", String(repeating: "t", count: 129), "a\0", "a%20",
    ])
    func refusesTags(_ text: String) {
        #expect(throws: NameError.self) { try Tag(text) }
    }

    @Test func referenceWithColonIsADigestOrNothing() throws {
        let hex = String(repeating: "a", count: 64)
        #expect(try Reference("latest") == .tag(Tag("latest")))
        #expect(try Reference("sha256:\(hex)") == .digest(Digest("sha256:\(hex)")))
        let error = try #require(throws: NameError.self) { try Reference("sha256:abc") }
        #expect(error.kind == .digest)
    }

    @Test func errorsAreSafeToLog() throws {
        let hostile = "a\n\u{1b}[31m\0é" + String(repeating: "x", count: 1000)
        let error = try #require(throws: NameError.self) { try RepositoryName(hostile) }
        #expect(error.description.unicodeScalars.allSatisfy { $0.value >= 32 })
        #expect(error.description.count < 150)
    }
}

@Suite struct ContentRangeTests {
    @Test func readsInclusiveRanges() throws {
        let range = try #require(ContentRange("0-1023"))
        #expect(range.first == 0 && range.last == 1023 && range.count == 1024)
        #expect(ContentRange("5-5")?.count == 1)
    }

    @Test(arguments: [
        "", "-", "0-", "-5", "5-4", "a-b", "0-1-2", " 0-1", "0 - 1", "+0-1", "bytes 0-1", "0-1/2", "0x0-1",
        "0-9223372036854775807", "0-99999999999999999999",
    ])
    func refusesEverythingElse(_ text: String) {
        #expect(ContentRange(text) == nil)
    }
}
