import Synchronization
import Testing
import Threading

@testable import Benchmark

@Suite("Latencies")
struct LatencyTests {
    private func histogram(_ latencies: [(milliseconds: Int, count: Int)]) -> LatencyHistogram {
        var histogram = LatencyHistogram()
        for (milliseconds, count) in latencies {
            for _ in 0..<count { histogram.record(.milliseconds(milliseconds)) }
        }
        return histogram
    }

    private func isNear(_ value: UInt64?, _ expected: Double) -> Bool {
        value.map { abs(Double($0) - expected) <= expected / 500 } ?? false
    }

    @Test func percentilesAreThoseOfTheValues() throws {
        let summary = try #require(histogram((1...1_000).map { ($0, 1) }).summary())
        #expect(summary.count == 1_000)
        #expect(isNear(summary.p50, 500_000) && isNear(summary.p90, 900_000) && isNear(summary.p99, 990_000))
        #expect(isNear(summary.p999, 999_000) && isNear(summary.max, 1_000_000) && isNear(summary.min, 1_000))
        #expect(abs(summary.mean - 500_500) < 1_000)
    }

    /// A client that asks every 10 ms and is once kept for a second would have met 99 more late answers: 990, 980, … 10 ms.
    @Test func aStallCountsForTheRequestsItHeldBack() throws {
        let measured = histogram([(10, 900), (1_000, 1)])
        #expect(isNear(measured.microseconds(atPercentile: 99), 10_000), "as measured, the stall hardly shows")
        let corrected = measured.corrected()
        #expect(abs(corrected.count - (901 + 99)) <= 1, "values are kept to three digits")
        #expect(isNear(corrected.microseconds(atPercentile: 50), 10_000))
        #expect(isNear(corrected.microseconds(atPercentile: 95), 510_000))
        #expect(isNear(corrected.microseconds(atPercentile: 99), 900_000 + 10_000))
    }

    @Test func steadyLatenciesStayAsTheyAre() {
        let measured = histogram([(10, 500), (11, 500)])
        #expect(measured.corrected().summary() == measured.summary())
        #expect(LatencyHistogram().corrected().summary() == nil)
    }

    @Test func theCurveRisesToTheMaximum() throws {
        let summary = try #require(histogram((1...1_000).map { ($0, 1) }).summary())
        #expect(summary.curve.count > 20 && summary.curve.count < 100)
        #expect(zip(summary.curve, summary.curve.dropFirst()).allSatisfy { $0.percentile < $1.percentile })
        #expect(zip(summary.curve, summary.curve.dropFirst()).allSatisfy { $0.microseconds <= $1.microseconds })
        #expect(summary.curve.last?.microseconds == summary.max)
    }

    @Test func whatIsLongerThanAnHourIsAnHour() throws {
        var histogram = LatencyHistogram()
        histogram.record(.seconds(100_000))
        histogram.record(.seconds(-1))
        #expect(histogram.count == 2)
        #expect(isNear(histogram.summary()?.max, 3_600_000_000))
        #expect(histogram.summary()?.min == 0)
    }
}

@Suite("Load")
struct LoadTests {
    @Test func eachOperationIsDoneOnce() {
        let seen = Mutex<[Int]>([])
        let schedule = Schedule(clients: 4, loop: .closed, operations: 200)
        let result = Load.run(schedule, stop: StopFlag()) { index, _, passage throws(Failure) in
            seen.withLock { $0.append(index) }
            passage.add(bytes: 10)
        }
        #expect(seen.withLock { $0.sorted() } == Array(0..<200))
        #expect(result.main.latencies.count == 200 && result.bytes == 2_000)
        #expect(result.samples.last?.operations == 200)
    }

