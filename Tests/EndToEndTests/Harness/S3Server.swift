import Foundation
import Testing

/// The S3 server that the environment names. Spoken to through curl, whose signatures are not ours.
struct S3Server: Sendable {
    let port: UInt16
    let region: String
    let credentials: [String: String]

    /// `FOREBAY_TEST_S3_ENDPOINT` (`http://127.0.0.1:PORT`) and the usual AWS variables; `nil` without them.
    static let shared: S3Server? = {
        let environment = Settings.environment
        guard let endpoint = environment["FOREBAY_TEST_S3_ENDPOINT"], let url = URL(string: endpoint),
            url.scheme == "http", url.host == "127.0.0.1", let port = url.port.flatMap(UInt16.init(exactly:)),
            let key = environment["AWS_ACCESS_KEY_ID"], let secret = environment["AWS_SECRET_ACCESS_KEY"]
        else { return nil }
        let region = environment["AWS_DEFAULT_REGION"] ?? "us-east-1"
        return S3Server(
            port: port,
            region: region,
            credentials: ["AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": region]
        )
    }()

    /// Skips the test when there is none.
    static func required() throws -> S3Server {
        try require(shared != nil, "no S3 server: FOREBAY_TEST_S3_ENDPOINT is not set")
        return shared!
    }

    func createBucket(_ name: String) throws { try curl("PUT", "/\(name)") }

    /// All keys, sorted.
    func keys(of bucket: String) throws -> [String] {
        let listing = try String(decoding: curl("GET", "/\(bucket)?list-type=2&max-keys=1000"), as: UTF8.self)
        guard !listing.contains("<IsTruncated>true") else {
            throw MissingRequirement(description: "more keys than one listing holds")
        }
        return listing.components(separatedBy: "<Key>").dropFirst().map { String($0.prefix { $0 != "<" }) }.sorted()
    }

    func object(_ key: String, in bucket: String) throws -> [UInt8] { try curl("GET", "/\(bucket)/\(key)") }
    func remove(_ key: String, in bucket: String) throws { try curl("DELETE", "/\(bucket)/\(key)") }

    /// The keys of uploads that are neither complete nor aborted.
    func uploads(in bucket: String) throws -> [String] {
        let listing = try String(decoding: curl("GET", "/\(bucket)?uploads="), as: UTF8.self)
        return listing.components(separatedBy: "<Upload>").dropFirst()
            .compactMap {
                $0.components(separatedBy: "<Key>").dropFirst().first.map { String($0.prefix { $0 != "<" }) }
            }
    }

    /// The bucket holds no more than this; `nil` lifts it. Skips the test where the server is not what Tests/Servers/rgw.sh started.
    func limit(_ bucket: String, toBytes bytes: Int?) throws {
        try require(Settings.environment["RGW_DIR"] != nil, "RGW_DIR is not set: only Tests/Servers/rgw.sh sets quotas")
        let script = "\(Settings.packageRoot)/Tests/Servers/rgw.sh"
        let scope = ["--quota-scope=bucket", "--bucket=\(bucket)"]
        if let bytes { try run([script, "admin", "quota", "set", "--max-size=\(bytes)"] + scope) }
        try run([script, "admin", "quota", bytes == nil ? "disable" : "enable"] + scope)
    }

    /// From now on, requests that are not signed may read and list.
    func publish(_ bucket: String) throws {
        let policy = """
            {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],\
            "Resource":["arn:aws:s3:::\(bucket)","arn:aws:s3:::\(bucket)/*"]}]}
            """
        try curl("PUT", "/\(bucket)?policy=", body: policy)
    }

    @discardableResult
    private func curl(_ method: String, _ path: String, body: String = "") throws -> [UInt8] {
        let folder = try TemporaryDirectory()
        let content = body.isEmpty ? [] : ["--header", "Content-Type: application/json", "--data-binary", body]
        try run(
            [
                "curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "--request", method,
                "--aws-sigv4", "aws:amz:\(region):s3",
                "--user", "\(credentials["AWS_ACCESS_KEY_ID"]!):\(credentials["AWS_SECRET_ACCESS_KEY"]!)",
                "--header", "x-amz-content-sha256: \(sha256Hex(Array(body.utf8)))",
                "--output", folder.path + "/body", "http://127.0.0.1:\(port)\(path)",
            ] + content
        )
        return FileManager.default.fileExists(atPath: folder.path + "/body")
            ? try contents(of: folder.path + "/body") : []
    }
}
