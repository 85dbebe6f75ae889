import OCI
import Testing

@Suite struct DigestTests {
    static let sha256 = String(repeating: "0123456789abcdef", count: 4)

    @Test func readsWhatItPrints() throws {
        let text = "sha256:" + Self.sha256
        let digest = try Digest(text)
        #expect(digest.description == text)
        #expect(digest.hex == Self.sha256)
        #expect(digest.algorithm == .sha256)
        #expect(digest.bytes.count == 32)
        #expect(Digest(.sha256, bytes: digest.bytes.span) == digest)
    }

    @Test func readsSHA512() throws {
        let text = "sha512:" + Self.sha256 + Self.sha256
        let digest = try Digest(text)
        #expect(digest.description == text)
        #expect(digest.bytes.count == 64)
    }

    @Test func algorithmsDiffer() throws {
        let zeros = String(repeating: "0", count: 64)
        #expect(try Digest("sha256:" + zeros) != Digest("sha512:" + zeros + zeros))
    }

    @Test func prefixIsOptionalWhereTheSeedSaysSo() throws {
        #expect(try Digest(prefixOptional: Self.sha256) == Digest("sha256:" + Self.sha256))
        #expect(try Digest(prefixOptional: "sha256:" + Self.sha256) == Digest("sha256:" + Self.sha256))
        #expect(throws: NameError.self) { try Digest(prefixOptional: "abc") }
        #expect(throws: NameError.self) { try Digest(prefixOptional: "md5:" + Self.sha256) }
    }

    /// Wherever it stands among good ones.
    @Test(arguments: UInt8.min...UInt8.max)
    func aCharacterIsReadOrRefused(_ character: UInt8) {
        for place in 0..<64 {
            var text = Array("sha256:\(Self.sha256)".utf8)
            text[7 + place] = character
            // The error says no more than that it is refused.
            let digest = try? Digest(text.span)
            let isDigit = "0123456789abcdef".utf8.contains(character)
            #expect(digest?.description == (isDigit ? String(decoding: text, as: UTF8.self) : nil))
        }
    }

    static let hostile: [String] = [
        "", ":", "sha256", "sha256:", "sha256:\(sha256.dropLast())", "sha256:\(sha256)0",
        "sha256:\(sha256.uppercased())",
        "SHA256:\(sha256)", "md5:\(sha256)", "sha256:\(sha256.dropLast())g", "sha256:../../../../../../etc/passwd",
        " sha256:\(sha256)", "sha256:\(sha256)\n", "sha256:\(sha256.dropLast(2))é", "sha256:\0\(sha256.dropLast())",
        "sha512:\(sha256)",
    ]

    @Test(arguments: hostile)
    func refusesEverythingElse(_ text: String) {
        #expect(throws: NameError.self) { try Digest(text) }
    }
}