    @Test func failuresAreCountedByKindAndTheFirstIsTold() {
        let schedule = Schedule(clients: 1, loop: .closed, operations: 10)
        let result = Load.run(schedule, stop: StopFlag()) { index, _, _ throws(Failure) in
            if index % 3 == 0 { throw Failure("wrong bytes", "number \(index)") }
        }
        #expect(result.main.latencies.count == 6)
        #expect(result.main.failures["wrong bytes"]?.count == 4)
        #expect(result.main.failures["wrong bytes"]?.first == "number 0")
        #expect(!result.wasAbandoned)
    }

    /// Bug: what a registry refused counted as throughput.
    @Test func bytesOfOperationsThatFailedDoNotCount() {
        let schedule = Schedule(clients: 2, loop: .closed, operations: 20)
        let result = Load.run(schedule, stop: StopFlag()) { index, _, passage throws(Failure) in
            passage.add(bytes: 1_000)
            if index % 2 == 0 { throw Failure("status 413", "too large") }
        }
        #expect(result.bytes == 10_000 && result.samples.last?.bytes == 10_000)
    }

    @Test func whenNothingSucceedsItEnds() {
        var schedule = Schedule(clients: 1, loop: .closed)
        schedule.patience = .zero
        let result = Load.run(schedule, stop: StopFlag()) { _, _, _ throws(Failure) in throw Failure("down", "down") }
        #expect(result.wasAbandoned)
        #expect(result.main.failures["down"]?.count == Schedule.failureLimit)
    }

    /// Bug: an outage of some milliseconds ended a row, whose throughput was that of the time before.
    @Test func aShortOutageEndsNothing() {
        let failures = 2 * Schedule.failureLimit
        let schedule = Schedule(clients: 16, loop: .closed, operations: failures + 10)
        let result = Load.run(schedule, stop: StopFlag()) { index, _, _ throws(Failure) in
            if index < failures { throw Failure("status 503", "busy") }
        }
        #expect(!result.wasAbandoned && result.main.latencies.count == 10)
        #expect(result.main.failures["status 503"]?.count == failures)
    }

    /// Bug: who ended a run while the registry hung got the speed of the time before, and no word of the stall.
    @Test(arguments: [nil, 1_000.0])
    func aStallThatSomebodyEndsCounts(_ rate: Double?) {
        let stop = StopFlag()
        var schedule = Schedule(clients: 2, loop: rate == nil ? .closed : .open, rate: rate)
        schedule.seconds = 3_600
        let started = Monitor(0)
        let result = Load.run(schedule, stop: stop) { index, _, _ throws(Failure) in
            guard index >= 10 else { return }
            let number = started.update { started in
                started += 1
                return started
            }
            if number == 2 {
                pauseThread(.milliseconds(300))
                stop.set()
            }
            while !stop.isSet { pauseThread(.milliseconds(1)) }
            throw Failure.cancelled
        }
        #expect(result.main.latencies.count == 10 && result.main.failed.count == 2 && result.main.failures.isEmpty)
        #expect(result.seconds >= 0.3 && result.main.failed.microseconds(atPercentile: 100) >= 300_000)
        #expect(rate == nil || result.main.unsent.count > 100)
    }

    @Test func aBurstIsOneOperationOfEachClient() {
        let seen = Mutex<[Int]>([])
        let result = Load.run(Schedule(clients: 9, loop: .burst), stop: StopFlag()) { index, _, _ throws(Failure) in
            seen.withLock { $0.append(index) }
        }
        #expect(seen.withLock { $0.sorted() } == Array(0..<9))
        #expect(result.main.latencies.count == 9)
    }

    /// In an open loop a late answer makes those behind it late, and that counts: one client, ten requests due at once in effect, and each
    /// waits for all before it.
    @Test func anOpenLoopCountsFromWhenARequestWasDue() throws {
        let order = Mutex<[Int]>([])
        let schedule = Schedule(clients: 1, loop: .open, rate: 1_000_000, operations: 10)
        let result = Load.run(schedule, stop: StopFlag()) { index, _, _ throws(Failure) in
            order.withLock { $0.append(index) }
            let start = ContinuousClock.now
            while ContinuousClock.now - start < .milliseconds(2) {}
        }
        #expect(order.withLock { $0 } == Array(0..<10))
        let latency = try #require(result.main.latencies.summary())
        #expect(latency.max >= 19_900, "the last was due at the start and waited for nine of 2 ms")
        #expect(latency.min >= 1_990)
    }

