internal import HTTPClient
internal import Synchronization
internal import System

/// A run of a ``Plan`` against a registry.
public final class Run {
    let plan: Plan
    let stop: StopFlag
    let maker: ContentMaker
    private(set) var target: RegistryClient
    /// The target, for what is not measured.
    private(set) var patientTarget: RegistryClient
    /// Where content is pushed that is pulled through the target.
    private(set) var source: RegistryClient
    let ledger = Ledger()
    private var report: RunReport
    private let clients: [Client]
    private let progress: (String) -> Void
    /// Blobs that are in the target, by size: those of the warm pulls.
    private var stock: [Int64: [Content]] = [:]

    /// Nothing can be measured.
    public struct Impossible: Error, CustomStringConvertible {
        public let description: String
    }

    /// - Parameters:
    ///   - program: name and version.
    ///   - stop: ends the run early; what was pushed is deleted all the same.
    ///   - progress: hears one line now and then.
    public init(
        _ plan: Plan,
        program: String,
        stop: StopFlag,
        progress: @escaping (String) -> Void
    ) throws(Impossible) {
        func client(_ plan: Plan) throws(Impossible) -> Client {
            var configuration = ClientConfiguration()
            configuration.maxConnections = (plan.clients.max() ?? 1) + 8
            configuration.stallSeconds = 60
            configuration.certificateAuthorityFile = plan.certificateAuthorityFile
            configuration.userAgent = "forebay-bench"
            do throws(TransferError) {
                return try Client(configuration)
            } catch {
                throw Impossible(description: error.description)
            }
        }
        self.plan = plan
        self.stop = stop
        self.progress = progress
        maker = ContentMaker(seed: plan.seed, stop: stop)
        let first = try client(plan)
        target = RegistryClient(
            plan.target,
            repository: plan.repository,
            credentials: plan.credentials,
            client: first,
            stop: stop,
            timeoutMilliseconds: plan.requestSeconds.map { max(1, Int($0 * 1_000)) }
        )
        patientTarget = RegistryClient(patient: target)
        if let origin = plan.origin {
            let second = try client(plan)
            let registry = RegistryClient(
                origin,
                repository: plan.repository,
                credentials: plan.originCredentials,
                client: second,
                stop: stop
            )
            source = RegistryClient(patient: registry)
            clients = [first, second]
        } else {
            source = patientTarget
            clients = [first]
        }
        report = RunReport(
            label: plan.label,
            target: plan.target.description,
            origin: plan.origin?.description,
            repository: plan.repository,
            seed: maker.seedText,
            startedAt: SystemTime().wallTime().rfc3339,
            program: program,
            machine: describeMachine(),
            isVerified: plan.isVerified
        )
        report.plan = plan.summary
    }

    /// Blocks until all workloads are through and what they pushed is deleted.
    ///
    /// - Throws: ``Impossible`` when the registry cannot be reached, or lets nobody in.
    public func execute() throws(Impossible) -> RunReport {
        defer { for client in clients { client.close() } }
        try findTarget()
        if plan.origin != nil, let there = try check(source) { source = there }
        for workload in plan.workloads where !stop.isSet { execute(workload) }
        report.isInterrupted = stop.isSet
        cleanUp()
        return report
    }

    /// Where redirects lead to is what is measured, when it is the same host: elsewhere a redirect for each request is part of it.
    private func findTarget() throws(Impossible) {
        guard let there = try check(patientTarget) else { return }
        target = RegistryClient(target, movedTo: there)
        patientTarget = there
        if plan.origin == nil { source = there }
        explain("\(plan.target) redirects to \(there.target), which was measured")
    }

    /// Returns the registry where it has moved to, checked as well.
    private func check(_ registry: RegistryClient) throws(Impossible) -> RegistryClient? {
        guard !stop.isSet else { return nil }
        progress("waiting for \(registry.target)")
        do throws(Failure) {
            guard let place = try registry.check() else { return nil }
            let there = RegistryClient(registry, movedTo: place)
            if let next = try there.check() {
                throw Failure("too many redirects", "\(place) redirects to \(next): use that URL")
            }
            return there
        } catch {
            guard !stop.isSet else { return nil }
            throw Impossible(description: "no registry at \(registry.target): \(error)\(error.advice)")
        }
    }

    private func cleanUp() {
        if plan.isPushed {
            let hasFound = report.rows.contains { $0.operations > 0 }
            return explain(
                "nothing was pushed: \(hasFound ? "what was pulled was there" : "no content of this seed was found")"
            )
        }
        if plan.isKept { report.notes.append("kept in \(plan.repository), as --keep says") }
        let remains = ledger.clean(plan.isKept ? [.session] : Ledger.Kind.allCases, progress: progress)
        report.notes += remains.notes
        report.left = remains.count > 0 ? remains.count : nil
    }

    /// What cannot be prepared is a row with its error, and the next is tried all the same.
    func attempt(_ workload: Workload, _ detail: String, _ clients: Int, _ body: () throws(Failure) -> Void) {
        do throws(Failure) {
            try body()
        } catch {
            guard !error.isCancellation else { return }
            report.rows.append(
                RunReport.Row(workload.title, detail: detail, failure: error.kind, clients: clients)
            )
            explain("\(workload.title), \(detail), could not be prepared: \(error)")
        }
    }

