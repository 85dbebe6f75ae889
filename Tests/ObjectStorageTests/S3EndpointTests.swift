import HTTPClient
import Testing

@testable import ObjectStorage

/// What an endpoint makes of a key.
struct AddressCase: Sendable {
    var url: String?
    var bucket = "bucket"
    var region = "eu-west-1"
    var addressing: S3Endpoint.Addressing?
    var secure = true
    var key: String? = "a/b"
    let expected: String
}

@Suite struct S3EndpointTests {
    @Test(arguments: [
        AddressCase(expected: "https://bucket.s3.eu-west-1.amazonaws.com/a/b"),
        AddressCase(region: "cn-north-1", expected: "https://bucket.s3.cn-north-1.amazonaws.com.cn/a/b"),
        AddressCase(bucket: "a.bucket", expected: "https://s3.eu-west-1.amazonaws.com/a.bucket/a/b"),
        AddressCase(addressing: .path, expected: "https://s3.eu-west-1.amazonaws.com/bucket/a/b"),
        AddressCase(key: nil, expected: "https://bucket.s3.eu-west-1.amazonaws.com/"),
        AddressCase(url: "http://10.0.0.1:9000", expected: "http://10.0.0.1:9000/bucket/a/b"),
        AddressCase(url: "http://10.0.0.1:9000", key: nil, expected: "http://10.0.0.1:9000/bucket"),
        AddressCase(url: "https://S3.Example.com/", expected: "https://s3.example.com/bucket/a/b"),
        AddressCase(url: "https://example.com:443", expected: "https://example.com/bucket/a/b"),
        AddressCase(url: "http://example.com:443", expected: "http://example.com:443/bucket/a/b"),
        AddressCase(url: "HTTP://example.com:80", expected: "http://example.com/bucket/a/b"),
        AddressCase(url: "example.com:9000", expected: "https://example.com:9000/bucket/a/b"),
        AddressCase(url: "example.com:9000", secure: false, expected: "http://example.com:9000/bucket/a/b"),
        AddressCase(url: "http://[::1]:9000", expected: "http://[::1]:9000/bucket/a/b"),
        AddressCase(url: "http://[::1]", expected: "http://[::1]/bucket/a/b"),
        AddressCase(url: "https://h/deep//er/", expected: "https://h/deep/er/bucket/a/b"),
        AddressCase(url: "https://h/deep", addressing: .virtual, expected: "https://bucket.h/deep/a/b"),
        AddressCase(url: "http://h:1", addressing: .virtual, key: nil, expected: "http://bucket.h:1/"),
        AddressCase(
            url: "http://h",
            key: "a b+c~/\u{E9}%?#&=:@",
            expected: "http://h/bucket/a%20b%2Bc~/%C3%A9%25%3F%23%26%3D%3A%40"
        ),
    ])
    func url(_ example: AddressCase) throws {
        let endpoint = try S3Endpoint(
            example.url,
            bucket: example.bucket,
            region: example.region,
            addressing: example.addressing,
            secure: example.secure
        )
        let path = endpoint.path(of: try example.key.map { try ObjectKey($0) })
        #expect(endpoint.url(path: path, query: "") == example.expected)
        #expect(endpoint.url(path: path, query: "a=b") == example.expected + "?a=b")
    }

    @Test(arguments: [
        "", "ftp://h", "http://", "http://h:0", "http://h:65536", "http://h:x", "http://h:", "http://h?x",
        "http://h/#x",
        "http://user:password@h", "http://h/../x", "http://[::1", "http://[::1]x", "http://[]", "http://h h",
        "http://h\n",
        "http://-\u{E9}-", "http://h:+1",
    ])
    func badURL(_ url: String) {
        let error = #expect(throws: InvalidSetting.self) { try S3Endpoint(url, bucket: "bucket", region: "r") }
        #expect(error?.setting == "endpoint")
        #expect(error?.description.contains("password") == false)
    }

    @Test(arguments: [
        "", "ab", "a/b", "a..b", ".abc", "a b", "a\nb", "b\u{FC}cket", String(repeating: "a", count: 256),
    ])
    func badBucket(_ bucket: String) {
        let error = #expect(throws: InvalidSetting.self) { try S3Endpoint("http://h", bucket: bucket, region: "r") }
        #expect(error?.setting == "bucket")
    }

    @Test(arguments: ["A-Bucket", "a_bucket", String(repeating: "a", count: 64)])
    func bucketThatIsNoHostName(_ bucket: String) throws {
        _ = try S3Endpoint("http://h", bucket: bucket, region: "r", addressing: .path)
        #expect(throws: InvalidSetting.self) {
            try S3Endpoint("http://h", bucket: bucket, region: "r", addressing: .virtual)
        }
    }

    @Test(arguments: ["", "eu west", "eu/west", "r\n"])
    func badRegion(_ region: String) {
        let error = #expect(throws: InvalidSetting.self) { try S3Endpoint(nil, bucket: "bucket", region: region) }
        #expect(error?.setting == "region")
    }
}
