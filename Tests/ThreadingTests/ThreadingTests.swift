import Synchronization
import TestDoubles
import Testing
import Threading

@Suite struct MonitorTests {
    @Test func waitsUntilAnotherThreadSaysSo() {
        let monitor = Monitor(0)
        spawnThread(name: "test") {
            for _ in 0..<1000 { monitor.update { $0 += 1 } }
        }
        #expect(monitor.wait { $0 == 1000 ? "done" : nil } == "done")
    }

    @Test func givesUpAtTheDeadline() {
        let monitor = Monitor(0)
        #expect(monitor.wait(until: .after(.milliseconds(5))) { _ -> Int? in nil } == nil)
        #expect(Deadline.after(.zero).hasPassed)
        #expect(!Deadline.never.hasPassed)
    }

    @Test func errorsPassThroughAndTheLockIsFreeAfterwards() {
        struct Failure: Error {}
        let monitor = Monitor(1)
        #expect(throws: Failure.self) { try monitor.withLock { _ throws(Failure) in throw Failure() } }
        #expect(monitor.withLock { $0 } == 1)
    }
}

@Suite struct BoundedQueueTests {
    @Test func isBoundedAndInOrder() {
        let queue = BoundedQueue<Int>(limit: 2)
        #expect(queue.offer(1) && queue.offer(2))
        #expect(!queue.offer(3))
        #expect(queue.take() == 1)
        #expect(queue.offer(3))
        #expect(queue.take() == 2 && queue.take() == 3)
    }

    @Test func closingLetsTheRestOut() {
        let queue = BoundedQueue<Int>(limit: 2)
        #expect(queue.offer(1))
        queue.close()
        #expect(!queue.offer(2) && !queue.put(2))
        #expect(queue.take() == 1)
        #expect(queue.take() == nil)
    }

    @Test func whatIsUrgentIsTakenBesideAnyNumberInHand() {
        let queue = BoundedQueue<Int>(limit: 4, ordinaryLimit: 2)
        for number in 1...3 { #expect(queue.offer(number)) }
        #expect(queue.take() == 1 && queue.take() == 2)
        #expect(queue.take(until: .after(.zero)) == nil)
        #expect(queue.offer(4, urgent: true))
        #expect(queue.take(until: .after(.zero)) == 4)
        queue.finish()
        #expect(queue.take(until: .after(.zero)) == nil)
        queue.finish()
        #expect(queue.take(until: .after(.zero)) == 3)
    }

    @Test func aFullQueueMakesThePutterWait() {
        let queue = BoundedQueue<Int>(limit: 1)
        let total = 10_000
        spawnThread(name: "putter") {
            for number in 0..<total where !queue.put(number) { return }
            queue.close()
        }
        var expected = 0
        while let number = queue.take() {
            #expect(number == expected)
            #expect(queue.count <= 1)
            expected += 1
        }
        #expect(expected == total)
    }
}

@Suite struct WorkerPoolTests {
    @Test func runsEveryIndexOnceWithinItsWidth() {
        let pool = WorkerPool(name: "test", threads: 3, queueLimit: 10)
        let state = Monitor((seen: Set<Int>(), running: 0, most: 0))
        pool.forEach(below: 200) { index in
            state.withLock { state in
                #expect(state.seen.insert(index).inserted)
                state.running += 1
                state.most = max(state.most, state.running)
            }
            state.withLock { $0.running -= 1 }
        }
        #expect(state.withLock { $0.seen.count } == 200)
        #expect(state.withLock { $0.most } <= 4)
        pool.close()
    }

    @Test func forEachFinishesFromInsideABusyPool() {
        let pool = WorkerPool(name: "test", threads: 1, queueLimit: 10)
        let total = Monitor(0)
        #expect(
            pool.submit {
                pool.forEach(below: 50) { _ in total.update { $0 += 1 } }
            }
        )
        #expect(total.wait { $0 == 50 ? true : nil } == true)
        pool.close()
    }

    @Test func whatIsNotUrgentLeavesThreadsToWhatIs() {
        let pool = WorkerPool(name: "test", threads: 3, urgentThreads: 1, queueLimit: 10)
        let state = Monitor((begun: 0, open: false))
        for _ in 0..<5 {
            _ = pool.submit {
                state.update { $0.begun += 1 }
                _ = state.wait { $0.open ? true : nil }
            }
        }
        for _ in 0..<20 {
            let done = Monitor(false)
            #expect(pool.submit(urgent: true) { done.update { $0 = true } })
            guard done.wait(until: .after(.seconds(20)), for: { $0 ? true : nil }) == true else {
                Issue.record("an urgent job found no thread")
                break
            }
        }
        #expect(state.withLock { $0.begun } <= 2)
        state.update { $0.open = true }
        pool.close()
        #expect(state.withLock { $0.begun } == 5)
    }

    @Test func aFullQueueRefuses() {
        let pool = WorkerPool(name: "test", threads: 1, queueLimit: 1)
        let gate = Monitor((started: false, open: false))
        #expect(
            pool.submit {
                gate.update { $0.started = true }
                _ = gate.wait { $0.open ? true : nil }
            }
        )
        _ = gate.wait { $0.started ? true : nil }
        #expect(pool.submit {})
        #expect(!pool.submit {})
        gate.update { $0.open = true }
        pool.close()
        #expect(!pool.submit {})
    }
}

