import FaultProxy
import HTTPClient
import ObjectStorage
import Synchronization
import System
import Testing
import Threading

/// A store in front of a scripted server, with the pauses that it wanted to make.
struct ScriptedStore {
    let server: ScriptedServer
    let store: S3Store
    let pauses: Pauses

    final class Pauses: Sendable {
        private let list = Mutex<[Duration]>([])
        func add(_ duration: Duration) { list.withLock { $0.append(duration) } }
        var all: [Duration] { list.withLock { $0 } }
    }

    /// Draws the largest jitter.
    struct FullJitter: RandomSource {
        func next() -> UInt64 { 99 }
    }

    static let key = try! ObjectKey("a/b")  // A literal that is a key.

    func read(_ range: Range<Int64>? = nil) throws -> (outcome: GetOutcome, text: String, begun: Int) {
        var bytes: [UInt8] = []
        var begun = 0
        let outcome = try store.get(
            Self.key,
            range: range,
            ifNoneMatch: nil,
            begin: { _ in begun += 1 },
            receive: { piece in for index in piece.indices { bytes.append(piece[index]) } }
        )
        return (outcome, String(decoding: bytes, as: UTF8.self), begun)
    }

    func error(_ body: (S3Store) throws -> Void) throws -> StoreError {
        try #require(throws: StoreError.self) { try body(store) }
    }
}

extension ScriptedServer {
    func configuration() throws -> S3Configuration {
        let credentials = Credentials(
            accessKey: "AKID",
            secretKey: Secret("secret-text"),
            sessionToken: Secret("token-text")
        )
        return S3Configuration(
            endpoint: try S3Endpoint("http://127.0.0.1:\(port)", bucket: "bucket", region: "us-east-1"),
            credentials: .fixed(credentials)
        )
    }

    /// Stops the server afterwards.
    func withStore(_ configuration: S3Configuration? = nil, _ body: (ScriptedStore) throws -> Void) throws {
        defer { stop() }
        let pauses = ScriptedStore.Pauses()
        let store = S3Store(
            try configuration ?? self.configuration(),
            client: try Client(ClientConfiguration()),
            random: ScriptedStore.FullJitter(),
            sleep: { pauses.add($0) }
        )
        try body(ScriptedStore(server: self, store: store, pauses: pauses))
    }
}

private typealias Answer = ScriptedServer.Answer
private let key = ScriptedStore.key
private let etag = [(name: "ETag", value: "\"e1\"")]

@Suite struct S3RetryTests {
    @Test func repeatsWhatMayPass() throws {
        let server = ScriptedServer { request, number in
            switch number {
            case 0: .status(500, "InternalError")
            case 1: .status(503, "SlowDown")
            case 2: .reset
            default: .ok("", etag)
            }
        }
        try server.withStore { test in
            let outcome = try test.store.put(key, .bytes(Array("body".utf8)), contentType: "text/x")
            #expect(outcome == .stored(etag: "e1"))
            // A reset on a kept connection is repeated by the client at once; every attempt carries the whole body.
            #expect(test.server.requests.count >= 4)
            #expect(test.server.requests.allSatisfy { $0.text == "body" && $0.headers["content-type"] == "text/x" })
        }
    }

    /// A request that is asked for a client's request belongs to that one's trace, each attempt of it.
    @Test func carriesTheTraceOfWhoAsks() throws {
        let server = ScriptedServer { _, number in number == 0 ? .status(503, "SlowDown") : .ok("", etag) }
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        try server.withStore { test in
            let context = TraceContext(parent: trace, state: "a=1")
            try TraceContext.$current.withValue(context) { _ = try test.store.head(key) }
            _ = try test.store.head(key)
            #expect(test.server.requests.map { $0.headers["traceparent"] } == [trace, trace, nil])
            #expect(test.server.requests.map { $0.headers["tracestate"] } == ["a=1", "a=1", nil])
        }
    }

    @Test func pausesGrowToALimit() throws {
        let server = ScriptedServer { _, _ in .status(500, "InternalError") }
        var configuration = try server.configuration()
        configuration.retries.attempts = 6
        configuration.retries.firstPauseMilliseconds = 20
        configuration.retries.longestPauseMilliseconds = 50
        try server.withStore(configuration) { test in
            let error = try test.error { try $0.delete(key) }
            #expect(error.status == 500 && error.code == "InternalError" && error.isRetryable)
            #expect(test.server.requests.count == 6)
            // The source draws 99, so a pause is 99 modulo one more than its ceiling: 20, 40, 50, 50, 50.
            #expect(test.pauses.all == [15, 17, 48, 48, 48].map { .milliseconds($0) })
        }
    }

    @Test(arguments: [("3", 3), ("0", 0), ("-5", 0), ("nonsense", 0)])
    func honoursRetryAfter(_ value: String, _ seconds: Int) throws {
        let server = ScriptedServer { _, number in
            number == 0 ? .status(503, "SlowDown", headers: [("Retry-After", value)]) : .ok("", etag)
        }
        try server.withStore { test in
            _ = try test.store.head(key)
            #expect(test.pauses.all.map(\.components.seconds) == [Int64(seconds)])
        }
    }

