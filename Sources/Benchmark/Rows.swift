// How results become rows.

extension RunReport {
    /// A row for the operation, and one for each of its parts.
    mutating func add(_ result: LoadResult, _ name: String, _ detail: String, _ schedule: Schedule) {
        rows.append(Row(result, name, detail, schedule))
        for (kind, failure) in result.main.failures.sorted(by: { $0.key < $1.key }) {
            notes.append("\(name), \(detail): \(kind) × \(failure.count), the first: \(failure.first)")
        }
        if result.wasAbandoned {
            let seconds = shortText(schedule.patience.inSeconds)
            notes.append("\(name), \(detail): ended, as for \(seconds) seconds nothing succeeded")
        }
        if result.main.unsent.count > 0 {
            notes.append(
                "\(name), \(detail): the rate was not held: \(result.main.unsent.count) operations were due and found no client free "
                    + "before the end; what they had waited by then counts as their latency"
            )
        }
        let pace = Double(result.main.latencies.microseconds(atPercentile: 50))
        let parts = result.tallies.compactMap { part, tally in part.map { ($0, tally) } }.sorted { $0.0 < $1.0 }
        for (part, tally) in parts {
            var own = LoadResult()
            own.tallies = [nil: tally]
            own.seconds = result.seconds
            // Of a part that comes several times in an operation, a client asks as much more often.
            let interval = pace * Double(result.main.latencies.count) / Double(max(1, tally.latencies.count))
            var row = Row(own, "\(name): \(part)", detail, schedule, interval: UInt64(interval))
            row.isPart = true
            rows.append(row)
        }
    }
}

extension RunReport.Row {
    /// Fewer operations of each client than this make no usual pace to correct by.
    static let operationsToCorrect = 10
    /// Points of a timeline.
    static let momentLimit = 100

    /// - Parameter interval: the usual one between two requests of a client, in microseconds; `nil` is the median latency.
    init(_ result: LoadResult, _ name: String, _ detail: String, _ schedule: Schedule, interval: UInt64? = nil) {
        let tally = result.main
        let operations = tally.latencies.count
        let seconds = max(result.seconds, 1e-6)
        let isCorrected = schedule.loop == .closed && operations >= Self.operationsToCorrect * schedule.clients
        let measured = tally.latencies.summary()
        let usual = tally.latencies.microseconds(atPercentile: 50)
        var complete = tally.latencies
        // A stall that ends in an error is one all the same; a quick refusal is not to make latencies look better.
        if operations > 0 { complete.add(tally.failed, above: usual) }
        if isCorrected { complete = complete.corrected(interval: interval ?? usual) }
        complete.add(tally.unsent)
        let latency = complete.summary()
        self.init(
            name: name,
            detail: detail,
            clients: schedule.clients,
            loop: schedule.loop,
            rate: schedule.rate,
            operations: operations,
            errors: tally.failures.mapValues(\.count),
            bytes: result.bytes,
            seconds: result.seconds.rounded(toPlaces: 6),
            mibPerSecond: (Double(result.bytes) / 1_048_576 / seconds).rounded(toPlaces: 3),
            operationsPerSecond: (Double(operations) / seconds).rounded(toPlaces: 3),
            latency: latency,
            measuredLatency: latency == measured ? nil : measured,
            timeline: Self.timeline(result.samples),
            clientCPUSeconds: result.cpuSeconds.rounded(toPlaces: 6)
        )
    }

    /// Nothing was done.
    init(_ name: String, detail: String, failure: String, clients: Int) {
        self.init(LoadResult(), name, detail, Schedule(clients: clients, loop: .closed))
        errors = [failure: 1]
    }

    /// Means between samples, of which neighbours are taken together when there are many.
    static func timeline(_ samples: [LoadResult.Sample]) -> [RunReport.Moment] {
        let step = max(1, (samples.count + momentLimit - 1) / momentLimit)
        var moments: [RunReport.Moment] = []
        var last = samples[0]
        for index in stride(from: step, to: samples.count + step - 1, by: step) {
            let sample = samples[min(index, samples.count - 1)]
            let seconds = sample.seconds - last.seconds
            // A last stretch that is very short tells of noise only.
            guard seconds > 0.05 || moments.isEmpty && seconds > 0 else { continue }
            moments.append(
                RunReport.Moment(
                    seconds: sample.seconds.rounded(toPlaces: 3),
                    mibPerSecond: (Double(sample.bytes - last.bytes) / 1_048_576 / seconds).rounded(toPlaces: 2),
                    operationsPerSecond: (Double(sample.operations - last.operations) / seconds).rounded(toPlaces: 2)
                )
            )
            last = sample
        }
        return moments
    }
}
