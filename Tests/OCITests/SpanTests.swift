import OCI
import Testing

/// Names are read from bytes on the hot path.
@Suite struct SpanTests {
    @Test(arguments: ["sha256", "sha512"])
    func aDigestGoesThroughItsBytes(algorithm: String) throws {
        let hex = String(repeating: "0123456789abcdef", count: algorithm == "sha256" ? 4 : 8)
        let text = "\(algorithm):\(hex)"
        let digest = try Digest(text.utf8.span)
        #expect(digest.description == text)
        #expect(digest.hex == hex)
        #expect(try digest == Digest(text))
        let again = digest.withBytes { Digest(digest.algorithm, bytes: $0) }
        #expect(again == digest)
        #expect(digest.bytes == digest.withBytes { bytes in bytes.indices.map { bytes[$0] } })
    }

    @Test(arguments: ["", "sha256", "sha256:", "sha25:66", ":", "sha256:zz", "md5:0123456789abcdef", "sha1234:00"])
    func whatIsNoDigestIsRefused(text: String) {
        let error = #expect(throws: NameError.self) { try Digest(text.utf8.span) }
        #expect(error?.kind == .digest)
        #expect(error?.text == text)
    }

    @Test func bytesThatAreNoTextAreRefusedAndShown() {
        let bytes: [UInt8] = [0x61, 0xFF, 0x0A]
        #expect(throws: NameError.self) { try RepositoryName(bytes.span) }
        let error = #expect(throws: NameError.self) { try Tag(bytes.span) }
        #expect(error?.text.utf8.allSatisfy { $0 < 128 && $0 > 31 } == true)
        #expect(throws: NameError.self) { try Reference(bytes.span) }
    }
}