    /// Bug: 20 at 100/s were 105/s, since the pause behind the last was no time.
    @Test func aRateIsNoMoreThanWasAskedFor() {
        let schedule = Schedule(clients: 1, loop: .open, rate: 100, operations: 20)
        let result = Load.run(schedule, stop: StopFlag()) { _, _, _ in }
        #expect(RunReport.Row(result, "warm pull", "1 B", schedule).operationsPerSecond <= 100)
        #expect(result.main.latencies.count == 20 && result.seconds >= 0.2)
    }

    /// Of 50 that are due in 50 ms, those that a first one of 60 ms kept from being sent have waited until then.
    @Test func whatAnOpenLoopDidNotSendInTimeCounts() throws {
        let schedule = Schedule(clients: 1, loop: .open, rate: 1_000, seconds: 0.05)
        let result = Load.run(schedule, stop: StopFlag()) { _, _, _ throws(Failure) in
            let start = ContinuousClock.now
            while ContinuousClock.now - start < .milliseconds(60) {}
        }
        #expect(result.main.latencies.count + result.main.unsent.count == 50)
        #expect(result.main.unsent.count >= 49)
        var report = RunReport(label: "", target: "", repository: "", seed: "", startedAt: "", program: "")
        report.add(result, "warm pull", "1 B", schedule)
        let row = report.rows[0]
        #expect(row.operations == result.main.latencies.count && row.latency?.count == 50)
        #expect(try #require(row.latency).p90 >= 10_000 + 49 - 45, "the last is due 49 ms after the start")
        #expect(report.notes.contains { $0.contains("the rate was not held: \(result.main.unsent.count) operations") })
    }

    /// Ten operations of 100 ms, each with a part of 1 ms, of which one takes 1 s: its client would have asked nine times more.
    @Test func aPartIsCorrectedByThePaceOfTheWhole() throws {
        var result = LoadResult()
        var part = Tally()
        for index in 0..<10 {
            result.tallies[nil]?.latencies.record(.milliseconds(100))
            part.latencies.record(.milliseconds(index == 9 ? 1_000 : 1))
        }
        result.tallies["part"] = part
        var report = RunReport(label: "", target: "", repository: "", seed: "", startedAt: "", program: "")
        report.add(result, "image pull", "1 B", Schedule(clients: 1, loop: .closed))
        #expect(report.rows[1].operations == 10)
        #expect(abs(try #require(report.rows[1].latency).count - 19) <= 1)
    }

    private func row(_ latencies: [Int: Int], failed: [Int: Int], _ schedule: Schedule) -> RunReport.Row {
        var result = LoadResult()
        for (microseconds, count) in latencies {
            for _ in 0..<count { result.tallies[nil]?.latencies.record(.microseconds(microseconds)) }
        }
        for (microseconds, count) in failed {
            for _ in 0..<count { result.tallies[nil]?.failed.record(.microseconds(microseconds)) }
            result.tallies[nil]?.failures["status 500"] = (count, "")
        }
        return RunReport.Row(result, "warm pull", "1 B", schedule)
    }

    /// Bug: a stall that ended in an error left the latencies clean.
    @Test(arguments: [Schedule(clients: 1, loop: .closed), Schedule(clients: 16, loop: .open, rate: 50)])
    func aStallThatEndsInAnErrorCounts(schedule: Schedule) throws {
        let row = row([1_000: 225], failed: [1_000_000: 25], schedule)
        let latency = try #require(row.latency)
        #expect(latency.p50 < 1_500 || schedule.loop == .closed)
        #expect(latency.p99 >= 900_000 && latency.max >= 999_000)
        #expect(row.operations == 225 && row.measuredLatency?.count == 225)
        #expect(schedule.loop == .open ? latency.count == 250 : latency.count > 225 + 25 * 900, "what it held up")
    }

