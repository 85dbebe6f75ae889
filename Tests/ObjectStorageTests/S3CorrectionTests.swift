import FaultProxy
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

@Suite struct RedirectTests {
    private func scope(_ request: ScriptedServer.Received) -> String {
        String(request.headers["authorization"]?.split(separator: "/").dropFirst(2).first ?? "")
    }

    /// Where the bucket's region is named: a header, as for HEAD, or the document.
    enum Naming: CaseIterable, Sendable {
        case movedHeader, temporaryHeader, badRequestHeader, document

        func answer() -> ScriptedServer.Answer {
            let header = [(name: "x-amz-bucket-region", value: "eu-central-1")]
            return switch self {
            case .movedHeader: .status(301, "PermanentRedirect", headers: header)
            case .temporaryHeader: .status(307, "TemporaryRedirect", headers: header)
            case .badRequestHeader: .status(400, nil, headers: header)
            case .document:
                ScriptedServer.Answer(
                    status: 400,
                    body: Array(
                        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-central-1</Region></Error>".utf8
                    )
                )
            }
        }
    }

    @Test(arguments: Naming.allCases)
    func goesWhereTheBucketIs(_ naming: Naming) throws {
        let server = ScriptedServer { request, _ in
            request.headers["authorization"]?.contains("/eu-central-1/") == true ? .ok("", etag) : naming.answer()
        }
        try Weather.with(server) { test in
            let outcome = try test.store.put(key, .bytes(Array("body".utf8)))
            #expect(outcome == .stored(etag: "e1"))
            #expect(server.requests.map(\.text) == ["body", "body"])
            _ = try test.store.put(key, .bytes([1]))
            #expect(server.requests.map(scope) == ["us-east-1", "eu-central-1", "eu-central-1"], "remembered")
            #expect(test.reports.texts.count == 1 && test.reports.texts[0].contains("set s3-region to eu-central-1"))
        }
    }

    /// Bug: the slower ones of several were told that the bucket is elsewhere.
    @Test(arguments: Naming.allCases)
    func allThatAreUnderWayGoWhereTheBucketIs(_ naming: Naming) throws {
        let waiting = Atomic(0)
        let server = ScriptedServer { request, _ in
            if request.headers["authorization"]?.contains("/eu-central-1/") == true { return .ok("", etag) }
            waiting.add(1, ordering: .relaxed)
            waitUntil { waiting.load(ordering: .relaxed) == 4 }
            return naming.answer()
        }
        try Weather.with(server) { test in
            let stored = Monitor<[Bool]>([])
            let store = test.store
            for _ in 0..<4 {
                spawnThread(name: "test") {
                    let isStored = (try? store.put(key, .bytes([1]))) != nil
                    stored.update { $0.append(isStored) }
                }
            }
            let all = stored.wait(until: .after(.seconds(20))) { $0.count == 4 ? $0 : nil }
            #expect(all == [true, true, true, true])
            #expect(test.reports.texts.count == 1)
        }
    }

    /// Bug: it ended the start of a node that could have served what it had.
    @Test func aBucketThatIsNewWillBeFound() throws {
        let body = "<Error><Code>TemporaryRedirect</Code><Endpoint>bucket.s3-eu-west-3.amazonaws.com</Endpoint></Error>"
        let server = ScriptedServer { _, _ in Answer(status: 307, body: Array(body.utf8)) }
        try Weather.with(server) { test in
            let error = try test.error { try $0.check() }
            #expect(error.isRetryable && error.description.contains("bucket.s3-eu-west-3.amazonaws.com"), "\(error)")
        }
    }

    /// Bug: a login or maintenance page ended the start of a node that could have served what it had.
    @Test(arguments: [302, 307])
    func aRedirectionElsewhereIsNamedAndPasses(_ status: Int) throws {
        let server = ScriptedServer { _, _ in .status(status, nil, headers: [("Location", "http://elsewhere/x?y")]) }
        try Weather.with(server) { test in
            let error = try test.error { try $0.check() }
            #expect(error.isRetryable && error.description.contains("http://elsewhere/x?y"), "\(error)")
        }
    }

    @Test(arguments: ["eu-central-1", "not a region", ""])
    func doesNotTurnInCircles(_ region: String) throws {
        let server = ScriptedServer { _, _ in
            .status(301, "PermanentRedirect", headers: [("x-amz-bucket-region", region)])
        }
        try Weather.with(server) { test in
            guard case .wrongRegion = try test.error({ try $0.put(key, .bytes([1])) }).kind else {
                Issue.record("another kind")
                return
            }
            #expect(server.requests.count <= 2)
        }
    }
}

@Suite struct ClockTests {
    /// A server that wants requests of its own time, and whose clock is this much ahead of `ManualTime`'s.
    private func server(ahead seconds: Int64) -> ScriptedServer {
        let now = WallTime(seconds: ManualTime().wallTime().seconds + seconds)
        return ScriptedServer { request, _ in
            let date = [(name: "Date", value: now.httpDate)]
            guard let sent = request.headers["x-amz-date"], sent.prefix(13) == now.iso8601Basic.prefix(13) else {
                return .status(403, request.method == "HEAD" ? nil : "RequestTimeTooSkewed", headers: date)
            }
            return .ok("", etag + date)
        }
    }

    @Test(arguments: [7_200, -7_200, 400_000] as [Int64])
    func isSetByTheStores(_ seconds: Int64) throws {
        try Weather.with(server(ahead: seconds)) { test in
            _ = try test.store.put(key, .bytes([1]))
            _ = try test.store.put(key, .bytes([1]))
            #expect(test.server.requests.count == 3, "remembered")
            #expect(test.reports.texts.count == 1 && test.reports.texts[0].contains("by \(seconds) s"))
        }
    }

    /// Its answer has no body that names the reason.
    @Test func isSetByTheAnswerToAHeadToo() throws {
        try Weather.with(server(ahead: 7_200)) { test in
            _ = try test.store.head(key)
            #expect(test.server.requests.map(\.method) == ["HEAD", "GET", "HEAD"])
        }
    }

    /// Bug: one answer with a false date failed what it was for, and all else until the next.
    @Test func isSetAgainAfterAFalseDate() throws {
        let right = server(ahead: 7_200)
        right.on(
            .any,
            .first(1),
            .answer(.status(403, "RequestTimeTooSkewed", headers: [("Date", WallTime(seconds: 0).httpDate)]))
        )
        try Weather.with(right) { test in
            _ = try test.store.put(key, .bytes([1]))
            #expect(right.requests.count == 2, "beside the first")
        }
    }

    @Test func isTriedTwice() throws {
        let server = ScriptedServer { _, number in
            .status(403, "RequestTimeTooSkewed", headers: [("Date", WallTime(seconds: Int64(number) * 7_200).httpDate)])
        }
        try Weather.with(server) { test in
            guard case .clockSkew = try test.error({ try $0.put(key, .bytes([1])) }).kind else {
                Issue.record("another kind")
                return
            }
            #expect(server.requests.count == 3)
        }
    }
}
