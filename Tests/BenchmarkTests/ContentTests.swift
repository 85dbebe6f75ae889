import OCI
import Testing

@testable import Benchmark

@Suite("Generated content")
struct ContentTests {
    /// The digests come from another implementation of SplitMix64.
    @Test(arguments: [
        (1, 0, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, 0, 1, "65c74c15a686187bb6bbf9958f494fc6b80068034a659a9ad44991b08c58f2d2"),
        (1, 0, 1_003, "9f60354f50a032a0a7574da055b91ebf774c82a58b2695e1872e6e1ead53274d"),
        (0xfeed, 7, 300_000, "c518169618c680525cb74a4882325add9185d7f815298c16daaac2426c49e3a1"),
    ])
    func isTheSameForTheSameSeed(seed: UInt64, number: UInt64, length: Int64, digest: String) {
        #expect(GeneratedBlob(seed: seed, number: number, length: length).digest { _ in true }?.hex == digest)
    }

    @Test func isTheSameFromAnyOffsetInAnyPieces() {
        let blob = GeneratedBlob(seed: 5, number: 3, length: 1_000)
        let whole = bytes(blob, 0, 1_000)
        for (offset, count) in [(0, 1), (1, 7), (7, 9), (8, 8), (3, 500), (992, 8), (999, 1)] {
            #expect(bytes(blob, offset, count) == Array(whole[offset..<offset + count]))
        }
        #expect(bytes(blob, 990, 64) == Array(whole[990...]), "no more than there is")
    }

    @Test func comparesEachByte() {
        let blob = GeneratedBlob(seed: 5, number: 3, length: 1_000)
        var piece = bytes(blob, 11, 100)
        #expect(matches(blob, piece, at: 11))
        #expect(!matches(blob, piece, at: 12))
        for index in [0, 1, 50, 99] {
            piece[index] ^= 0x10
            #expect(!matches(blob, piece, at: 11))
            piece[index] ^= 0x10
        }
        #expect(!matches(blob, piece, at: 901), "longer than the blob")
    }

    /// No word comes twice, neither within a blob nor in another: nothing for a compressor or a deduplicating store.
    @Test func repeatsNothing() {
        var words: Set<[UInt8]> = []
        for number in 0..<4 as Range<UInt64> {
            let content = bytes(GeneratedBlob(seed: 9, number: number, length: 80_000), 0, 80_000)
            for start in stride(from: 0, to: content.count, by: 8) { words.insert(Array(content[start..<start + 8])) }
        }
        #expect(words.count == 40_000)
    }

    private func matches(_ blob: GeneratedBlob, _ piece: [UInt8], at offset: Int64) -> Bool {
        blob.matches(piece.span, at: offset)
    }

    private func bytes(_ blob: GeneratedBlob, _ offset: Int, _ count: Int) -> [UInt8] {
        [UInt8](capacity: count) { buffer in _ = blob.read(at: Int64(offset), into: &buffer) }
    }
}

@Suite("Targets")
struct TargetTests {
    @Test(arguments: [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://registry.example.com/", "https://registry.example.com"),
        ("http://[::1]:5000", "http://[::1]:5000"), ("http://[::1]/", "http://[::1]"), ("http://h/v2/", "http://h"),
        ("https://h/some/prefix", "https://h/some/prefix"),
    ])
    func readsURLs(text: String, base: String) throws {
        #expect(try Target(text).description == base)
    }

    @Test(arguments: [
        "", "127.0.0.1:5000", "ftp://h", "http://", "http:///x", "http://h?x=1", "http://h/#x", "http://h ost",
        // Bug: these were found out when nobody could be reached there.
        "http://[::1", "http://[::1]x", "http://::1", "http://h:port", "http://h:65536", "http://:5000",
    ])
    func refusesWhatIsNone(text: String) {
        #expect(throws: Target.Invalid.self) { try Target(text) }
    }

    @Test func refusesCredentialsWithoutRepeatingThem() {
        let error = #expect(throws: Target.Invalid.self) { try Target("https://name:hidden-secret@h") }
        #expect(error?.description.contains("hidden-secret") == false)
        #expect(error?.description.contains("--credentials") == true)
    }
}