    /// Says something once, however often it applies.
    func explain(_ note: String) {
        if !report.notes.contains(note) { report.notes.append(note) }
    }

    /// Lets `schedule` loose and adds its rows.
    func measure(
        _ name: String,
        _ detail: String,
        _ schedule: Schedule,
        repeating rounds: Int = 1,
        operation: @escaping @Sendable (_ round: Int, _ index: Int, Recorder, Passage) throws(Failure) -> Void
    ) {
        var result = LoadResult()
        for round in 0..<rounds where !stop.isSet && !result.wasAbandoned {
            let next = Load.run(schedule, stop: stop) { [progress] sample in
                progress(Self.line(name, detail, schedule, sample))
            } operation: { index, recorder, passage throws(Failure) in
                try operation(round, index, recorder, passage)
            }
            result.append(next)
        }
        // Ended before anything was done.
        if stop.isSet, result.main.latencies.count == 0, result.main.failures.isEmpty { return }
        report.add(result, name, detail, schedule)
    }

    private static func line(
        _ name: String,
        _ detail: String,
        _ schedule: Schedule,
        _ sample: LoadResult.Sample
    ) -> String {
        let speed = Double(sample.bytes) / 1_048_576 / max(sample.seconds, 0.001)
        let what = "\(name), \(detail), \(schedule.clients) client\(schedule.clients == 1 ? "" : "s")"
        let end = schedule.seconds < .infinity ? " of \(shortText(schedule.seconds))" : ""
        let failed = sample.failures > 0 ? ", \(sample.failures) failed" : ""
        return
            "\(what): \(shortText(sample.seconds))\(end) s, \(sample.operations) done\(failed), \(shortText(speed)) MiB/s"
    }

    /// Makes blobs and pushes them to `registry`, unmeasured.
    func push(_ lengths: [Int64], to registry: RegistryClient, for workload: Workload) throws(Failure) -> [Content] {
        let contents = try make(lengths, for: workload)
        try push(contents, to: registry, for: workload)
        return contents
    }

    func make(_ lengths: [Int64], for workload: Workload) throws(Failure) -> [Content] {
        try maker.make(lengths, onSample: preparing(workload, "making", lengths.count))
    }

    func push(_ contents: [Content], to registry: RegistryClient, for workload: Workload) throws(Failure) {
        guard !plan.isPushed else { return }
        try forEach(contents, preparing(workload, "pushing", contents.count)) {
            [ledger] content, passage throws(Failure) in
            try registry.push(content, passage: passage, ledger: ledger)
        }
    }

    /// Shows how far a preparation has come.
    func preparing(_ workload: Workload, _ what: String, _ count: Int) -> (LoadResult.Sample) -> Void {
        let show = { [progress] (sample: LoadResult.Sample) in
            let size = sizeText(sample.bytes)
            progress("preparing \(workload.title): \(what), \(sample.operations) of \(count) done, \(size)")
        }
        show(LoadResult.Sample(seconds: 0, bytes: 0, operations: 0))
        return show
    }

    /// What is pulled through the target and was pushed elsewhere is there twice.
    func noteCopies(of urls: [String]) {
        guard plan.origin != nil else { return }
        for url in urls { ledger.note(.copy, url, in: target) }
    }

    /// Does something unmeasured to each, on a few connections. Throws the first failure that stayed one.
    func forEach<Element: Sendable>(
        _ elements: [Element],
        _ onSample: (LoadResult.Sample) -> Void,
        _ body: @escaping @Sendable (Element, Passage) throws(Failure) -> Void
    ) throws(Failure) {
        guard !elements.isEmpty else { return }
        let schedule = Schedule(clients: min(8, elements.count), loop: .closed, operations: elements.count)
        let first = Mutex<Failure?>(nil)
        _ = Load.run(schedule, stop: stop, onSample: onSample) { index, _, passage throws(Failure) in
            do throws(Failure) {
                try insisting { () throws(Failure) in try body(elements[index], passage) }
            } catch {
                first.withLock { $0 = $0 ?? error }
                throw error
            }
        }
        if let failure = first.withLock({ $0 }) { throw failure }
    }

    /// `plan.count` blobs of a size that have been pulled through the target. What they hold is for the measured pulls to tell.
    func warmStock(_ size: Int64, for workload: Workload) throws(Failure) -> [Content] {
        if let stocked = stock[size] { return stocked }
        let contents = try push(Array(repeating: size, count: plan.count), to: source, for: workload)
        noteCopies(of: contents.map { target.blobURL($0.digest) })
        try forEach(contents, preparing(workload, "pulling", contents.count)) {
            [patientTarget] content, passage throws(Failure) in
            do throws(Failure) {
                try patientTarget.pull(content, isVerified: false, passage: passage)
            } catch {
                guard error.isWrongLength else { throw error }
            }
        }
        stock[size] = contents
        return contents
    }
}
