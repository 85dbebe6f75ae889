import FaultProxy
import ObjectStorage
import Synchronization
import TestDoubles
import Testing

private let etag = [(name: "ETag", value: "\"e1\"")]

/// What a failure tells about a store depends on what was asked for.
extension CircuitTests {
    private func isDown(_ test: Weather) -> Bool { if case .down = test.store.health.state { true } else { false } }

    /// Bug: clients that went on asking for one object that the store cannot read had it count as down for everybody.
    @Test func oneBadObjectIsNoOutage() throws {
        let server = ScriptedServer { request, _ in
            request.target.hasSuffix("/bad") ? .status(500, "InternalError") : .ok("", etag)
        }
        try Weather.with(server) { test in
            let bad = try ObjectKey("bad")
            for _ in 0..<20 {
                let error = try test.error { _ = try $0.head(bad) }
                #expect(error.status == 500, "\(error)")
                test.time.advance(.seconds(1))
            }
            #expect(test.store.health.state == .up && test.reports.all.isEmpty)
            _ = try test.store.head(ScriptedStore.key)
        }
    }

    @Test func silenceCountsEachTime() throws {
        let server = ScriptedServer { _, _ in .reset }
        try Weather.with(server) { test in
            for _ in 0..<2 {
                _ = try test.error { _ = try $0.head(ScriptedStore.key) }
                test.time.advance(.seconds(1))
            }
            #expect(isDown(test))
        }
    }

    @Test func soDoRequestsForNoObject() throws {
        let server = ScriptedServer { _, _ in .status(500, "InternalError") }
        try Weather.with(server) { test in
            for _ in 0..<2 {
                _ = try test.error { try $0.check() }
                test.time.advance(.seconds(1))
            }
            #expect(isDown(test))
        }
    }

    /// Bug: such an object was nearly always what tried whether the store is back, and each time the others waited twice as long.
    @Test func aBadObjectThatTriesHoldsNobodyBack() throws {
        let isOut = Atomic(true)
        let server = ScriptedServer { request, _ in
            isOut.load(ordering: .relaxed) || request.target.hasSuffix("/a/0")
                ? .status(500, "InternalError") : .ok("", etag)
        }
        try Weather.with(server) { test in
            _ = try test.breakCircuit()
            isOut.store(false, ordering: .relaxed)
            server.forget()
            let bad = try ObjectKey("a/0")
            for _ in 0..<60 {
                test.time.advance(.seconds(1))
                _ = try test.error { _ = try $0.head(bad) }
            }
            #expect((2..<10).contains(server.requests.count), "it waits longer and longer itself")
            #expect(isDown(test))
            _ = try test.store.head(ScriptedStore.key)
            #expect(test.store.health.state == .up)
        }
    }

    /// Where objects are out of reach, the list of them may not be: it would have the circuit open and close in turns.
    @Test func checkingAStoreThatIsDownAsksForWhatItFailedAt() throws {
        let isOut = Atomic(true)
        let server = ScriptedServer { request, _ in
            isOut.load(ordering: .relaxed) && request.target.contains("/a/") ? .reset : .ok("<ListBucketResult/>", etag)
        }
        try Weather.with(server) { test in
            try test.store.check()
            #expect(!test.store.availability.isDown)
            _ = try test.breakCircuit()
            test.time.advance(.seconds(60))
            _ = try test.error { try $0.check() }
            #expect(isDown(test) && test.store.availability.isDown)
            isOut.store(false, ordering: .relaxed)
            test.time.advance(.seconds(60))
            try test.store.check()
            #expect(test.store.health.state == .up && !test.store.availability.isDown)
        }
    }

    /// Attempts at it are repeated all the same.
    @Test func aStoreThatHasNeverAnsweredIsNotTakenToBeThere() throws {
        let server = ScriptedServer { _, number in number < 2 ? .reset : .ok("<ListBucketResult/>", etag) }
        try Weather.with(server) { test in
            #expect(test.store.availability.isDown && test.store.health.state == .up)
            try test.store.check()
            #expect(server.requests.count == 3 && !test.store.availability.isDown)
        }
    }
}
