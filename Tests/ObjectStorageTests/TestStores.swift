import Glibc
import HTTPClient
import ObjectStorage
import System
import Testing

/// A store for a test, with a part of its keys that no other test uses.
struct TestStore: Sendable {
    let store: any ObjectStore
    /// Empty, or ends with a slash.
    let prefix: String

    /// What the store has and must show to have. A directory always has everything.
    var hasConditions: Bool { !(store is S3Store) || !S3TestServer.lacks.contains("conditions") }

    func key(_ name: String) throws -> ObjectKey { try ObjectKey("\(prefix)\(name)") }

    func bytes(_ name: String) throws -> [UInt8]? {
        try store.contents(of: key(name), limitBytes: 64 << 20)?.bytes
    }

    @discardableResult
    func put(_ name: String, _ text: String, _ condition: PutCondition = .none) throws -> PutOutcome {
        try store.put(key(name), .bytes(Array(text.utf8)), contentType: "text/plain", condition: condition)
    }
}

/// Where the suite finds its stores.
enum StoreUnderTest: String, CaseIterable, Sendable {
    case directory
    case s3WithPathAddressing
    case s3WithVirtualAddressing

    static let s3: [StoreUnderTest] = [.s3WithPathAddressing, .s3WithVirtualAddressing]

    func run(_ body: (TestStore) throws -> Void) throws {
        switch self {
        case .directory:
            try withTemporaryDirectory { root in
                try body(TestStore(store: DirectoryStore(root: root), prefix: ""))
            }
        case .s3WithPathAddressing, .s3WithVirtualAddressing:
            let store = try S3TestServer.store(addressing: self == .s3WithPathAddressing ? .path : .virtual)
            let prefix = "\(SystemRandom().token())/"
            defer {
                // The server's data is thrown away anyway.
                try? store.listAll(prefix: prefix) { page throws(StoreError) in
                    try store.delete(page.objects.map(\.key))
                }
            }
            try body(TestStore(store: store, prefix: prefix))
        }
    }
}

/// The S3 server that the environment names, for example one that `Tests/Servers/rgw.sh` has started.
enum S3TestServer {
    static let endpoint = environment("FOREBAY_TEST_S3_ENDPOINT")
    static let isThere = endpoint != nil
    static let reason: Comment = "FOREBAY_TEST_S3_ENDPOINT is not set; Tests/Servers/rgw.sh start prints it"
    /// On loopback, in clear text; `nil` for any other.
    static let port = endpoint.flatMap { endpoint in
        endpoint.hasPrefix("http://127.0.0.1:") ? endpoint.split(separator: ":").last.flatMap { UInt16($0) } : nil
    }
    static let bucket = "forebay-test"
    /// Words for what the server is known not to have: `conditions`. Anything else that is missing is a failure.
    static let lacks = (environment("FOREBAY_TEST_S3_LACKS") ?? "").split(separator: " ")

    static let region = environment("AWS_DEFAULT_REGION") ?? "us-east-1"

    static let credentials = Credentials(
        accessKey: environment("AWS_ACCESS_KEY_ID") ?? "",
        secretKey: Secret(environment("AWS_SECRET_ACCESS_KEY") ?? "")
    )

    private static let client = Result {
        var configuration = ClientConfiguration()
        configuration.certificateAuthorityFile = environment("FOREBAY_TEST_S3_CA")
        return try Client(configuration)
    }
    /// Once in a process. Where the bucket exists already, some stores say so with 409.
    private static let bucketCreation = Result {
        let request = S3Request(.put, "PUT", body: .bytes([]))
        return try store(configuration(addressing: .path)).transport.exchange(request, accepted: [409])
    }

    static func configuration(
        addressing: S3Endpoint.Addressing,
        bucket: String = bucket
    ) throws -> S3Configuration {
        // Names below localhost lead to the loopback interface.
        let url = endpoint.map { addressing == .path ? $0 : $0.replacing("127.0.0.1", with: "localhost") }
        var configuration = S3Configuration(
            endpoint: try S3Endpoint(url, bucket: bucket, region: region, addressing: addressing),
            credentials: .fixed(credentials)
        )
        // Counts only over https: so a server with TLS sees bodies that are not hashed.
        configuration.payloadSigning = .notOverTLS
        configuration.multipartThresholdBytes = 6 << 20
        configuration.partBytes = 5 << 20
        configuration.largestCopyBytes = addressing == .path ? S3Limits.largestCopyBytes : 5 << 20
        return configuration
    }

    static func store(_ configuration: S3Configuration) throws -> S3Store {
        S3Store(configuration, client: try client.get())
    }

    static func store(addressing: S3Endpoint.Addressing) throws -> S3Store {
        _ = try bucketCreation.get()
        return try store(configuration(addressing: addressing))
    }
}

func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
}

/// A new directory, removed with all that is in it.
func withTemporaryDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
    let path = "\(environment("TMPDIR") ?? "/tmp")/forebay-test-\(SystemRandom().token())"
    let fileSystem = LocalFileSystem()
    try fileSystem.createDirectory(path)
    defer { removeTree(path) }
    return try body(path)
}

private func removeTree(_ path: String) {
    let fileSystem = LocalFileSystem()
    // What cannot be removed stays in the temporary directory.
    for entry in (try? fileSystem.entries(of: path)) ?? [] {
        let child = "\(path)/\(entry.name)"
        if entry.isDirectory { removeTree(child) } else { _ = try? fileSystem.remove(child) }
    }
    _ = try? fileSystem.removeDirectory(path)
}

/// Bytes that a seed repeats. Their period is prime, so that no two parts of a body look the same.
func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed
    let block = (0..<min(count, 65_521)).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 33)
    }
    var bytes = block
    bytes.reserveCapacity(count + block.count)
    while bytes.count < count { bytes += block }
    bytes.removeLast(bytes.count - count)
    return bytes
}

/// The kind of the error that `body` throws.
func failureKind(_ body: () throws -> Void) -> StoreError.Kind? {
    do {
        try body()
        return nil
    } catch {
        return (error as? StoreError)?.kind
    }
}
