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
        case broken, silence, gatewayTimeout

        var answer: ScriptedServer.Answer {
            switch self {
            case .broken: .reset
            case .silence: .silence
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
    @Test(arguments: End.allCases)
    func opensAtOnceWhenManyHaveWaited(_ end: End) throws {
        try ask(objects, wait: .seconds(60), end) { test in #expect(isDown(test)) }
    }

    @Test(arguments: [End.broken, .gatewayTimeout])
    func aHiccupIsNoOutage(_ end: End) throws {
        try ask(objects + ["b/1", "b/2", "b/3"], wait: .milliseconds(900), end) { test in
            #expect(test.store.health.state == .up)
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
        try ask(objects, wait: .seconds(60), .broken, meanwhile: answer) { test in
            #expect(test.store.health.state == .up)
        }
    }

    /// A large body that broke off may have been on its way all the time; one that was not answered in time has waited.
    @Test(arguments: [End.broken, .silence])
    func aLargeBodyThatBrokeOffHasNotWaited(_ end: End) throws {
        let put: @Sendable (S3Store, ObjectKey) -> Void = {
            _ = try? $0.put($1, .bytes([UInt8](repeating: 1, count: 300_000)))  // It is to fail.
        }
        try ask(objects, wait: .seconds(60), end, request: put) { test in
            #expect(isDown(test) == (end == .silence))
        }
    }
}
