import FaultProxy
import Glibc
import HTTPClient
import ObjectStorage
import Synchronization
import System
import TestDoubles
import Testing
import Threading

private typealias Answer = ScriptedServer.Answer
private let key = ScriptedStore.key
private let etag = [(name: "ETag", value: "\"e1\"")]

/// What a store reported.
final class Reports: Sendable {
    private let list = Mutex<[StoreEvent]>([])
    func add(_ event: StoreEvent) { list.withLock { $0.append(event) } }
    var all: [StoreEvent] { list.withLock { $0 } }
    var texts: [String] { all.map(\.description) }
}

/// Gives up after a while, so that a failure shows as one.
func waitUntil(_ isDone: () -> Bool) {
    let deadline = Deadline.after(.seconds(20))
    while !isDone(), !deadline.hasPassed { sched_yield() }
}

/// A store whose time a test moves by hand, in front of a scripted server.
struct Weather {
    let server: ScriptedServer
    let store: S3Store
    let time: ManualTime
    let reports: Reports

    static func with(
        _ server: ScriptedServer,
        client: ClientConfiguration = ClientConfiguration(),
        _ change: (inout S3Configuration) -> Void = { _ in },
        _ body: (Weather) throws -> Void
    ) throws {
        defer { server.stop() }
        let reports = Reports()
        var configuration = try server.configuration()
        configuration.report = { reports.add($0) }
        change(&configuration)
        let time = ManualTime()
        let store = S3Store(
            configuration,
            client: try Client(client),
            time: time,
            random: ScriptedStore.FullJitter(),
            sleep: { time.advance($0) }
        )
        try body(Weather(server: server, store: store, time: time, reports: reports))
    }

    func error(_ body: (S3Store) throws -> Void) throws -> StoreError {
        try #require(throws: StoreError.self) { try body(store) }
    }

    var isUnavailable: Bool {
        get throws {
            if case .unavailable = try error({ _ = try $0.head(key) }).kind { true } else { false }
        }
    }

    /// Fails for the objects `a/0`, `a/1` and so on until the circuit opens, and says after how many requests it did.
    func breakCircuit() throws -> Int {
        for number in 0..<20 {
            _ = try? store.head(ObjectKey("a/\(number)"))  // It is to fail.
            if case .down = store.health.state { return server.requests.count }
            time.advance(.seconds(1))
        }
        Issue.record("the circuit never opened")
        return 0
    }
}

@Suite struct CircuitTests {
    @Test(arguments: [500, 502, 0])
    func opensWhenTheStoreIsDown(_ status: Int) throws {
        let server = ScriptedServer { _, _ in Answer(status: status, resets: status == 0) }
        try Weather.with(server) { test in
            let requests = try test.breakCircuit()
            #expect(requests >= 5)
            let seen = server.requests.count
            let error = try test.error { _ = try $0.contents(of: key, limitBytes: 10) }
            guard case .unavailable = error.kind, let seconds = error.retryAfterSeconds, (1...2).contains(seconds)
            else {
                Issue.record("\(error)")
                return
            }
            #expect(error.isRetryable && error.description.contains("nothing was sent"))
            #expect(server.requests.count == seen, "nothing was sent")
            #expect(test.reports.texts.count == 1 && test.reports.texts[0].contains("the origin is down"))
            #expect(test.store.health.outages == 1 && test.store.health.downSince != nil)
        }
    }

    @Test func oneRequestAtATimeTriesAgain() throws {
        let isDown = Atomic(true)
        let entered = Atomic(false)
        let mayGo = Atomic(false)
        let server = ScriptedServer { _, _ in
            guard isDown.load(ordering: .relaxed) else {
                entered.store(true, ordering: .relaxed)
                waitUntil { mayGo.load(ordering: .relaxed) }
                return .ok("", etag)
            }
            return .status(500, "InternalError")
        }
        try Weather.with(server) { test in
            _ = try test.breakCircuit()
            test.time.advance(.seconds(2))
            let seen = server.requests.count
            let isRefused = try test.isUnavailable
            #expect(!isRefused, "a try that fails")
            #expect(server.requests.count == seen + 1, "and is not repeated")
            #expect(try test.isUnavailable)
            test.time.advance(.seconds(1))
            #expect(try test.isUnavailable, "the pause has doubled")
            test.time.advance(.seconds(1))
            isDown.store(false, ordering: .relaxed)
            let store = test.store
            let probe = Mutex<Bool?>(nil)
            spawn {
                let found = (try? store.head(key)) != nil; probe.withLock { $0 = found }
            }
            waitUntil { entered.load(ordering: .relaxed) }
            #expect(test.store.health.state == .probing)
            #expect(try test.isUnavailable, "others do not queue behind it")
            mayGo.store(true, ordering: .relaxed)
            waitUntil { probe.withLock { $0 != nil } }
            #expect(probe.withLock { $0 } == true)
            #expect(test.store.health.state == .up && test.store.health.downSince == nil)
            _ = try test.store.head(key)
            #expect(test.reports.texts.count == 2 && test.reports.texts[1].contains("is back after"))
        }
    }

