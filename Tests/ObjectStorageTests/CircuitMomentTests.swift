import FaultProxy
import HTTPClient
import ObjectStorage
import Synchronization
import TestDoubles
import Testing
import Threading

/// What fails at one moment: requests that had all waited for a store that nobody reaches, or a hiccup.
@Suite struct CircuitMomentTests {
    enum End: CaseIterable, Sendable {
        case broken, silence, badGateway, gatewayTimeout

        var answer: ScriptedServer.Answer {
            switch self {
            case .broken: .reset
            case .silence: .silence
            case .badGateway: .status(502)
            case .gatewayTimeout: .status(504)
            }
        }
    }

    /// Asks for all keys at once, of a server that lets each wait for so long.
    ///
    /// - Parameter meanwhile: happens when nearly all of the time is over.
    private func ask(
        _ keys: [String],
        wait: Duration,
        _ end: End,
        request: @escaping @Sendable (S3Store, ObjectKey) -> Void = { _ = try? $0.head($1) },  // It is to fail.
        meanwhile: (Weather) throws -> Void = { _ in },
        _ body: (Weather) throws -> Void
    ) throws {
        let waiting = Atomic(0)
        let isOver = Atomic(false)
        let server = ScriptedServer { request, _ in
            if request.target.hasSuffix("/well") { return .ok("", [("ETag", "\"e\"")]) }
            waiting.add(1, ordering: .relaxed)
            waitUntil { isOver.load(ordering: .relaxed) }
            return end.answer
        }
        var client = ClientConfiguration()
        client.stallSeconds = 1
        try Weather.with(server, client: client) {
            $0.retries.attempts = 1
        } _: { test in
            let (store, ended) = (test.store, Monitor(0))
            for key in try keys.map({ try ObjectKey($0) }) {
                spawnThread(name: "test") {
                    request(store, key)
                    ended.update { $0 += 1 }
                }
            }
            waitUntil { waiting.load(ordering: .relaxed) == keys.count }
            test.time.advance(wait - .milliseconds(10))
            try meanwhile(test)
            test.time.advance(.milliseconds(10))
            isOver.store(true, ordering: .relaxed)
            #expect(ended.wait(until: .after(.seconds(20))) { $0 == keys.count ? true : nil } == true)
            try body(test)
        }
    }

    private let objects = (0..<5).map { "a/\($0)" }

    private func isDown(_ test: Weather) -> Bool {
        guard case .down = test.store.health.state else { return false }
        return test.store.availability.isDown
    }

    /// Bug: only failures a second apart counted, so all clients waited once more for as long.
    @Test(arguments: [End.silence, .gatewayTimeout])
    func opensAtOnceWhenManyHaveWaited(_ end: End) throws {
        try ask(objects, wait: .seconds(60), end) { test in #expect(isDown(test)) }
    }

    @Test(arguments: [End.broken, .gatewayTimeout])
    func aHiccupIsNoOutage(_ end: End) throws {
        try ask(objects + ["b/1", "b/2", "b/3"], wait: .milliseconds(900), end) { test in
            #expect(test.store.health.state == .up)
        }
    }

    /// Bug: a gateway that restarts had all in its hands fail that had waited for a second, without another try.
    @Test(arguments: [End.broken, .badGateway])
    func whatIsBrokenOffIsTriedAgain(_ end: End) throws {
        let tries = Mutex<[String: Int]>([:])
        let isOver = Atomic(false)
        let server = ScriptedServer { request, _ in
            let number = tries.withLock { tries in
                tries[request.target, default: 0] += 1
                return tries[request.target] ?? 0
            }
            waitUntil { isOver.load(ordering: .relaxed) }
            return number < 3 ? end.answer : .ok("", [("ETag", "\"e\"")])
        }
        try Weather.with(server, { $0.retries.firstPauseMilliseconds = 1 }) { test in
            let (store, found) = (test.store, Monitor<[Bool]>([]))
            for key in try (0..<8).map({ try ObjectKey("a/\($0)") }) {
                spawnThread(name: "test") {
                    let isFound = (try? store.head(key)) != nil
                    found.update { $0.append(isFound) }
                }
            }
            waitUntil { tries.withLock { $0.count } == 8 }
            test.time.advance(.seconds(60))
            isOver.store(true, ordering: .relaxed)
            let all = found.wait(until: .after(.seconds(20))) { $0.count == 8 ? $0 : nil }
            #expect(all == Array(repeating: true, count: 8) && test.store.health.outages == 0)
        }
    }

    /// A large one is fetched in parts at once.
    @Test(arguments: End.allCases)
    func oneObjectThatHangsIsNoOutage(_ end: End) throws {
        try ask(Array(repeating: "a/bad", count: 8), wait: .seconds(60), end) { test in
            #expect(test.store.health.state == .up)
        }
    }

    @Test func aStoreThatHasJustAnsweredSomebodyIsUp() throws {
        let answer = { (test: Weather) in _ = try test.store.head(ObjectKey("well")) }
        try ask(objects, wait: .seconds(60), .gatewayTimeout, meanwhile: answer) { test in
            #expect(test.store.health.state == .up)
        }
    }

    @Test(arguments: End.allCases)
    func onlyTimeTellsOfLargeBodiesToo(_ end: End) throws {
        let put: @Sendable (S3Store, ObjectKey) -> Void = {
            _ = try? $0.put($1, .bytes([UInt8](repeating: 1, count: 300_000)))  // It is to fail.
        }
        try ask(objects, wait: .seconds(60), end, request: put) { test in
            #expect(isDown(test) == (end == .silence || end == .gatewayTimeout))
        }
    }

    /// Bug: a delete that the store had been sent was called unsent once the circuit opened, so what it had removed was served on.
    @Test func whatWasSentBeforeItOpenedMayBeDone() throws {
        let isDeleting = Atomic(false)
        let isOver = Atomic(false)
        let server = ScriptedServer { request, _ in
            guard request.method == "DELETE" else { return .status(500, "InternalError") }
            isDeleting.store(true, ordering: .relaxed)
            waitUntil { isOver.load(ordering: .relaxed) }
            return .silence
        }
        try Weather.with(server, { $0.retries.attempts = 1 }) { test in
            let (store, failure) = (test.store, Monitor<StoreError?>(nil))
            spawnThread(name: "test") {
                do throws(StoreError) {
                    try store.delete(ScriptedStore.key)
                } catch {
                    failure.update { $0 = error }
                }
            }
            waitUntil { isDeleting.load(ordering: .relaxed) }
            _ = try test.breakCircuit()
            let ended = try #require(failure.wait(until: .after(.seconds(20))) { $0 })
            isOver.store(true, ordering: .relaxed)
            guard case .unavailable = ended.kind else {
                Issue.record("\(ended)")
                return
            }
            #expect(ended.mayBeDone && !"\(ended)".contains("nothing was sent"))
            let refused = try test.error { try $0.delete(ScriptedStore.key) }
            #expect(!refused.mayBeDone && "\(refused)".contains("nothing was sent"))
        }
    }

    /// Bug: an attempt without an answer was forgotten when the next one was refused.
    @Test(arguments: [false, true])
    func whatAnEarlierAttemptMayHaveDone(isFirst: Bool) throws {
        let server = ScriptedServer { _, number in
            number == 0 && !isFirst ? .reset : .status(403, "AccessDenied")
        }
        try Weather.with(server) { test in
            let error = try test.error { try $0.delete(ScriptedStore.key) }
            guard case .denied = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(error.mayBeDone == !isFirst)
        }
    }
}