    /// Bug: a store that wanted to be left alone for long kept each reader for a minute before it was told so.
    @Test(arguments: [false, true])
    func whoIsToComeBackLaterIsToldAtOnce(isDate: Bool) throws {
        let server = ScriptedServer { _, _ in
            let date = WallTime(seconds: SystemTime().wallTime().seconds + 1_000).httpDate
            return .status(503, "SlowDown", headers: [("Retry-After", isDate ? date : "1000")])
        }
        try server.withStore { test in
            let error = try test.error { _ = try $0.contents(of: key, limitBytes: 10) }
            #expect((990...1_000).contains(error.retryAfterSeconds ?? 0) && error.isRetryable)
            #expect(test.pauses.all.isEmpty && test.server.requests.count == 1)
        }
    }

    /// What AWS answers when writes under conditions meet.
    @Test func repeatsAConflictOfConditions() throws {
        let server = ScriptedServer { _, number in
            number == 0 ? .status(409, "ConditionalRequestConflict") : .ok("", etag)
        }
        try server.withStore { test in
            let outcome = try test.store.put(key, .bytes([1]), contentType: nil, condition: .ifMatch("e0"))
            #expect(outcome == .stored(etag: "e1") && test.server.requests.count == 2)
            #expect(test.server.requests.allSatisfy { $0.headers["if-match"] == "\"e0\"" })
        }
    }

    @Test(arguments: [
        (400, "InvalidArgument"), (403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (403, "RequestTimeTooSkewed"),
        (404, "NoSuchBucket"), (301, "PermanentRedirect"), (409, "BucketNotEmpty"), (501, "NotImplemented"),
        (412, "PreconditionFailed"), (403, "QuotaExceeded"),
    ])
    func doesNotRepeatWhatCannotPass(_ status: Int, _ code: String) throws {
        let server = ScriptedServer { _, _ in .status(status, code) }
        try server.withStore { test in
            let error = try test.error { try $0.put(key, .bytes([1])) }
            #expect(error.status == status && error.code == code && !error.isRetryable)
            #expect(test.server.requests.count == 1 && test.pauses.all.isEmpty)
        }
    }

    @Test func nobodyListens() throws {
        let server = ScriptedServer { _, _ in .ok() }
        let port = server.port
        server.stop()
        let configuration = S3Configuration(
            endpoint: try S3Endpoint("http://127.0.0.1:\(port)", bucket: "bucket", region: "r"),
            credentials: .anonymous
        )
        let store = S3Store(configuration, client: try Client(ClientConfiguration()), sleep: { _ in })
        let error = try #require(throws: StoreError.self) { try store.check() }
        guard case .unreachable = error.kind else {
            Issue.record("\(error)")
            return
        }
        #expect(error.description.contains("check the endpoint"))
    }
}

@Suite struct S3ErrorTests {
    /// What an answer becomes.
    struct Mapping: Sendable {
        let status: Int
        var code: String?
        var headers: [(name: String, value: String)] = []
        let isKind: @Sendable (StoreError.Kind) -> Bool
    }

    private static let mappings: [Mapping] = [
        Mapping(status: 403, code: "AccessDenied") { if case .denied = $0 { true } else { false } },
        Mapping(status: 403) { if case .denied = $0 { true } else { false } },
        Mapping(status: 403, code: "InvalidAccessKeyId") { if case .badCredentials = $0 { true } else { false } },
        Mapping(status: 403, code: "SignatureDoesNotMatch") { if case .badCredentials = $0 { true } else { false } },
        Mapping(status: 400, code: "ExpiredToken") { if case .badCredentials = $0 { true } else { false } },
        Mapping(status: 403, code: "RequestTimeTooSkewed") { if case .clockSkew = $0 { true } else { false } },
        Mapping(status: 404, code: "NoSuchBucket") { if case .noSuchBucket = $0 { true } else { false } },
        Mapping(status: 307) { if case .invalidResponse = $0 { true } else { false } },
        Mapping(status: 301) { if case .wrongRegion(nil) = $0 { true } else { false } },
        Mapping(status: 400, headers: [("x-amz-bucket-region", "us-east-1")]) {
            if case .other = $0 { true } else { false }
        },
        Mapping(status: 503) { if case .serverFailure = $0 { true } else { false } },
        Mapping(status: 429) { if case .throttled = $0 { true } else { false } },
        Mapping(status: 503, code: "SlowDown") { if case .throttled = $0 { true } else { false } },
        Mapping(status: 500, code: "InternalError") { if case .serverFailure = $0 { true } else { false } },
        Mapping(status: 502) { if case .serverFailure = $0 { true } else { false } },
        Mapping(status: 400, code: "RequestTimeout") { if case .timeout = $0 { true } else { false } },
        Mapping(status: 400, code: "BadDigest") { if case .damagedBody = $0 { true } else { false } },
        Mapping(status: 403, code: "QuotaExceeded") { if case .noSpace = $0 { true } else { false } },
        Mapping(status: 507) { if case .noSpace = $0 { true } else { false } },
        Mapping(status: 501, code: "NotImplemented") { if case .unsupported = $0 { true } else { false } },
        Mapping(status: 409, code: "OperationAborted") { if case .conflict = $0 { true } else { false } },
        Mapping(status: 418) { if case .other = $0 { true } else { false } },
    ]