    /// Bug: as long as one try hung, nobody else tried, though the store was back.
    @Test func aTryThatHangsIsNotTheLast() throws {
        let isDown = Atomic(true)
        let isHeld = Atomic(true)
        let tries = Atomic(0)
        let server = ScriptedServer { _, _ in
            guard !isDown.load(ordering: .relaxed) else { return .status(500, "InternalError") }
            if tries.add(1, ordering: .relaxed).newValue == 1 { waitUntil { !isHeld.load(ordering: .relaxed) } }
            return .ok("", etag)
        }
        try Weather.with(server) { test in
            _ = try test.breakCircuit()
            test.time.advance(.seconds(2))
            isDown.store(false, ordering: .relaxed)
            let store = test.store
            let ended = Atomic(false)
            spawn {
                _ = try? store.head(key)  // It hangs.
                ended.store(true, ordering: .relaxed)
            }
            waitUntil { tries.load(ordering: .relaxed) == 1 }
            #expect(try test.isUnavailable)
            test.time.advance(.seconds(5))
            #expect(try test.store.head(key) != nil)
            #expect(test.store.health.state == .up)
            isHeld.store(false, ordering: .relaxed)
            waitUntil { ended.load(ordering: .relaxed) }
        }
    }

    /// Many requests are refused, but each is an answer.
    @Test(arguments: [(503, "SlowDown"), (429, nil), (403, "AccessDenied"), (404, "NoSuchBucket")] as [(Int, String?)])
    func throttlingAndRefusalsAreNoOutage(_ status: Int, _ code: String?) throws {
        let server = ScriptedServer { _, _ in .status(status, code) }
        try Weather.with(server) { test in
            for _ in 0..<10 {
                _ = try test.error { _ = try $0.put(key, .bytes([1])) }
                test.time.advance(.seconds(1))
            }
            #expect(test.store.health.state == .up)
            #expect(test.reports.all.count == (status == 403 || status == 404 ? 0 : 1))
        }
    }

    /// Bug: each refused request had lines of its own in the log.
    @Test func throttlingIsToldOnceAMinute() throws {
        let server = ScriptedServer { _, _ in .status(503, "SlowDown") }
        try Weather.with(server, { $0.retries.attempts = 1 }) { test in
            for minute in 1...2 {
                for _ in 0..<20 { _ = try test.error { _ = try $0.contents(of: key, limitBytes: 10) } }
                #expect(test.reports.texts.count == minute)
                test.time.advance(.seconds(60))
            }
            #expect(test.reports.texts[0].contains("the origin wants fewer requests"))
        }
    }

    @Test func aStoreThatRestartsAtOnceIsNoOutage() throws {
        let server = ScriptedServer { _, number in number < 20 ? .reset : .ok("", etag) }
        try Weather.with(server, { $0.retries.firstPauseMilliseconds = 1 }) { test in
            for _ in 0..<5 { _ = try? test.store.head(key) }  // They fail within some milliseconds.
            #expect(test.store.health.state == .up)
        }
    }

    @Test func oneSuccessBeginsTheCountAnew() throws {
        let server = ScriptedServer { _, number in number % 4 == 3 ? .ok("", etag) : .status(500, "InternalError") }
        try Weather.with(server, { $0.retries.budget = 1_000 }) { test in
            for number in 0..<20 {
                _ = try test.store.head(ObjectKey("a/\(number)"))
                test.time.advance(.seconds(5))
            }
            #expect(test.store.health.state == .up)
        }
    }

    private func spawn(_ body: @escaping @Sendable () -> Void) { spawnThread(name: "test", body) }
}

@Suite struct RetryBudgetTests {
    @Test func anOutageDoesNotMultiplyRequests() throws {
        let server = ScriptedServer { _, _ in .status(503, "SlowDown") }
        let frugal: (inout S3Configuration) -> Void = {
            $0.retries.budget = 10
            $0.retries.retriesPerSecond = 0
        }
        try Weather.with(server, frugal) { test in
            for _ in 0..<20 { _ = try test.error { _ = try $0.head(key) } }
            #expect(server.requests.count == 30, "ten more than were asked for")
            #expect(test.store.health.retries == 10 && test.store.health.retriesDenied == 17)
        }
    }

