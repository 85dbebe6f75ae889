internal import Synchronization
internal import System
internal import Threading

/// What one kind of operation came to.
struct Tally: Sendable {
    var latencies = LatencyHistogram()
    /// How long those took that failed, or had taken when they were ended.
    var failed = LatencyHistogram()
    /// Of an open loop: how long those had waited at its end that were due and found no client to send them.
    var unsent = LatencyHistogram()
    /// Failures by kind, with the first of each.
    var failures: [String: (count: Int, first: String)] = [:]

    mutating func add(_ other: Tally) {
        latencies.add(other.latencies)
        failed.add(other.failed)
        unsent.add(other.unsent)
        failures.merge(other.failures) { ($0.count + $1.count, $0.first) }
    }
}

/// Collects tallies from all threads: the operation's own under `nil`, those of its parts under their names.
final class Recorder: Sendable {
    let meter = Meter()
    private let tallies = Mutex<[String?: Tally]>([nil: Tally()])
    private let bytes = Mutex<[Int: Int64]>([:])

    /// The bytes of operations that succeeded, by the sample in which they passed.
    var bytesBySample: [Int: Int64] { bytes.withLock { $0 } }

    func record(_ passage: Passage) {
        let passed = passage.bytesBySample
        bytes.withLock { $0.merge(passed, uniquingKeysWith: +) }
    }

    func record(_ latency: Duration, part: String? = nil) {
        tallies.withLock { $0[part, default: Tally()].latencies.record(latency) }
    }

    func recordUnsent(_ wait: Duration, count: Int = 1) {
        tallies.withLock { $0[nil, default: Tally()].unsent.record(wait, count: count) }
    }

    /// An operation that was ended by who runs the benchmark.
    func recordCut(_ wait: Duration) {
        tallies.withLock { $0[nil, default: Tally()].failed.record(wait) }
    }

    func record(_ failure: Failure, after time: Duration, part: String? = nil) {
        tallies.withLock { tallies in
            tallies[part, default: Tally()].failed.record(time)
            tallies[part, default: Tally()].failures[failure.kind, default: (0, failure.detail)].count += 1
        }
    }

    /// Records how long a part of an operation takes, and whether it fails.
    func measure(_ part: String, _ body: () throws(Failure) -> Void) throws(Failure) {
        let start = ContinuousClock.now
        do throws(Failure) {
            try body()
            record(ContinuousClock.now - start, part: part)
        } catch {
            if !error.isCancellation { record(error, after: ContinuousClock.now - start, part: part) }
            throw error
        }
    }

    var all: [String?: Tally] { tallies.withLock { $0 } }
}

/// When to send, and when to end.
struct Schedule: Sendable {
    var clients: Int
    var loop: RunReport.Loop
    /// Of an open loop, in operations per second.
    var rate: Double?
    /// At most so many operations; `nil` is no limit. A burst has one for each client.
    var operations: Int?
    var seconds: Double = .infinity

    /// So many failures one after the other end it, once they have gone on for so long: nothing is left to measure. A shorter outage is what the row
    /// is to show.
    static let failureLimit = 64
    var patience: Duration = .seconds(5)
    /// A client of a closed loop that was refused does not ask again at once, as no client would.
    static let pauseAfterFailure: Duration = .milliseconds(10)
}

/// What came of a schedule.
struct LoadResult: Sendable {
    var tallies: [String?: Tally] = [nil: Tally()]
    var bytes: Int64 = 0
    var seconds = 0.0
    var cpuSeconds = 0.0
    var samples: [Sample] = [Sample(seconds: 0, bytes: 0, operations: 0)]
    var wasAbandoned = false

    /// Totals at a moment.
    struct Sample: Sendable {
        var seconds: Double
        var bytes: Int64
        var operations: Int
        var failures = 0
    }

    var main: Tally { tallies[nil] ?? Tally() }

    /// Leaves in the samples only these bytes: what was refused or broke off is no throughput.
    mutating func count(_ bytesBySample: [Int: Int64]) {
        for index in samples.indices {
            bytes += bytesBySample[index] ?? 0
            samples[index].bytes = bytes
        }
    }

    /// Puts `next` behind this.
    mutating func append(_ next: LoadResult) {
        tallies.merge(next.tallies) { first, second in
            var sum = first
            sum.add(second)
            return sum
        }
        let last = samples[samples.count - 1]
        samples += next.samples.dropFirst().map {
            Sample(
                seconds: seconds + $0.seconds,
                bytes: last.bytes + $0.bytes,
                operations: last.operations + $0.operations
            )
        }
        bytes += next.bytes
        seconds += next.seconds
        cpuSeconds += next.cpuSeconds
        wasAbandoned = wasAbandoned || next.wasAbandoned
    }
}

/// Lets clients loose: a thread and a connection for each.
final class Load: Sendable {
    typealias Operation = @Sendable (Int, Recorder, Passage) throws(Failure) -> Void

    private struct Progress {
        var ready = 0
        var running: Int
        var start: ContinuousClock.Instant?
    }

    private let schedule: Schedule
    private let stop: StopFlag
    private let operation: Operation
    private let recorder = Recorder()
    private let next = Atomic<Int>(0)
    private let failuresInARow = Atomic<Int>(0)
    private let firstInARow = Mutex<ContinuousClock.Instant?>(nil)
    private let progress: Monitor<Progress>
    private let lastEnd: Mutex<ContinuousClock.Instant>

