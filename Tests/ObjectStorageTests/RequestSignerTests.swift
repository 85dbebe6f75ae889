import Hashing
import OCI
import ObjectStorage
import System
import Testing

/// One request of AWS's published examples with its signature.
struct SignatureVector: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var method = "GET"
    var path = "/"
    var query: [(name: String, value: String)] = []
    var headers: [(name: String, value: String)] = []
    var body = ""
    let signature: String
}

@Suite struct RequestSignerTests {
    /// The AWS Signature Version 4 test suite.
    private static let suite = [
        SignatureVector(
            testDescription: "get-vanilla",
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        ),
        SignatureVector(
            testDescription: "get-vanilla-query-order-key-case",
            query: [("Param2", "value2"), ("Param1", "value1")],
            signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        ),
        SignatureVector(
            testDescription: "get-vanilla-query-order-value",
            query: [("Param1", "value2"), ("Param1", "value1")],
            signature: "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"
        ),
        SignatureVector(
            testDescription: "get-vanilla-empty-query-key",
            query: [("Param1", "value1")],
            signature: "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"
        ),
        SignatureVector(
            testDescription: "get-vanilla-query-unreserved",
            query: [(unreserved, unreserved)],
            signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"
        ),
        SignatureVector(
            testDescription: "get-vanilla-utf8-query",
            query: [("\u{1234}", "bar")],
            signature: "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"
        ),
        SignatureVector(
            testDescription: "get-unreserved",
            path: "/\(unreserved)",
            signature: "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"
        ),
        SignatureVector(
            testDescription: "get-utf8",
            path: "/%E1%88%B4",
            signature: "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"
        ),
        SignatureVector(
            testDescription: "get-space",
            path: "/example%20space/",
            signature: "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"
        ),
        SignatureVector(
            testDescription: "get-header-key-duplicate",
            headers: [("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")],
            signature: "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"
        ),
        SignatureVector(
            testDescription: "get-header-value-order",
            headers: [
                ("My-Header1", "value4"), ("My-Header1", "value1"), ("My-Header1", "value3"), ("My-Header1", "value2"),
            ],
            signature: "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"
        ),
        SignatureVector(
            testDescription: "get-header-value-trim",
            headers: [("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"
        ),
        SignatureVector(
            testDescription: "post-vanilla",
            method: "POST",
            signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        ),
        SignatureVector(
            testDescription: "post-header-key-sort",
            method: "POST",
            headers: [("My-Header1", "value1")],
            signature: "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"
        ),
        SignatureVector(
            testDescription: "post-x-www-form-urlencoded",
            method: "POST",
            headers: [("Content-Type", "application/x-www-form-urlencoded")],
            body: "Param1=value1",
            signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        ),
    ]

    private static let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    @Test(arguments: suite)
    func testSuite(_ vector: SignatureVector) {
        let time = WallTime(seconds: 1_440_938_160)
        #expect(time.iso8601Basic == "20150830T123600Z")
        let credentials = Credentials(
            accessKey: "AKIDEXAMPLE",
            secretKey: Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
        )
        let input = RequestSigner.Input(
            method: vector.method,
            path: vector.path,
            query: RequestSigner.canonicalQuery(vector.query),
            headers: [("Host", "example.amazonaws.com"), ("X-Amz-Date", time.iso8601Basic)] + vector.headers,
            payloadHash: Digest(of: Array(vector.body.utf8)).hex
        )
        let signer = RequestSigner(region: "us-east-1", service: "service")
        let header = signer.authorization(input, at: time, with: credentials)
        #expect(header.hasSuffix("Signature=\(vector.signature)"), "\(header)")
        #expect(header.hasPrefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "))
    }

    /// The examples in the Amazon S3 API Reference, "Signature Calculations for the Authorization Header".
    private static let s3Examples = [
        SignatureVector(
            testDescription: "GET Object with a range",
            path: "/test.txt",
            headers: [("Range", "bytes=0-9")],
            signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        ),
        SignatureVector(
            testDescription: "PUT Object",
            method: "PUT",
            path: "/test%24file.text",
            headers: [("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            body: "Welcome to Amazon S3.",
            signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        ),
        SignatureVector(
            testDescription: "GET Bucket lifecycle",
            query: [("lifecycle", "")],
            signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        ),
        SignatureVector(
            testDescription: "List objects",
            query: [("prefix", "J"), ("max-keys", "2")],
            signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        ),
    ]

    @Test(arguments: s3Examples)
    func s3Reference(_ vector: SignatureVector) throws {
        let time = try #require(WallTime(rfc3339: "2013-05-24T00:00:00Z"))
        let credentials = Credentials(
            accessKey: "AKIAIOSFODNN7EXAMPLE",
            secretKey: Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        )
        let hash = Digest(of: Array(vector.body.utf8)).hex
        let input = RequestSigner.Input(
            method: vector.method,
            path: vector.path,
            query: RequestSigner.canonicalQuery(vector.query),
            headers: vector.headers + [
                ("host", "examplebucket.s3.amazonaws.com"), ("x-amz-date", time.iso8601Basic),
                ("x-amz-content-sha256", hash),
            ],
            payloadHash: hash
        )
        let header = RequestSigner(region: "us-east-1").authorization(input, at: time, with: credentials)
        #expect(header.hasSuffix("Signature=\(vector.signature)"), "\(header)")
    }

    @Test func secretsDoNotShow() {
        let credentials = Credentials(
            accessKey: "AKID",
            secretKey: Secret("hidden-one"),
            sessionToken: Secret("hidden-two")
        )
        var text = "\(credentials) \(String(reflecting: credentials)) \(credentials.secretKey)"
        dump(credentials, to: &text)
        dump(credentials.secretKey, to: &text)
        #expect(!text.contains("hidden") && text.contains("AKID"))
        #expect(credentials.secretKey.reveal() == "hidden-one")
    }
}