    @Test(arguments: mappings.indices)
    func kind(_ index: Int) throws {
        let mapping = Self.mappings[index]
        let server = ScriptedServer { _, _ in .status(mapping.status, mapping.code, headers: mapping.headers) }
        try server.withStore { test in
            let error = try test.error { try $0.put(key, .bytes([1])) }
            #expect(mapping.isKind(error.kind), "\(error)")
            #expect(error.status == mapping.status && error.code == mapping.code && error.key == key)
            #expect(error.requestID == (mapping.code == nil ? nil : "id-1"))
            #expect(error.description.contains("a/b") && error.description.contains("bucket"))
            #expect(!"\(error)\(test.store)".contains("secret-text") && !"\(error)".contains("token-text"))
        }
    }

    @Test(arguments: [
        "not xml at all", "<Error><Code>NoSuchKey", "<html><body>Bad gateway</body></html>", "",
        "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><Error><Code>&e;</Code></Error>",
        "<Error><Code>x\u{0}\r\ny</Code><Message>line\r\nbreak</Message></Error>",
    ])
    func oddBodies(_ body: String) throws {
        let server = ScriptedServer { _, _ in Answer(status: 403, body: Array(body.utf8)) }
        try server.withStore { test in
            let error = try test.error { try $0.put(key, .bytes([1])) }
            guard case .denied = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(!error.description.unicodeScalars.contains { $0.value < 32 })
        }
    }

    /// Bug: a store that quotes what it was sent had it in the log and in the client's answer.
    @Test func secretsThatAreQuoted() throws {
        let server = ScriptedServer { request, _ in
            let quoted = ["x-amz-security-token", "authorization"].map { request.headers[$0] ?? "" }.joined(
                separator: " "
            )
            let body = "<Error><Code>\(quoted)</Code><Message>secret-text \(quoted)</Message></Error>"
            return Answer(status: 418, body: Array(body.utf8))
        }
        try server.withStore { test in
            let error = try test.error { try $0.put(key, .bytes([1])) }
            let sent = try #require(test.server.requests.last?.headers["authorization"])
            #expect(!"\(error)".contains("secret-text") && !"\(error)".contains("token-text"), "\(error)")
            #expect(!"\(error)".contains(sent.suffix(64)) && "\(error)".contains("(secret)"), "\(error)")
        }
    }

    /// Bug: it was hidden in a code and a message alone, and in nothing that came with an answer which is no error by its status.
    @Test(arguments: ["Code", "Message", "Endpoint", "Region", "RequestId", "x-amz-request-id", "x-amz-bucket-region"])
    func secretsThatAreQuotedInAnyField(_ field: String) throws {
        for status in [301, 403, 404, 418] {
            let server = ScriptedServer { request, _ in
                let body = "<Error><Code>Odd</Code><\(field)>token-text</\(field)></Error>"
                return Answer(status: status, headers: [(field, "token-text")], body: Array(body.utf8))
            }
            try server.withStore { test in
                let asks: [(S3Store) throws -> Void] = [
                    { try $0.put(key, .bytes([1])) }, { try $0.delete(key) }, { _ = try $0.head(key) },
                    { _ = try $0.contents(of: key, limitBytes: 10) },
                ]
                for ask in asks {
                    let error = try test.error(ask)
                    #expect(!"\(error) \(error.kind)".contains("token-text"), "\(error)")
                }
            }
        }
    }

    @Test func hugeBodies() throws {
        let body = "<Error><Message>" + String(repeating: "m", count: 200_000)
        let server = ScriptedServer { _, _ in Answer(status: 403, body: Array(body.utf8)) }
        try server.withStore { test in
            let put = try test.error { try $0.put(key, .bytes([1])) }
            #expect(put.description.utf8.count < 1_000)
            let get = try test.error { _ = try $0.contents(of: key, limitBytes: 10) }
            guard case .denied = get.kind else {
                Issue.record("\(get)")
                return
            }
        }
    }

    @Test func missingBucketIsNoMissingObject() throws {
        let server = ScriptedServer { _, _ in .status(404, "NoSuchBucket") }
        try server.withStore { test in
            for operation: (S3Store) throws -> Void in [
                { _ = try $0.contents(of: key, limitBytes: 10) }, { try $0.delete(key) },
                { _ = try $0.put(key, .bytes([]), contentType: nil, condition: .ifMatch("e")) },
            ] {
                guard case .noSuchBucket = try test.error(operation).kind else {
                    Issue.record("taken for a missing object")
                    return
                }
            }
        }
    }
}
