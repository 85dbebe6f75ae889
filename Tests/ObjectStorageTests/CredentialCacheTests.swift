import FaultProxy
import HTTPClient
import Synchronization
import System
import TestDoubles
import Testing
import Threading

@testable import ObjectStorage

@Suite struct CredentialCacheTests {
    /// A source that a test plays.
    final class Script: Sendable {
        let calls = Atomic(0)
        let results = Mutex<[Result<IssuedCredentials, CredentialFailure>]>([])
        let gate = Monitor(true)

        func issue() throws(CredentialFailure) -> IssuedCredentials {
            calls.add(1, ordering: .relaxed)
            _ = gate.wait(until: .after(.seconds(20))) { $0 ? true : nil }
            return try results.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }.get()
        }
    }

    let time = ManualTime()
    let reports = Reports()
    let script = Script()

    func cache(_ results: [Result<IssuedCredentials, CredentialFailure>]) -> CredentialProvider {
        script.results.withLock { $0 = results }
        let script = script
        let reports = reports
        return CredentialCache(time: time, random: ScriptedStore.FullJitter(), report: { reports.add($0) }) {
            () throws(CredentialFailure) in try script.issue()
        }.provider
    }

    func issued(_ name: String, seconds: Int64? = nil) -> Result<IssuedCredentials, CredentialFailure> {
        let end = seconds.map { WallTime(seconds: time.wallTime().seconds + $0) }
        let credentials = Credentials(accessKey: name, secretKey: Secret("secret-of-\(name)"))
        return Result { () throws(CredentialFailure) in try IssuedCredentials(credentials, end: end, source: "a test") }
    }

    func settle(_ calls: Int) { waitUntil { script.calls.load(ordering: .relaxed) >= calls } }

    /// Waits until the provider gives these.
    func expect(_ name: String, from provider: CredentialProvider) throws {
        waitUntil { (try? provider.current()?.accessKey) == name }
        #expect(try provider.current()?.accessKey == name)
    }

    @Test func aHerdAsksOnce() throws {
        let provider = cache([issued("a", seconds: 3_600)])
        script.gate.update { $0 = false }
        let found = Monitor<[String]>([])
        for _ in 0..<32 {
            spawnThread(name: "herd") {
                let key = (try? provider.current()?.accessKey) ?? "none"
                found.update { $0.append(key) }
            }
        }
        settle(1)
        script.gate.update { $0 = true }
        let all = found.wait(until: .after(.seconds(20))) { $0.count == 32 ? $0 : nil }
        #expect(all.map(Set.init) == ["a"])
        #expect(script.calls.load(ordering: .relaxed) == 1)
        waitUntil { !reports.texts.isEmpty }
        #expect(reports.texts.count == 1 && reports.texts[0].hasPrefix("credentials from a test, valid until 20"))
    }

    /// Bug: each request waited half a minute for a source that was silent.
    @Test func nobodyWaitsLongForASilentSource() throws {
        script.gate.update { $0 = false }
        script.results.withLock { $0 = [issued("a", seconds: 3_600)] }
        let provider = CredentialCache(
            time: time,
            random: ScriptedStore.FullJitter(),
            patience: .zero,
            report: { _ in }
        ) { [script] () throws(CredentialFailure) in try script.issue() }.provider
        for _ in 0..<3 {
            let error = #expect(throws: StoreError.self) { try provider.current() }
            #expect(error?.description.contains("does not answer") == true)
        }
        script.gate.update { $0 = true }
        try expect("a", from: provider)
        #expect(script.calls.load(ordering: .relaxed) == 1)
    }

    @Test func renewsBeforeTheEndAndServesMeanwhile() throws {
        let provider = cache([issued("a", seconds: 3_600), issued("b", seconds: 7_200)])
        try expect("a", from: provider)
        time.advance(.seconds(3_200))
        #expect(try provider.current()?.accessKey == "a")
        #expect(script.calls.load(ordering: .relaxed) == 1, "not yet")
        script.gate.update { $0 = false }
        time.advance(.seconds(101))
        for _ in 0..<10 { #expect(try provider.current()?.accessKey == "a", "still valid") }
        settle(2)
        script.gate.update { $0 = true }
        try expect("b", from: provider)
        waitUntil { !reports.all.isEmpty }
        #expect(script.calls.load(ordering: .relaxed) == 2 && reports.all.count == 1, "the same source is told once")
    }

    @Test func aFailureKeepsWhatIsValid() throws {
        let provider = cache([
            issued("a", seconds: 600), .failure(CredentialFailure("no answer")),
            .failure(CredentialFailure("no answer")),
            issued("b", seconds: 7_200),
        ])
        try expect("a", from: provider)
        // Each renewal has a thread of its own that tells of it.
        waitUntil { reports.all.count == 1 }
        time.advance(.seconds(400))
        #expect(try provider.current()?.accessKey == "a")
        waitUntil { reports.all.count == 2 }
        #expect(reports.texts.last == "no answer")
        #expect(try provider.current()?.accessKey == "a")
        #expect(script.calls.load(ordering: .relaxed) == 2, "not asked again at once")
        time.advance(.seconds(300))
        // They have ended, and the next attempt fails too.
        let error = try #require(throws: StoreError.self) { try provider.current() }
        guard case .noCredentials = error.kind else {
            Issue.record("\(error)")
            return
        }
        #expect(error.description.contains("no answer") && error.isRetryable)
        #expect(reports.all.count == 2, "told once")
        time.advance(.seconds(100))
        try expect("b", from: provider)
        // Told by the thread that renews them, perhaps a moment after they are given out.
        waitUntil { reports.texts.count == 3 }
    }

    @Test func nobodysAreLookedForAgain() throws {
        let provider = cache([.success(.none), issued("late", seconds: 3_600), .success(.none)])
        #expect(try provider.current() == nil)
        time.advance(.seconds(61))
        try expect("late", from: provider)
        time.advance(.seconds(3_250))
        _ = try provider.current()
        settle(3)
        waitUntil { reports.all.count == 3 }
        #expect(script.calls.load(ordering: .relaxed) == 3 && reports.all.count == 3)
        #expect(try provider.current()?.accessKey == "late", "a source that cannot be reached takes nothing away")
    }

    /// The store says that a token has ended before its time, or does not know a secret that was changed.
    /// Bug: a profile's file with a new secret for the same key was never read again.
    @Test(arguments: [(400, "ExpiredToken"), (403, "SignatureDoesNotMatch")])
    func aRefusedTokenIsRenewedOnce(_ status: Int, _ code: String) throws {
        let provider = cache([issued("a", seconds: 3_600), issued("b", seconds: 3_600)])
        let server = ScriptedServer { request, _ in
            request.headers["authorization"]?.contains("Credential=b/") == true
                ? .ok("", [("ETag", "\"e\"")]) : .status(status, code)
        }
        var configuration = try server.configuration()
        configuration.credentials = provider
        try server.withStore(configuration) { test in
            try test.store.put(ScriptedStore.key, .bytes([1]))
            #expect(server.requests.count == 2)
            server.on(.any, .all, .answer(.status(status, code)))
            guard case .badCredentials = try test.error({ try $0.put(ScriptedStore.key, .bytes([1])) }).kind else {
                Issue.record("another kind")
                return
            }
            #expect(script.calls.load(ordering: .relaxed) == 2, "not for each refusal")
        }
    }

    /// Bug: all but the first of those that the store had refused were given up.
    @Test func allThatWereRefusedGoOnWithTheNewOnes() throws {
        let provider = cache([issued("a", seconds: 3_600), issued("b", seconds: 3_600)])
        try expect("a", from: provider)
        // Beyond what counts as lately.
        time.advance(.seconds(60))
        let waiting = Atomic(0)
        let server = ScriptedServer { request, _ in
            if request.headers["authorization"]?.contains("Credential=b/") == true {
                return .ok("", [("ETag", "\"e\"")])
            }
            waiting.add(1, ordering: .relaxed)
            waitUntil { waiting.load(ordering: .relaxed) == 4 }
            // One after the other: the renewal for the first is over when the next hears of it.
            if request.target.hasSuffix("0") { return .status(400, "ExpiredToken") }
            waitUntil { (try? provider.current()?.accessKey) == "b" }
            return .status(400, "ExpiredToken")
        }
        var configuration = try server.configuration()
        configuration.credentials = provider
        try server.withStore(configuration) { test in
            let stored = Monitor<[Bool]>([])
            let store = test.store
            for number in 0..<4 {
                spawnThread(name: "test") {
                    let isStored = (try? store.put(ObjectKey("key\(number)"), .bytes([1]))) != nil
                    stored.update { $0.append(isStored) }
                }
            }
            let all = stored.wait(until: .after(.seconds(20))) { $0.count == 4 ? $0 : nil }
            #expect(all == [true, true, true, true])
            #expect(script.calls.load(ordering: .relaxed) == 2)
        }
    }

    @Test func secretsDoNotShow() throws {
        let provider = cache([issued("a", seconds: 3_600)])
        let credentials = try #require(try provider.current())
        var dumped = ""
        dump(credentials, to: &dumped)
        dump(try issued("a").get(), to: &dumped)
        for text in ["\(credentials)", dumped, "\(reports.texts)", String(reflecting: credentials)] {
            #expect(!text.contains("secret-of-a"))
        }
    }
}