    @Test func successesFillItAgain() throws {
        let isWell = Atomic(false)
        let server = ScriptedServer { _, _ in isWell.load(ordering: .relaxed) ? .ok("", etag) : .status(503, "SlowDown")
        }
        try Weather.with(
            server,
            {
                $0.retries.budget = 3; $0.retries.successesPerRetry = 2
            }
        ) { test in
            _ = try test.error { _ = try $0.head(key) }
            isWell.store(true, ordering: .relaxed)
            for _ in 0..<4 { _ = try test.store.head(key) }
            isWell.store(false, ordering: .relaxed)
            server.forget()
            _ = try test.error { _ = try $0.head(key) }
            #expect(server.requests.count == 3, "four successes pay for two more attempts")
        }
    }

    /// Bug: on a quiet node nothing was ever tried again after a storm.
    @Test func timeFillsItAgain() throws {
        let server = ScriptedServer { _, _ in .status(503, "SlowDown") }
        try Weather.with(server, { $0.retries.budget = 2 }) { test in
            for _ in 0..<2 {
                server.forget()
                _ = try test.error { _ = try $0.head(key) }
                #expect(server.requests.count == 3)
                test.time.advance(.seconds(60))
            }
        }
    }

    /// Each has taken its time already.
    @Test func aTimeoutIsRepeatedOnce() throws {
        let server = ScriptedServer { _, _ in .status(400, "RequestTimeout") }
        try Weather.with(server) { test in
            _ = try test.error { _ = try $0.put(key, .bytes([1])) }
            #expect(server.requests.count == 2)
        }
    }
}

@Suite struct LyingStoreTests {
    private static let text = "0123456789"
    private static let md5OfText = "781e5e245d69b566979b86e28d23f2c7"

    /// A store that has been probed and whose ETags are MD5s.
    private func withProbedStore(
        _ answer: @escaping @Sendable (ScriptedServer.Received, Int) -> ScriptedServer.Answer,
        _ body: (Weather) throws -> Void
    ) throws {
        let object = Stored()
        let isProbed = Atomic(false)
        let server = ScriptedServer { request, number in
            isProbed.load(ordering: .relaxed) ? answer(request, number) : object.answer(request, .honoursAll)
        }
        try Weather.with(server) { test in
            #expect(try test.store.probe(at: key).etagIsContentHash)
            isProbed.store(true, ordering: .relaxed)
            server.forget()
            try body(test)
        }
    }

    @Test func aFlippedByteIsReadAgain() throws {
        try withProbedStore { _, number in
            .ok(number == 0 ? "0123456788" : Self.text, [("ETag", "\"\(Self.md5OfText)\"")])
        } _: { test in
            let bytes = try test.store.contents(of: key, limitBytes: 100)?.bytes
            #expect(bytes == Array(Self.text.utf8))
            #expect(test.server.requests.count == 2)
        }
    }

