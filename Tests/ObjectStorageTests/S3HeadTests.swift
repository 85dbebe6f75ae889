import FaultProxy
import HTTPClient
import ObjectStorage
import Synchronization
import System
import TestDoubles
import Testing

private let key = ScriptedStore.key
private let etag = [(name: "ETag", value: "\"1\"")]

/// An answer to HEAD has no body, so what is wrong is asked with GET.
@Suite struct S3HeadTests {
    /// What a store answers that refuses with a code, and tells it where it can.
    private static func refusal(_ method: String, _ status: Int, _ code: String) -> ScriptedServer.Answer {
        .status(status, method == "HEAD" ? nil : code)
    }

    /// Bug: a page between us and the store was taken for a blob that is there already, or for a tag's manifest.
    @Test(arguments: ["text/html", "Text/HTML; charset=utf-8"])
    func aPageIsNoObject(_ type: String) throws {
        let server = ScriptedServer { _, _ in .ok("<html></html>", etag + [(name: "Content-Type", value: type)]) }
        try Weather.with(server) { test in
            for ask in [{ _ = try $0.head(key) }, { _ = try $0.contents(of: key, limitBytes: 100) }]
                as [(S3Store) throws -> Void]
            {
                let error = try test.error { try ask($0) }
                guard case .invalidResponse = error.kind, error.isRetryable else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
    }

    /// Where the store gives its answers an id, one without it is another's.
    @Test(arguments: [true, false])
    func anAnswerWithoutAnIDIsNotTheStores(_ namesAnswers: Bool) throws {
        let isPage = Atomic(false)
        let objects = Mutex<[String: String]>([:])
        let server = ScriptedServer { request, _ in
            let names = isPage.load(ordering: .relaxed) || !namesAnswers ? [] : [(name: "x-amz-request-id", value: "1")]
            return objects.withLock { objects in
                switch request.method {
                case "PUT": objects[request.target] = request.text
                case "DELETE": objects[request.target] = nil
                default:
                    return (objects[request.target] ?? (isPage.load(ordering: .relaxed) ? "page" : nil))
                        .map { .ok($0, etag + names) } ?? .status(404, request.method == "HEAD" ? nil : "NoSuchKey")
                }
                return .ok("", etag + names)
            }
        }
        try Weather.with(server) { test in
            try test.store.probe(at: ObjectKey("probe"))
            isPage.store(true, ordering: .relaxed)
            if namesAnswers {
                #expect(throws: StoreError.self) { try test.store.head(key) }
                #expect(
                    try test.store.contents(of: key, limitBytes: 100)?.bytes == Array("page".utf8),
                    "whoever reads it sees"
                )
            } else {
                #expect(try test.store.head(key)?.size == 4)
            }
        }
    }

    /// Bug: where the question for the reason broke off, as it does after Swift's answer to HEAD, the refusal stood without it.
    @Test func theReasonIsAskedForAgain() throws {
        let token = Mutex("old")
        let server = ScriptedServer { request, number in
            if request.headers["x-amz-security-token"] == "new" { return .ok("", etag) }
            if number == 1 {
                return ScriptedServer.Answer(status: 400, body: Array("<Err".utf8), length: 100, closes: true)
            }
            return Self.refusal(request.method, 400, "ExpiredToken")
        }
        let adjust: (inout S3Configuration) -> Void = {
            $0.credentials = CredentialProvider(
                { () throws(StoreError) in
                    Credentials(accessKey: "a", secretKey: Secret("b"), sessionToken: Secret(token.withLock { $0 }))
                },
                renew: { _ in
                    token.withLock { $0 = "new" }
                    return true
                }
            )
        }
        try Weather.with(server, adjust) { test in
            _ = try test.store.head(key)
            #expect(server.requests.map(\.method).last == "HEAD")
        }
    }

    /// Bug: one refusal that did not last was the end of a push.
    @Test func aRefusalThatDoesNotLastIsNone() throws {
        let server = ScriptedServer { _, number in number == 0 ? .status(403, nil) : .ok("", etag) }
        try Weather.with(server) { test in
            _ = try test.store.head(key)
            #expect(server.requests.map(\.method) == ["HEAD", "GET", "HEAD"])
        }
    }

    /// Bug: pushes failed, each beginning with a HEAD, until some GET had the credentials renewed.
    @Test(arguments: [(400, "ExpiredToken"), (403, "InvalidAccessKeyId"), (400, "InvalidToken")])
    func renewsCredentials(_ status: Int, _ code: String) throws {
        let server = ScriptedServer { request, _ in
            request.headers["x-amz-security-token"] == "new"
                ? .ok("", etag) : Self.refusal(request.method, status, code)
        }
        let token = Mutex("old")
        try Weather.with(
            server,
            {
                $0.credentials = CredentialProvider(
                    { () throws(StoreError) in
                        Credentials(
                            accessKey: "a",
                            secretKey: Secret("b"),
                            sessionToken: Secret(token.withLock { $0 })
                        )
                    },
                    renew: { _ in
                        token.withLock { $0 = "new" }
                        return true
                    }
                )
            }
        ) { test in
            _ = try test.store.head(key)
            #expect(server.requests.map(\.method) == ["HEAD", "GET", "HEAD"])
        }
    }

    /// Bug: the correction of a clock that was set right stayed for as long as only HEADs were sent.
    @Test func takesAClockCorrectionBack() throws {
        let time = ManualTime()
        let ahead = Mutex<Int64>(7_200)
        let server = ScriptedServer { request, _ in
            let now = WallTime(seconds: time.wallTime().seconds + ahead.withLock { $0 })
            let date = [(name: "Date", value: now.httpDate)]
            guard request.headers["x-amz-date"]?.prefix(11) == now.iso8601Basic.prefix(11) else {
                return .status(403, request.method == "HEAD" ? nil : "RequestTimeTooSkewed", headers: date)
            }
            return .ok("", etag + date)
        }
        try Weather.with(server) { test in
            _ = try test.store.head(key)
            #expect(test.store.clockOffsetSeconds == 7_200)
            // Within what the network takes.
            ahead.withLock { $0 = 7 }
            _ = try test.store.head(key)
            #expect(test.store.clockOffsetSeconds == 0)
            // Bug: it said that the clock differs by 0 s and is to be set.
            #expect(test.reports.all.map(\.isTrouble) == [true, false])
            #expect(test.reports.texts.last?.contains("agrees with the store's again") == true, "\(test.reports.texts)")
        }
    }

    @Test func aDenialIsAskedAboutOnce() throws {
        let server = ScriptedServer { request, _ in Self.refusal(request.method, 403, "AccessDenied") }
        try Weather.with(server) { test in
            let error = try test.error { _ = try $0.head(key) }
            guard case .denied = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(error.code == "AccessDenied" && server.requests.count == 2)
        }
    }

    /// Bug: 503 to HEADs told the circuit nothing, and each client waited for all attempts.
    @Test func opensTheCircuit() throws {
        let server = ScriptedServer { _, _ in .status(503) }
        try Weather.with(server) { test in
            for number in 0..<10 where test.store.health.state == .up {
                _ = try test.error { _ = try $0.head(try ObjectKey("a/\(number)")) }
                test.time.advance(.seconds(1))
            }
            #expect(test.store.health.state != .up)
        }
    }
}

/// Bug: a length that no object has ended the process.
@Suite struct AbsurdLengthTests {
    private static let lengths = [(1 << 46) + 1, 1_000_000_000_000_000, Int.max - 1, Int.max]