@Suite("Web addresses")
struct WebAddressTests {
    /// Bug: what had `://` anywhere was absolute, and what began with no slash stood below the root. The pairs are those of RFC 3986,
    /// section 5.4, but for the schemes without an authority.
    @Test(arguments: [
        ("g", "http://a/b/c/g"), ("./g", "http://a/b/c/g"), ("g/", "http://a/b/c/g/"), ("/g", "http://a/g"),
        ("//g", "http://g"), ("?y", "http://a/b/c/d;p?y"), ("g?y", "http://a/b/c/g?y"), ("#s", "http://a/b/c/d;p?q"),
        ("g?y#s", "http://a/b/c/g?y"), (";x", "http://a/b/c/;x"), ("", "http://a/b/c/d;p?q"), (".", "http://a/b/c/"),
        ("..", "http://a/b/"), ("../g", "http://a/b/g"), ("../../../g", "http://a/g"), ("/./g", "http://a/g"),
        ("g.", "http://a/b/c/g."), ("./g/.", "http://a/b/c/g/"), ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("https://g/x", "https://g/x"), ("/x?u=http://g/", "http://a/x?u=http://g/"),
        ("x?u=http://g", "http://a/b/c/x?u=http://g"),
    ])
    func resolveReferences(reference: String, url: String) throws {
        #expect(try #require(WebAddress("http://a/b/c/d;p?q")).resolve(reference) == url)
    }

    @Test(arguments: [
        ("http://h", "http://H:80/x", true), ("https://h:443", "HTTPS://h/x?y", true),
        ("http://[::1]:80", "http://[::1]/", true),
        ("http://h", "https://h/", false), ("http://h", "http://h:81/", false), ("http://h", "http://h.x/", false),
        ("http://h", "http://u@h/", false), ("http://h", "/x", false),
    ])
    func areOfOneOrigin(target: String, url: String, isHeld: Bool) throws {
        #expect(try Target(target).holds(url) == isHeld)
    }

    @Test(arguments: [
        ("http://h/x", "https://h/x/v2/", "https://h/x"), ("http://h:1", "http://h:2/v2/?a=b", "http://h:2"),
        ("https://h", "http://h/v2/", nil), ("http://h", "http://g/v2/", nil), ("http://h", "https://h/login", nil),
        ("http://h", "http://h/y/v2/", nil),
    ])
    func credentialsMoveWithinOneHost(target: String, url: String, moved: String?) throws {
        #expect(try Target(target).moved(to: url)?.description == moved)
    }
}

@Suite("Plans")
struct PlanTests {
    @Test func refuseWhatIsBeyondTheirLimits() throws {
        let changes: [(String, (inout Plan) -> Void)] = [
            ("--workloads", { $0.workloads = [] }), ("--size", { $0.sizes = [0] }),
            ("--size", { $0.sizes = [1 << 41] }),
            ("--count", { $0.count = 0 }), ("--clients", { $0.clients = [8, 5_000] }),
            ("--clients", { $0.clients = [] }),
            ("--duration", { $0.seconds = 0 }), ("--requests", { $0.requests = 0 }),
            ("--request-timeout", { $0.requestSeconds = 0 }), ("--rate", { $0.rate = 0 }),
            ("--rounds", { $0.rounds = 0 }), ("--range-size", { $0.rangeSize = 0 }), ("--images", { $0.images = 0 }),
            ("--image-size", { $0.imageSize = 10 }), ("--no-push", { $0.isPushed = true }),
        ]
        for (flag, change) in changes {
            var plan = try Plan(target: Target("http://h"), seed: 1)
            try plan.check()
            change(&plan)
            let error = #expect(throws: Plan.Invalid.self) { try plan.check() }
            #expect(error?.description.hasPrefix(flag) == true)
        }
    }

    @Test func sizesAreWordsForPeople() {
        #expect(
            [1, 4_096, 1 << 20, 3 << 19, 256 << 20, 1 << 40].map(sizeText) == [
                "1 B", "4 KiB", "1 MiB", "1.5 MiB", "256 MiB", "1 TiB",
            ]
        )
    }
}
