import FaultProxy
import HTTPClient
import ObjectStorage
import Synchronization
import System
import TestDoubles
import Testing

private typealias Answer = ScriptedServer.Answer
private let key = ScriptedStore.key
private let id = [(name: "x-amz-request-id", value: "1")]

/// What is not there is so because the store says it, and says it of the object.
@Suite struct S3AbsenceTests {
    /// The store's own 404.
    private static func missing(_ method: String, _ code: String? = "NoSuchKey") -> ScriptedServer.Answer {
        .status(404, method == "HEAD" ? nil : code, headers: id)
    }

    private static func object(_ bytes: [UInt8]) -> ScriptedServer.Answer {
        Answer(headers: id + [("ETag", "\"1\"")], body: bytes)
    }

    /// A store of one object, until another answers in its place.
    private func with(
        _ other: Answer,
        isReadOnly: Bool = false,
        _ body: (Weather, _ change: () -> Void) throws -> Void
    ) throws {
        let isOther = Atomic(false)
        let content = Mutex<[UInt8]?>(nil)
        let server = ScriptedServer { request, _ in
            if isOther.load(ordering: .relaxed) { return other }
            if isReadOnly, ["PUT", "DELETE"].contains(request.method) {
                return .status(403, "AccessDenied", headers: id)
            }
            switch request.method {
            case "PUT": content.withLock { $0 = request.body }
            case "DELETE": content.withLock { $0 = nil }
            default: return content.withLock { $0 }.map(Self.object) ?? Self.missing(request.method)
            }
            return Self.object([])
        }
        try Weather.with(server) { test in try body(test) { isOther.store(true, ordering: .relaxed) } }
    }

    /// Bug: a tag that was cached became unknown, and a delete was acknowledged, when a balancer had lost the way to the store.
    @Test(arguments: [
        ScriptedServer.Answer.status(404), .status(404, headers: [("Content-Type", "text/html")]),
        Answer(status: 404, headers: [("Content-Type", "text/html")], body: Array("<html></html>".utf8)),
        Answer(status: 404, headers: [("Content-Type", "text/plain")], body: Array("default backend - 404".utf8)),
    ])
    func whatStandsBeforeTheStoreCannotSaySo(_ answer: ScriptedServer.Answer) throws {
        let asks: [(S3Store) throws -> Void] = [
            { _ = try $0.head(key) }, { _ = try $0.contents(of: key, limitBytes: 10) }, { try $0.delete(key) },
            { try $0.abortUpload(MultipartUpload(key: key, id: "u1")) },
        ]
        try with(answer) { test, change in
            try test.store.probe(at: ObjectKey("probe"))
            change()
            for ask in asks {
                let error = try test.error(ask)
                guard case .invalidResponse = error.kind, error.isRetryable, error.status == 404 else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
    }

    /// Bug: a node that may only read believed an answer of 404 that nobody had signed.
    @Test func whoMayOnlyReadKnowsHowTheStoreSaysSo() throws {
        try with(.status(404), isReadOnly: true) { test, change in
            _ = try test.error { try $0.probe(at: ObjectKey("probe")) }
            change()
            for ask: (S3Store) throws -> Void in [
                { _ = try $0.head(key) }, { _ = try $0.contents(of: key, limitBytes: 10) },
            ] {
                let error = try test.error(ask)
                guard case .invalidResponse = error.kind, error.isRetryable else {
                    Issue.record("\(error)")
                    continue
                }
            }
        }
    }

    /// Bug: what something between us and the store acknowledged was still there.
    @Test(arguments: [200, 204])
    func whatStandsBeforeTheStoreCannotDelete(_ status: Int) throws {
        try with(.status(status)) { test, change in
            try test.store.delete(key)
            change()
            let error = try test.error { try $0.delete(key) }
            guard case .invalidResponse = error.kind, error.isRetryable, error.mayBeDone else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test func aStoreThatSignsNoDeleteIsBelieved() throws {
        let server = ScriptedServer { _, _ in .status(204) }
        try Weather.with(server) { test in
            for _ in 0..<2 { try test.store.delete(key) }
        }
    }

    /// Bug: where the bucket had gone, every blob was unknown.
    @Test func aBucketThatIsGoneIsNoMissingObject() throws {
        let server = ScriptedServer { request, _ in Self.missing(request.method, "NoSuchBucket") }
        try Weather.with(server) { test in
            let error = try test.error { _ = try $0.head(key) }
            guard case .noSuchBucket = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(server.requests.map(\.method) == ["HEAD", "GET"])
        }
    }

    @Test func theReasonIsAskedForNowAndThen() throws {
        let server = ScriptedServer { request, _ in Self.missing(request.method) }
        try Weather.with(server) { test in
            for _ in 0..<3 { _ = try test.store.head(key) }
            #expect(server.requests.map(\.method) == ["HEAD", "GET", "HEAD", "HEAD"])
            test.time.advance(.seconds(5))
            #expect(try test.store.head(key) == nil)
            #expect(server.requests.map(\.method).suffix(2) == ["HEAD", "GET"])
        }
    }

    /// It is all that there is to believe.
    @Test func aStoreThatNeverNamesAnythingIsBelieved() throws {
        let server = ScriptedServer { _, _ in .status(404) }
        try Weather.with(server) { test in
            #expect(try test.store.head(key) == nil)
            #expect(try test.store.contents(of: key, limitBytes: 10) == nil)
            try test.store.delete(key)
        }
    }

    @Test func whatGETFindsIsThere() throws {
        let server = ScriptedServer { _, number in number == 0 ? Self.missing("HEAD") : Self.object([1]) }
        try Weather.with(server) { test in
            let found = try test.store.head(key)
            #expect(found?.size == 1)
            #expect(server.requests.map(\.method) == ["HEAD", "GET", "HEAD"])
        }
    }
}
