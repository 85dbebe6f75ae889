import HTTPServer
import Testing

@Suite struct ByteRangeTests {
    @Test func partsOfABody() {
        #expect(ByteRange.parse("bytes=500-1499", size: 10_000) == .partial(500..<1500))
        #expect(ByteRange.parse("bytes=500-", size: 10_000) == .partial(500..<10_000))
        #expect(ByteRange.parse("bytes=-500", size: 10_000) == .partial(9500..<10_000))
        #expect(ByteRange.parse("bytes=0-", size: 10_000) == .partial(0..<10_000))
        #expect(ByteRange.parse("Bytes=0-0", size: 10_000) == .partial(0..<1))
    }

    @Test func whatLiesPartlyOutsideIsClipped() {
        #expect(ByteRange.parse("bytes=2000-5000", size: 3000) == .partial(2000..<3000))
        #expect(ByteRange.parse("bytes=-5000", size: 3000) == .partial(0..<3000))
        #expect(ByteRange.parse("bytes=0-99999999999999999999999", size: 3000) == .partial(0..<3000))
        #expect(ByteRange.parse("bytes=0-9223372036854775807", size: 3000) == .partial(0..<3000))
    }

    @Test(arguments: ["bytes=3000-", "bytes=3000-4000", "bytes=-0", "bytes=99999999999999999999999-"])
    func whatLiesOutsideIsRefused(_ header: String) {
        #expect(ByteRange.parse(header, size: 3000) == .unsatisfiable)
    }

    @Test(arguments: [
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-1,5-6", "items=0-1", "bytes=0x1-2",
        "bytes=+1-2", "bytes= 1-2", "bytes=1-2 ", "bytes=1--2", "bytes=é-1", "bytes=\0-1",
    ])
    func anythingElseIsIgnored(_ header: String) {
        #expect(ByteRange.parse(header, size: 3000) == .whole)
        #expect(ByteRange.parse(nil, size: 3000) == .whole)
    }

    @Test func anEmptyBodyHasNoParts() {
        #expect(ByteRange.parse("bytes=0-", size: 0) == .whole)
    }
}

@Suite struct EncodingTests {
    @Test func decodesOnceAndStrictly() {
        #expect(percentDecoded("a%20b%2Fc%3a") == "a b/c:")
        #expect(percentDecoded("%252e") == "%2e", "once, not twice")
        #expect(percentDecoded("%C3%A9") == "é")
        #expect(percentDecoded("plain") == "plain")
    }

    @Test(arguments: ["%", "%1", "%g0", "%00", "a%0Ab", "%7f", "%ff", "\u{1}", "%C3"])
    func refusesWhatHasNoPlaceInAPath(_ text: String) {
        #expect(percentDecoded(text) == nil)
    }

    @Test func encodesWhatItMust() {
        #expect(percentEncoded("v1.0-rc_~") == "v1.0-rc_~")
        #expect(percentEncoded("a/b c&é") == "a%2Fb%20c%26%C3%A9")
    }
}
