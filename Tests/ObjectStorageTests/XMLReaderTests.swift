import Testing

@testable import ObjectStorage

@Suite struct XMLReaderTests {
    private func read(_ text: String) throws(XMLFailure) -> XMLElement { try XMLReader.read(Array(text.utf8)) }

    @Test func readsWhatS3Sends() throws {
        let root = try read(
            """

              <?xml version="1.0" encoding="UTF-8"?>
            <!-- a comment -->
            <s3:Error xmlns:s3="http://s3.amazonaws.com/doc/2006-03-01/" a = 'x>y'>
              <Code>NoSuchKey</Code><Message>a &amp; b &lt;&gt;&quot;&apos; &#233;&#x1F600;</Message>
              <Empty/><Data><![CDATA[<raw> & ]]]]></Data><Code>second</Code><?pi ?>
            </s3:Error >
            """
        )
        #expect(root.name == "Error")
        #expect(root.text(of: "Code") == "NoSuchKey")
        #expect(root.children(named: "Code").count == 2)
        #expect(root.text(of: "Message") == "a & b <>\"' \u{E9}\u{1F600}")
        #expect(root.text(of: "Empty") == "")
        #expect(root.text(of: "Data") == "<raw> & ]]")
        #expect(root.text(of: "Missing") == nil)
    }

    @Test func readsByteOrderMarkAndPlainRoot() throws {
        #expect(try XMLReader.read([0xEF, 0xBB, 0xBF] + Array("<a>x</a>".utf8)).text == "x")
        #expect(try read("<a/>") == XMLElement(name: "a"))
    }

    @Test(arguments: [
        "", " ", "text", "<", "<a", "<a>", "<a></b>", "<a><b></a></b>", "<a></a><b/>", "<a></a>x", "<a/", "<a b/>",
        "<a b=c/>", "<a b='c/>", "< a/>", "<a>&unknown;</a>", "<a>&</a>", "<a>&amp</a>", "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&#x110000;</a>", "<a>&#+65;</a>", "<a>&#99999999999999999;</a>", "<a>&#x;</a>", "<a><!-- </a>",
        "<a><![CDATA[</a>",
        "<?xml", "<!-- ", "<a><!ELEMENT b></a>", "</a>",
        "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
    ])
    func refuses(_ text: String) {
        #expect(throws: XMLFailure.self) { try read(text) }
    }

    @Test func refusesEveryTruncation() {
        let text = "<?xml version=\"1.0\"?><a x='1'><b>&amp;</b><![CDATA[z]]><!--c--></a>"
        for length in 0..<text.utf8.count {
            #expect(throws: XMLFailure.self) { try XMLReader.read(Array(text.utf8.prefix(length))) }
        }
        #expect(throws: Never.self) { try read(text) }
    }

    @Test func refusesWhatIsNotUTF8() {
        #expect(throws: XMLFailure.self) { try XMLReader.read(Array("<a>".utf8) + [0xC3] + Array("</a>".utf8)) }
        #expect(throws: XMLFailure.self) { try XMLReader.read([0xFF, 0xFE, 0x3C, 0x00]) }
    }

    @Test func hasLimits() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "<a>", count: depth) + String(repeating: "</a>", count: depth)
        }
        #expect(throws: Never.self) { try read(nested(XMLReader.maximumDepth)) }
        #expect(throws: XMLFailure.self) { try read(nested(XMLReader.maximumDepth + 1)) }
        #expect(throws: XMLFailure.self) { try read(nested(100_000)) }
        func wide(_ count: Int) -> String { "<a>" + String(repeating: "<b/>", count: count) + "</a>" }
        #expect(try read(wide(XMLReader.maximumElements - 1)).children.count == XMLReader.maximumElements - 1)
        #expect(throws: XMLFailure.self) { try read(wide(XMLReader.maximumElements)) }
    }

    @Test func escapes() throws {
        let text = "a<b>&\"'\u{E9} ]]>"
        #expect(try read("<a>\(xmlEscaped(text))</a>").text == text)
    }

    @Test func base64Vectors() {
        let vectors = ["": "", "f": "Zg==", "fo": "Zm8=", "foo": "Zm9v", "foob": "Zm9vYg==", "fooba": "Zm9vYmE="]
        for (text, expected) in vectors { #expect(base64(Array(text.utf8)) == expected) }
        #expect(base64([0xFB, 0xFF, 0xFE]) == "+//+")
    }

    @Test func percentEncoding() {
        #expect(percentEncoded("a/b c+~\u{E9}") == "a%2Fb%20c%2B~%C3%A9")
        #expect(percentEncoded("a/b c", keepingSlash: true) == "a/b%20c")
        #expect(percentDecoded("a%2fb+c%20d%2B") == "a/b c d+")
        for bad in ["%", "%4", "%zz", "%C3", "%ff"] { #expect(percentDecoded(bad) == nil) }
    }

    @Test func bodyRanges() {
        #expect(BodyRange("bytes 0-0/1") == BodyRange(bytes: 0..<1, size: 1))
        #expect(BodyRange("Bytes 5-9/10")?.bytes == 5..<10)
        for bad in [
            "", "bytes", "bytes */5", "bytes 0-5/5", "bytes 3-2/5", "bytes 0-1/*", "bytes -1/5", "bytes 0-1", "0-1/2",
            "bytes 0-9223372036854775807/9223372036854775807", "bytes +0-1/5", "bytes 0-1/2/3",
        ] {
            #expect(BodyRange(bad) == nil, "\(bad)")
        }
    }

    @Test func partPlans() {
        let mebibyte: Int64 = 1 << 20
        #expect(PartPlan(length: 33 * mebibyte, wanted: 16 * mebibyte).count == 3)
        #expect(PartPlan(length: 33 * mebibyte, wanted: 16 * mebibyte).range(of: 2) == 32 * mebibyte..<33 * mebibyte)
        #expect(PartPlan(length: 32 * mebibyte, wanted: 16 * mebibyte).count == 2)
        for length in [156_250 * mebibyte, 156_251 * mebibyte, 5 << 40] {
            let plan = PartPlan(length: length, wanted: 16 * mebibyte)
            #expect(plan.count <= S3Limits.parts && plan.partBytes <= S3Limits.largestPartBytes)
            #expect(plan.range(of: plan.count - 1).upperBound == length && !plan.range(of: plan.count - 1).isEmpty)
        }
        #expect(PartPlan(length: 160_000 * mebibyte, wanted: 16 * mebibyte).partBytes == 16 * mebibyte)
        #expect(PartPlan(length: 160_000 * mebibyte + 1, wanted: 16 * mebibyte).partBytes == 17 * mebibyte)
    }
}