    @Test(arguments: ["0123456788", "012345678", "01234567890"])
    func wrongBytesAreNeverGivenOut(_ text: String) throws {
        try withProbedStore { _, _ in
            .ok(text, [("ETag", "\"\(Self.md5OfText)\"")])
        } _: { test in
            let error = try test.error { _ = try $0.contents(of: key, limitBytes: 100) }
            guard case .damagedBody = error.kind, error.isRetryable else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// Then the tag is something else than an MD5.
    @Test(
        arguments: [
            ("\"\(md5OfText)-2\"", nil, nil), ("\"\(md5OfText)\"", "aws:kms", nil), ("\"\(md5OfText)\"", nil, "AES256"),
            ("\"abc\"", nil, nil),
        ] as [(String, String?, String?)]
    )
    func tagsOfOtherKindsTellNothing(_ tag: String, _ encryption: String?, _ customer: String?) throws {
        var headers = [(name: "ETag", value: tag)]
        if let encryption { headers.append(("x-amz-server-side-encryption", encryption)) }
        if let customer { headers.append(("x-amz-server-side-encryption-customer-algorithm", customer)) }
        let all = headers
        try withProbedStore { _, _ in
            .ok("other", all)
        } _: { test in
            let bytes = try test.store.contents(of: key, limitBytes: 100)?.bytes
            #expect(bytes == Array("other".utf8))
        }
    }

    @Test(arguments: ["PUT", "GET", "DELETE"])
    func anErrorUnderStatus200IsAnError(_ method: String) throws {
        let server = ScriptedServer { _, _ in .status(200, "InternalError") }
        try Weather.with(server) { test in
            let error = try test.error { store in
                switch method {
                case "PUT": _ = try store.put(key, .bytes([1]))
                case "DELETE": try store.delete(key)
                default: _ = try store.list(prefix: "", delimiter: nil, after: nil, continuation: nil, limit: 10)
                }
            }
            guard case .serverFailure = error.kind, server.requests.count == 4 else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// Bug: it failed the read of a small object, of which nobody had seen anything.
    @Test func aFalseLengthIsReadAnew() throws {
        let server = ScriptedServer { request, number in
            if number == 0 { return Answer(headers: etag, body: Array(Self.text.utf8), length: 20, closes: true) }
            return request.headers["range"] == nil ? .ok(Self.text, etag) : .status(416, "InvalidRange")
        }
        try Weather.with(server) { test in
            let bytes = try test.store.contents(of: key, limitBytes: 100)?.bytes
            #expect(bytes == Array(Self.text.utf8))
        }
    }

    /// Bug: nothing of it had been taken yet, and the read failed.
    @Test func aFalseLengthOfARangeIsReadAnew() throws {
        let server = ScriptedServer { _, number in
            let range = [(name: "Content-Range", value: "bytes 0-9/10")]
            let length = number == 0 ? 20 : 10
            return Answer(
                status: 206,
                headers: etag + range,
                body: Array(Self.text.utf8),
                length: length,
                closes: number == 0
            )
        }
        try server.withStore { test in
            let text = try test.read(0..<100).text
            #expect(text == Self.text)
        }
    }

    @Test func aTrickleIsBrokenOff() throws {
        let big = String(repeating: "x", count: 100_000)
        let time = ManualTime()
        let server = ScriptedServer { _, _ in .ok(big, etag) }
        defer { server.stop() }
        var configuration = try server.configuration()
        configuration.requestTimeoutSeconds = 5
        configuration.leastBytesPerSecond = 50_000
        let store = S3Store(configuration, client: try Client(ClientConfiguration()), time: time, sleep: { _ in })
        var received = 0
        let error = try #require(throws: StoreError.self) {
            try store.get(
                key,
                range: nil,
                ifNoneMatch: nil,
                begin: { _ in },
                receive: { piece in
                    received += piece.count
                    // Each piece of 16 KiB takes four seconds: seven are allowed for all.
                    time.advance(.seconds(4))
                }
            )
        }
        guard case .timeout = error.kind, received > 0, received < 100_000 else {
            Issue.record("\(error)")
            return
        }
        #expect(server.requests.count == 2, "continued once")
        #expect(server.requests[1].headers["range"]?.hasPrefix("bytes=") == true)
    }
}

@Suite struct ObjectOptionTests {
    @Test func areSentAndSignedWithEveryNewObject() throws {
        let server = ScriptedServer { request, _ in
            switch request.operation {
            case .createUpload: .ok("<R><UploadId>u</UploadId></R>")
            case .completeUpload: .ok("<R/>")
            case .head: Answer(headers: etag, length: 20)
            case .copy: .ok("<CopyObjectResult/>")
            default: .ok("", etag)
            }
        }
        try Weather.with(server) {
            $0.objectOptions = S3ObjectOptions(
                encryption: .kms(key: "key-1"),
                storageClass: "STANDARD_IA",
                acl: "bucket-owner-full-control"
            )
            $0.multipartThresholdBytes = 10
            $0.partBytes = 10
        } _: { test in
            _ = try test.store.put(key, .bytes([1]))
            _ = try test.store.put(key, .bytes([UInt8](repeating: 1, count: 20)))
            let unnamed = try test.store.beginUpload(ObjectKey("unnamed"), contentType: nil)
            let part = try test.store.putPart(1, at: 0, of: unnamed, .bytes([UInt8](repeating: 1, count: 20)))
            try test.store.completeUpload(unnamed, [part], as: key)
            let makers = server.requests.filter { [.put, .createUpload, .copy].contains($0.operation) }
            #expect(makers.map(\.operation) == [.put, .createUpload, .createUpload, .copy])
            for request in makers {
                #expect(request.headers["x-amz-server-side-encryption"] == "aws:kms")
                #expect(request.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1")
                #expect(request.headers["x-amz-storage-class"] == "STANDARD_IA")
                #expect(request.headers["x-amz-acl"] == "bucket-owner-full-control")
                let signed = try #require(request.headers["authorization"])
                #expect(signed.contains("x-amz-acl;") && signed.contains("x-amz-storage-class"))
            }
            let sent = try #require(server.requests.first { $0.operation == .uploadPart })
            #expect(sent.headers["x-amz-acl"] == nil, "parts take none")
        }
    }
}