@Suite struct ClaimsTests {
    /// What happened, in order.
    private let events = Monitor<[String]>([])

    private func note(_ event: String) { events.update { $0.append(event) } }
    private func wait(for event: String) { _ = events.wait { $0.contains(event) ? true : nil } }

    @Test func sharersMeetAndAnOwnerIsAlone() {
        let claims = Claims<Int>()
        let pool = WorkerPool(name: "test", threads: 3, queueLimit: 3)
        for name in ["a", "b"] {
            _ = pool.submit {
                claims.share(1) {
                    note(name)
                    wait(for: "a")
                    wait(for: "b")
                }
                note("\(name) left")
            }
        }
        _ = pool.submit {
            wait(for: "a")
            wait(for: "b")
            claims.own(1) { note("owner") }
        }
        claims.own(2) {
            wait(for: "owner")
            claims.share(3) {}
        }
        pool.close()
        #expect(events.withLock { $0.firstIndex(of: "owner")! } >= 2)
    }

    @Test func sharersThatComeLaterLetAWaitingOwnerPass() {
        let claims = Claims<Int>()
        let pool = WorkerPool(name: "test", threads: 2, queueLimit: 2)
        claims.share(1) {
            _ = pool.submit { claims.own(1) { note("owner") } }
            while !claims.hasWaitingOwner(1) { pauseThread(.milliseconds(1)) }
            _ = pool.submit {
                note("asked")
                claims.share(1) { note("sharer") }
            }
            wait(for: "asked")
        }
        pool.close()
        #expect(events.withLock { $0 } == ["asked", "owner", "sharer"])
    }

    @Test func errorsPassThroughAndTheClaimEnds() {
        struct Failure: Error {}
        let claims = Claims<Int>()
        #expect(throws: Failure.self) { try claims.own(1) { () throws(Failure) in throw Failure() } }
        #expect(throws: Failure.self) { try claims.share(1) { () throws(Failure) in throw Failure() } }
        #expect(claims.own(1) { true })
    }
}

@Suite struct ThreadCacheTests {
    @Test func jobsThatBlockGetAThreadEach() {
        let cache = ThreadCache(name: "cache", limit: 100)
        let running = Monitor(0)
        let gate = Monitor(false)
        for _ in 0..<20 {
            cache.run {
                running.update { $0 += 1 }
                _ = gate.wait { $0 ? true : nil }
            }
        }
        #expect(running.wait(until: .after(.seconds(20))) { $0 == 20 ? true : nil } == true)
        #expect(cache.threads == 20)
        gate.update { $0 = true }
        #expect(cache.close(until: .after(.seconds(20))))
        #expect(cache.threads == 0)
    }

    @Test func anIdleThreadIsUsedAgain() {
        let cache = ThreadCache(name: "cache", limit: 100)
        let done = Monitor(0)
        for round in 1...50 {
            cache.run { done.update { $0 += 1 } }
            #expect(done.wait(until: .after(.seconds(20))) { $0 == round ? true : nil } == true)
        }
        #expect(cache.threads < 50)
        #expect(cache.close(until: .after(.seconds(20))))
    }

    @Test func jobsAboveTheLimitWait() {
        let cache = ThreadCache(name: "cache", limit: 2)
        let order = Monitor<[Int]>([])
        let gate = Monitor(false)
        for number in 0..<10 {
            cache.run {
                _ = gate.wait { $0 ? true : nil }
                order.update { $0.append(number) }
            }
        }
        #expect(cache.threads == 2)
        gate.update { $0 = true }
        #expect(order.wait(until: .after(.seconds(20))) { $0.count == 10 ? Set($0) : nil } == Set(0..<10))
        #expect(cache.close(until: .after(.seconds(20))))
    }

    /// Bug: a thread kept its last job until it had another or ended, and its first as long as it lived: the file of a blob that nobody read any more
    /// could not be evicted.
    @Test func nothingOfAJobOutlivesIt() {
        let cache = ThreadCache(name: "cache", limit: 1, idleLimit: .seconds(3600))
        for _ in 0..<2 {
            let isGone = Monitor(false)
            run(Witness(isGone), on: cache)
            #expect(isGone.wait(until: .after(.seconds(20))) { $0 ? true : nil } == true)
        }
        #expect(cache.threads == 1)
        #expect(cache.close(until: .after(.seconds(20))))
    }

    private func run(_ witness: consuming Witness, on cache: ThreadCache) {
        cache.run { [witness] in withExtendedLifetime(witness) {} }
    }

    @Test func aThreadThatWasIdleForLongEnds() {
        let cache = ThreadCache(name: "cache", limit: 2, idleLimit: .milliseconds(1))
        let done = Monitor(0)
        for round in 1...200 {
            // Again and again at the moment when the thread is about to go.
            cache.run { done.update { $0 += 1 } }
            #expect(done.wait(until: .after(.seconds(20))) { $0 == round ? true : nil } == true)
            pauseThread(.milliseconds(1))
        }
        while cache.threads > 0 { pauseThread(.milliseconds(1)) }
    }
}