    /// A connection that is refused at once is no good latency.
    @Test func failingFastMakesNoLatencyBetter() {
        let schedule = Schedule(clients: 1, loop: .closed)
        let row = row([1_000: 200, 1_500: 20], failed: [100: 5_000], schedule)
        #expect(row.latency == self.row([1_000: 200, 1_500: 20], failed: [:], schedule).latency)
        #expect(row.errorCount == 5_000)
    }

    @Test func howLongAFailureTookIsRecorded() {
        let schedule = Schedule(clients: 1, loop: .closed, operations: 1)
        let result = Load.run(schedule, stop: StopFlag()) { _, recorder, _ throws(Failure) in
            try recorder.measure("part") { () throws(Failure) in throw Failure("status 500", "late") }
        }
        #expect(result.main.failed.count == 1 && result.main.latencies.count == 0)
        #expect(result.tallies["part"]?.failed.count == 1 && result.tallies["part"]?.failures["status 500"]?.count == 1)
    }

    @Test func stoppingIsNoFailure() {
        let stop = StopFlag()
        let result = Load.run(Schedule(clients: 3, loop: .closed), stop: stop) { index, _, _ throws(Failure) in
            if index == 50 { stop.set() }
        }
        #expect(result.main.failures.isEmpty && !result.wasAbandoned)
        #expect(result.main.latencies.count >= 50)
    }

    @Test func roundsAreLaidBehindEachOther() {
        var first = LoadResult()
        first.seconds = 2
        first.bytes = 100
        first.samples.append(.init(seconds: 2, bytes: 100, operations: 1))
        var second = first
        second.tallies[nil]?.failures["x"] = (2, "first")
        first.append(second)
        first.append(second)
        #expect(first.seconds == 6 && first.bytes == 300)
        #expect(first.samples.map(\.seconds) == [0, 2, 4, 6] && first.samples.map(\.bytes) == [0, 100, 200, 300])
        #expect(first.main.failures["x"]?.count == 4)
    }

    @Test func aTimelineHasTheMeansBetweenSamples() {
        let samples = (0...1_000).map {
            LoadResult.Sample(seconds: Double($0), bytes: Int64($0) << 20, operations: $0 * 2)
        }
        let moments = RunReport.Row.timeline(samples)
        #expect(moments.count <= RunReport.Row.momentLimit)
        #expect(moments.allSatisfy { $0.mibPerSecond == 1 && $0.operationsPerSecond == 2 })
        #expect(moments.last?.seconds == 1_000)
        #expect(RunReport.Row.timeline([samples[0]]).isEmpty)
    }
}

@Suite("Challenges")
struct ChallengeTests {
    @Test func readsParametersInAllForms() throws {
        let challenge = try #require(
            Challenge(
                #"Bearer realm="https://auth.example/token" , service=registry,scope="repository:a/b:pull,push",x="q\"q""#
            )
        )
        #expect(challenge.scheme == "bearer")
        #expect(challenge.parameters["realm"] == "https://auth.example/token")
        #expect(challenge.parameters["service"] == "registry")
        #expect(challenge.parameters["scope"] == "repository:a/b:pull,push")
        #expect(challenge.parameters["x"] == "q\"q")
        #expect(Challenge("Basic")?.parameters == [:])
        #expect(Challenge("") == nil)
    }
}

@Suite("Patience")
struct PatienceTests {
    /// Bug: a date counted as no value, and the wait was a second.
    @Test(arguments: [("7", 7.0), ("0.5", 0.5), ("Thu, 23 Apr 2026 08:15:30 GMT", 20), ("soon", nil)])
    func readsNumbersAndDates(text: String, seconds: Double?) {
        #expect(Patience.seconds(text, at: 1_776_932_110) == seconds)
    }
}