    @Test(arguments: lengths, ["GET", "HEAD"])
    func areNoAnswer(_ length: Int, _ method: String) throws {
        let server = ScriptedServer { _, _ in
            ScriptedServer.Answer(headers: etag, body: [1, 2, 3], length: length, closes: true)
        }
        try Weather.with(server) { test in
            try expectInvalid(test, method)
        }
    }

    @Test(arguments: lengths)
    func areNoRange(_ length: Int) throws {
        let server = ScriptedServer { _, _ in
            let range = [(name: "Content-Range", value: "bytes 0-2/\(length)")]
            return ScriptedServer.Answer(status: 206, headers: etag + range, body: [1, 2, 3])
        }
        try Weather.with(server) { test in
            let error = try test.error {
                _ = try $0.get(key, range: 0..<3, ifNoneMatch: nil) { _ in
                } receive: { _ in
                }
            }
            guard case .invalidResponse = error.kind else {
                Issue.record("\(error)")
                return
            }
        }
    }

    private func expectInvalid(_ test: Weather, _ method: String) throws {
        let error = try test.error {
            if method == "HEAD" { _ = try $0.head(key) } else { _ = try $0.contents(of: key, limitBytes: 10) }
        }
        guard case .invalidResponse = error.kind else {
            Issue.record("\(error)")
            return
        }
    }
}