    private init(_ schedule: Schedule, stop: StopFlag, operation: @escaping Operation) {
        self.schedule = schedule
        self.stop = stop
        self.operation = operation
        progress = Monitor(Progress(running: schedule.clients))
        lastEnd = Mutex(.now)
    }

    /// Blocks until all is done. `onSample` hears of totals ten times a second.
    static func run(
        _ schedule: Schedule,
        stop: StopFlag,
        onSample: (LoadResult.Sample) -> Void = { _ in },
        operation: @escaping Operation
    ) -> LoadResult {
        Load(schedule, stop: stop, operation: operation).run(onSample)
    }

    private func run(_ onSample: (LoadResult.Sample) -> Void) -> LoadResult {
        for index in 0..<schedule.clients {
            spawnThread(name: "bench-client") { self.serve(index) }
        }
        _ = progress.wait { $0.ready == self.schedule.clients ? true : nil }
        let cpu = processCPUTime()
        let start = ContinuousClock.now
        lastEnd.withLock { $0 = start }
        progress.update { $0.start = start }
        var result = LoadResult()
        while progress.wait(until: .after(.milliseconds(100)), for: { $0.running == 0 ? true : nil }) == nil {
            let sample = sample(at: .now - start)
            result.samples.append(sample)
            recorder.meter.sampleNumber = result.samples.count
            onSample(sample)
        }
        // A stall that somebody ended is part of what was measured.
        let elapsed = (stop.isSet ? ContinuousClock.now : lastEnd.withLock { $0 }) - start
        recordUnsent(until: min(elapsed.inSeconds, schedule.seconds))
        result.samples.append(sample(at: elapsed))
        result.cpuSeconds = (processCPUTime() - cpu).inSeconds
        result.count(recorder.bytesBySample)
        result.tallies = recorder.all
        result.seconds = max(elapsed.inSeconds, secondsDue(result.main))
        result.wasAbandoned = isHopeless
        return result
    }

    /// Of an open loop: what was due took so long, the pause behind the last included. Without it, twenty at 100/s would be 105/s.
    private func secondsDue(_ tally: Tally) -> Double {
        let count = tally.latencies.count + tally.failed.count + tally.unsent.count
        return schedule.rate.map { Double(count) / $0 } ?? 0
    }

    private func sample(at elapsed: Duration) -> LoadResult.Sample {
        LoadResult.Sample(
            seconds: elapsed.inSeconds,
            bytes: recorder.meter.bytes,
            operations: recorder.meter.operations,
            failures: recorder.meter.failures
        )
    }

    private var isHopeless: Bool {
        guard failuresInARow.load(ordering: .relaxed) >= Schedule.failureLimit else { return false }
        return firstInARow.withLock { first in first.map { .now - $0 >= schedule.patience } ?? false }
    }

    /// What an open loop owes at its end: leaving out what a stall kept from being sent would omit it in coordination. What was due at about the same
    /// time is recorded as one, so that a rate nobody holds takes no longer than another.
    private func recordUnsent(until end: Double) {
        guard let rate = schedule.rate, !isHopeless else { return }
        let due = min(Int((end * rate).rounded(.up)), schedule.operations ?? .max)
        let first = next.load(ordering: .relaxed)
        let step = max(1, (due - first) / 1_000)
        for index in stride(from: first, to: due, by: step) {
            recorder.recordUnsent(.seconds(end - Double(index) / rate), count: min(step, due - index))
        }
    }

    private func serve(_ client: Int) {
        progress.update { $0.ready += 1 }
        if let start = progress.wait(for: { $0.start }) {
            if schedule.loop == .burst {
                perform(client, since: start)
            } else {
                ask(from: start)
            }
        }
        progress.update { $0.running -= 1 }
    }

    private func ask(from start: ContinuousClock.Instant) {
        while !stop.isSet, !isHopeless {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            if let operations = schedule.operations, index >= operations { return }
            var due = ContinuousClock.now
            if let rate = schedule.rate {
                due = start + .seconds(Double(index) / rate)
                guard (due - start).inSeconds < schedule.seconds, wait(until: due) else { return }
            }
            let now = ContinuousClock.now
            if (now - start).inSeconds >= schedule.seconds {
                if schedule.rate != nil { recorder.recordUnsent(now - due) }
                return
            }
            if !perform(index, since: due), schedule.loop == .closed { pauseThread(Schedule.pauseAfterFailure) }
        }
    }

    /// False when the run was stopped meanwhile.
    private func wait(until due: ContinuousClock.Instant) -> Bool {
        while !stop.isSet {
            let left = due - .now
            if left <= .zero { return true }
            pauseThread(min(left, .milliseconds(200)))
        }
        return false
    }

    /// False when it failed.
    @discardableResult
    private func perform(_ index: Int, since due: ContinuousClock.Instant) -> Bool {
        defer { lastEnd.withLock { $0 = max($0, .now) } }
        let passage = Passage(recorder.meter)
        do throws(Failure) {
            try operation(index, recorder, passage)
            recorder.record(ContinuousClock.now - due)
            recorder.record(passage)
            recorder.meter.addOperation()
            failuresInARow.store(0, ordering: .relaxed)
            return true
        } catch {
            let time = ContinuousClock.now - due
            // Whoever was waiting when somebody ended it has waited.
            guard !error.isCancellation else {
                recorder.recordCut(time)
                return false
            }
            recorder.record(error, after: time)
            recorder.meter.addFailure()
            if failuresInARow.wrappingAdd(1, ordering: .relaxed).newValue == 1 { firstInARow.withLock { $0 = .now } }
            return false
        }
    }
}

extension Duration {
    var inSeconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}
