import Benchmark
import Synchronization
import TestDoubles
import Testing
import Threading

@Suite("Runs against a registry")
struct RunTests {
    private func plan(_ registry: FakeRegistry, _ change: (inout Plan) -> Void = { _ in }) throws -> Plan {
        var plan = try Plan(target: Target(registry.url), seed: 0xbe)
        plan.sizes = [3_000]
        plan.count = 3
        plan.clients = [2]
        plan.requests = 6
        plan.rounds = 2
        plan.rangeSize = 500
        plan.images = 2
        plan.imageSize = 20_000
        change(&plan)
        try plan.check()
        return plan
    }

    private func run(_ plan: Plan, stop: StopFlag = StopFlag()) throws -> RunReport {
        try Run(plan, program: "test", stop: stop, progress: { _ in }).execute()
    }

    private func row(_ report: RunReport, _ name: String) throws -> RunReport.Row {
        try #require(report.rows.first { $0.name == name }, "no \(name) among \(report.rows.map(\.name))")
    }

    @Test func eachWorkloadMovesItsBytesAndNothingIsLeft() throws {
        let registry = try FakeRegistry()
        let report = try run(plan(registry))
        #expect(report.errorCount == 0, "\(report.notes)")
        for name in ["push", "cold pull", "warm pull"] {
            let row = try row(report, name)
            #expect(row.operations == 6 && row.bytes == 18_000 && row.detail == "2.9 KiB" && row.clients == 2)
            #expect(row.latency?.count == 6 && row.loop == .closed)
        }
        let herd = try row(report, "herd")
        #expect(herd.operations == 4 && herd.bytes == 12_000 && herd.loop == .burst, "two clients, two rounds")
        let range = try row(report, "range read")
        #expect(range.operations == 6 && range.bytes == 3_000)
        #expect(try row(report, "image pull").operations == 6)
        #expect(try row(report, "image pull: manifest by digest").operations == 6)
        #expect(try row(report, "image pull: config or layer").operations == 6 * 8)
        #expect(registry.isEmpty, "\(registry.contents.blobs.keys) \(registry.contents.manifests.keys)")
        #expect(report.notes.contains { $0.hasPrefix("cold: the first pull of a blob after its push") })
    }

    @Test func theSameSeedPushesTheSame() throws {
        let digests = try (0..<2).map { _ in
            let registry = try FakeRegistry()
            _ = try run(plan(registry) { $0.isKept = true })
            return (registry.contents.blobs.keys.sorted(), registry.contents.manifests.keys.sorted())
        }
        #expect(digests[0] == digests[1])
        #expect(!digests[0].0.isEmpty && digests[0].1.count == 4, "two images by tag and digest")
    }

    @Test(arguments: [Workload.cold, .warm, .herd])
    func aDamagedBlobIsAnError(workload: Workload) throws {
        // The warm pulls come after one unmeasured pull of each of the three blobs.
        let registry = try FakeRegistry(.init(damagedPull: workload == .warm ? 5 : 2))
        let report = try run(plan(registry) { $0.workloads = [workload] })
        #expect(try row(report, workload.title).errors == ["wrong bytes": 1])
        #expect(report.notes.contains { $0.contains("wrong bytes × 1") && $0.contains("sha256:") })
        #expect(registry.isEmpty)
    }

    /// Bug: the parts of image pulls had no errors, whatever bytes came.
    @Test func aDamagedLayerIsAnErrorOfItsPart() throws {
        let registry = try FakeRegistry(.init(damagedPull: 2))
        let report = try run(plan(registry) { $0.workloads = [.mixed] })
        #expect(try row(report, "image pull").errors == ["wrong bytes": 1])
        #expect(try row(report, "image pull: config or layer").errors == ["wrong bytes": 1])
        #expect(report.errorCount == 1, "it is one failed operation")
    }

    /// Bug: a wrong length of one blob while a row was prepared was all that the row told.
    @Test func aWrongLengthIsForTheMeasuredPullsToTell() throws {
        let registry = try FakeRegistry(.init(shortPull: 2))
        let report = try run(plan(registry) { $0.workloads = [.warm] })
        #expect(try row(report, "warm pull").operations == 6 && report.errorCount == 0, "\(report.notes)")
    }

    @Test func withoutVerificationDamageIsNotSeen() throws {
        let registry = try FakeRegistry(.init(damagedPull: 2))
        let report = try run(
            plan(registry) {
                $0.workloads = [.cold]
                $0.isVerified = false
            }
        )
        #expect(report.errorCount == 0 && !report.isVerified)
    }

    @Test func aRangeThatComesAsTheWholeIsAnError() throws {
        let registry = try FakeRegistry(.init(ignoresRanges: true))
        let report = try run(plan(registry) { $0.workloads = [.range] })
        #expect(try row(report, "range read").errors == ["range ignored": 6])
    }

    /// Bug: without verification the bytes of another range were taken for those asked for.
    @Test(arguments: ["bytes 0-498/3000", "bytes 1-500/2999", ""])
    func aPartOfAnotherRangeIsAnError(contentRange: String) throws {
        let registry = try FakeRegistry(.init(contentRange: contentRange))
        let report = try run(
            plan(registry) {
                $0.workloads = [.range]
                $0.isVerified = false
            }
        )
        #expect(try row(report, "range read").errors == ["wrong range": 6], "\(report.notes)")
    }

    /// Bug: what a registry said to a failed pull of a blob was not shown, as it was for manifests.
    @Test func aRefusedPullTellsTheRegistrysWords() throws {
        let registry = try FakeRegistry(.init(pullStatus: 403))
        let report = try run(plan(registry) { $0.workloads = [.cold] })
        #expect(report.notes.contains { $0.contains("status 403 × 6") && $0.contains("DENIED") }, "\(report.notes)")
    }

    @Test func statusesAreCounted() throws {
        let registry = try FakeRegistry(.init(pullStatus: 503))
        let report = try run(plan(registry) { $0.workloads = [.cold] })
        let row = try row(report, "cold pull")
        #expect(row.errors == ["status 503": 6] && row.operations == 0 && row.latency == nil)
    }

    @Test(arguments: [Workload.warm, .range])
    func whatFailsNowAndThenIsMeasuredAllTheSame(workload: Workload) throws {
        let registry = try FakeRegistry(.init(failsOneOf: 2))
        let report = try run(plan(registry) { $0.workloads = [workload] })
        let row = report.rows[0]
        #expect(row.operations == 3 && row.errors == ["status 500": 3], "\(report.notes)")
        #expect(registry.isEmpty)
    }

    /// Bug: 16 pushes that were all answered with 413 had 1275 MiB/s.
    @Test func whatIsRefusedIsNoThroughput() throws {
        let registry = try FakeRegistry(.init(pushStatus: 413))
        let row = try row(run(plan(registry) { $0.workloads = [.push] }), "push")
        #expect(row.errors == ["status 413": 6] && row.bytes == 0 && row.mibPerSecond == 0)
        #expect(row.timeline.allSatisfy { $0.mibPerSecond == 0 })
    }

    /// Bug: a body that was sent again, since it was redirected or challenged, counted twice.
    @Test func aBodyThatIsSentAgainCountsOnce() throws {
        let registry = try FakeRegistry(.init(redirectsPushes: true))
        let report = try run(plan(registry) { $0.workloads = [.push] })
        let row = try row(report, "push")
        #expect(row.operations == 6 && row.bytes == 18_000, "\(report.notes)")
    }

    @Test func aSessionWhosePushFailedIsTakenBack() throws {
        let registry = try FakeRegistry(.init(pushStatus: 500))
        let report = try run(plan(registry) { $0.workloads = [.push] })
        #expect(try row(report, "push").errors == ["status 500": 6])
        let lines = registry.contents.requests.map(\.line)
        #expect(lines.count { $0.hasPrefix("DELETE") && $0.contains("/uploads/") } == 6, "\(lines)")
    }

    /// Bug: an interrupt ended the POST before its answer, and the session that it had opened stayed.
    @Test func anInterruptTakesSessionsBack() throws {
        let stop = StopFlag()
        let registry = try FakeRegistry(.init(onRequest: { if $0.hasPrefix("POST") { stop.set() } }))
        let report = try run(plan(registry) { $0.workloads = [.push] }, stop: stop)
        #expect(report.isInterrupted && report.errorCount == 0 && report.left == nil, "\(report.notes)")
        let lines = registry.contents.requests.map(\.line)
        let sessions = lines.count { $0.hasPrefix("POST") }
        let takenBack = lines.count { $0.hasPrefix("DELETE") && $0.contains("/uploads/") }
        #expect(sessions > 0 && takenBack == sessions, "\(lines)")
        #expect(!lines.contains { $0.hasPrefix("PUT") })
    }

    /// Bug: an interrupt cut off pushes whose body was out: the registry kept the blobs, and nothing was said.
    @Test func anInterruptAwaitsTheAnswerToAWholePush() throws {
        let (stop, isTakenBack) = (StopFlag(), Monitor(false))
        var behaviour = FakeRegistry.Behaviour()
        behaviour.onRequest = { line in
            if line.hasPrefix("DELETE"), line.contains("/uploads/") { isTakenBack.update { $0 = true } }
        }
        behaviour.onPush = {
            stop.set()
            // Longer than it takes a client to notice.
            _ = isTakenBack.wait(until: .after(.milliseconds(1_500))) { $0 ? true : nil }
        }
        let registry = try FakeRegistry(behaviour)
        let report = try run(
            plan(registry) {
                $0.workloads = [.push]
                $0.clients = [1]
            },
            stop: stop
        )
        #expect(report.isInterrupted && report.left == nil && registry.isEmpty, "\(report.notes)")
        #expect(try row(report, "push").operations == 1)
        #expect(!registry.contents.requests.contains { $0.line.contains("DELETE") && $0.line.contains("/uploads/") })
    }

    /// Bug: a push that got no answer was looked for once, and what the registry kept later stayed.
    @Test(arguments: [true, false])
    func whatAppearsLateIsDeletedOrSaidToBeLeft(appears: Bool) throws {
        let gate = Gate()
        let deletes = Mutex(0)
        var behaviour = FakeRegistry.Behaviour()
        behaviour.onPush = { gate.pass() }
        behaviour.onRequest = { line in
            guard line.hasPrefix("DELETE"), line.contains("sha256:") else { return }
            let number = deletes.withLock {
                $0 += 1
                return $0
            }
            if appears, number == 2 { gate.open() }
        }
        let registry = try FakeRegistry(behaviour)
        defer { gate.open() }
        let report = try run(
            plan(registry) {
                $0.workloads = [.push]
                ($0.clients, $0.requests, $0.requestSeconds) = ([1], 1, 0.5)
            }
        )
        #expect(try row(report, "push").errors == ["timeout": 1])
        #expect(registry.isEmpty && deletes.withLock { $0 } >= 2)
        #expect(report.left == (appears ? nil : 1))
        let says = report.notes.contains {
            $0.hasPrefix("may be left in") && $0.hasSuffix("1 object, whose push was not answered")
        }
        #expect(says != appears, "\(report.notes)")
    }

    /// Bug: any 404 to the DELETE of a session counted as "not there", also that for one which had taken bytes, and it stayed.
    @Test(arguments: [true, false])
    func aSessionThatHasTakenBytesIsFoundOrSaidToBeLeft(tellsWhere: Bool) throws {
        let registry = try FakeRegistry(.init(sessionsMove: true, sessionsTellWhere: tellsWhere, pushStatus: 500))
        let report = try run(
            plan(registry) {
                $0.workloads = [.push]
                ($0.clients, $0.requests) = ([1], 1)
            }
        )
        #expect(registry.contents.sessions.isEmpty == tellsWhere && report.left == (tellsWhere ? nil : 1))
        let says = report.notes.contains {
            $0.contains("1 upload session, since a delete failed: status 404 BLOB_UPLOAD_INVALID")
        }
        #expect(says != tellsWhere, "\(report.notes)")
    }

    /// Bug: with a URL in its query, a place was taken for an absolute one, and without a leading slash for one below the root.
    @Test(arguments: ["/v2/x/blobs/uploads/1?from=http://h/", "s1?state=1", "./s1", "//HOST/v2/x/blobs/uploads/1"])
    func aSessionIsWhereItsLocationSays(location: String) throws {
        let host = Mutex("")
        let registry = try FakeRegistry(
            .init(sessionLocation: { number in
                location.replacing("1", with: String(number)).replacing("HOST", with: host.withLock { $0 })
            })
        )
        host.withLock { $0 = String(registry.url.dropFirst("http://".count)) }
        let report = try run(plan(registry) { $0.workloads = [.push] })
        #expect(report.isFlawless, "\(report.notes)")
        let puts = registry.contents.requests.map(\.line).filter { $0.hasPrefix("PUT") }
        let folder = location.contains("s1") ? "/v2/forebay-bench/blobs/uploads/s" : "/v2/x/blobs/uploads/"
        #expect(puts.count == 6 && puts.allSatisfy { $0.hasPrefix("PUT \(folder)") }, "\(puts)")
    }

    /// Bug: it was told as "status 202", and the session that was open then not at all.
    @Test func aSessionWithoutALocationIsSaidToBeLeft() throws {
        let registry = try FakeRegistry(.init(sessionLocation: { _ in nil }))
        let report = try run(plan(registry) { $0.workloads = [.push] })
        #expect(try row(report, "push").errors == ["no Location": 6] && report.left == 6)
        #expect(report.notes.contains { $0.contains("no Location in the answer") }, "\(report.notes)")
        #expect(report.notes.contains { $0.hasSuffix("6 upload sessions, whose place was not told") })
    }

    /// Bug: a session that the registry still worked on was left.
    @Test func aSessionInUseIsTakenBackALittleLater() throws {
        let registry = try FakeRegistry(.init(pushStatus: 500, firstAnswers: ["DELETE": (count: 2, status: 409)]))
        let report = try run(
            plan(registry) {
                $0.workloads = [.push]
                ($0.clients, $0.requests) = ([1], 1)
            }
        )
        #expect(report.left == nil, "\(report.notes)")
    }

    /// Bug: nothing limited a request, and a run of 3 s lasted a minute longer.
    @Test func aRequestThatTakesTooLongIsAnErrorOfItsOwn() throws {
        let gate = Gate()
        let pulls = Mutex(0)
        let registry = try FakeRegistry(
            .init(onRequest: { line in
                guard line.hasPrefix("GET"), line.contains("/blobs/") else { return }
                let number = pulls.withLock {
                    $0 += 1
                    return $0
                }
                if number == 5 { gate.pass() }
            })
        )
        defer { gate.open() }
        let report = try run(
            plan(registry) {
                $0.workloads = [.warm]
                $0.requestSeconds = 1
            }
        )
        #expect(try row(report, "warm pull").errors == ["timeout": 1], "\(report.notes)")
        #expect(registry.isEmpty)
    }

    /// Bug: what a push had refused for good was said to be left, and sessions were not.
    @Test(arguments: [413, 500])
    func whatMayBeThereIsSaidToBeLeft(status: Int) throws {
        let registry = try FakeRegistry(.init(refusesDeletes: true, pushStatus: status))
        let report = try run(plan(registry) { $0.workloads = [.push] })
        #expect(report.notes.contains { $0.contains("6 upload sessions") && $0.contains("405") }, "\(report.notes)")
        #expect(report.notes.contains { $0.contains("6 blobs") } == (status == 500), "\(report.notes)")
        #expect(report.left == (status == 500 ? 12 : 6) && !report.isFlawless)
    }

    /// Bug: one answer of 429 in what is not measured ended the workload, and left what was to be deleted.
    @Test(arguments: [429, 503])
    func whatIsNotMeasuredWaitsAndTriesAgain(status: Int) throws {
        let methods = ["POST", "PUT", "DELETE"].map { ($0, (count: 3, status: status)) }
        let registry = try FakeRegistry(.init(firstAnswers: Dictionary(uniqueKeysWithValues: methods)))
        let report = try run(plan(registry) { $0.workloads = [.cold, .mixed] })
        #expect(report.isFlawless && report.rows.count > 2, "\(report.notes)")
        #expect(registry.isEmpty)
    }

    @Test func whatIsMeasuredIsNotTriedAgain() throws {
        let registry = try FakeRegistry(.init(firstAnswers: ["POST": (count: 2, status: 429)]))
        let report = try run(plan(registry) { $0.workloads = [.push] })
        #expect(try row(report, "push").errors == ["status 429": 2])
        #expect(try row(report, "push").operations == 4 && registry.isEmpty)
    }

    /// Bug: the sizes behind one that could not be prepared were not tried, and its row did not say which it was.
    @Test(arguments: [Workload.cold, .warm, .range])
    func aSizeThatCannotBePreparedLeavesTheOthers(workload: Workload) throws {
        let registry = try FakeRegistry(.init(blobLimit: 4_000))
        let report = try run(
            plan(registry) {
                $0.workloads = [workload]
                $0.sizes = [5_120, 1_024]
            }
        )
        let details = workload == .range ? ["500 B of 5 KiB", "500 B of 1 KiB"] : ["5 KiB", "1 KiB"]
        #expect(report.rows.map(\.detail) == details, "\(report.notes)")
        #expect(report.rows.map(\.errors) == [["status 413": 1], [:]] && report.rows.last?.operations == 6)
    }

    /// Bug: an interrupt while the registry was waited for was told as a registry that is not there.
    @Test func stoppedBeforeTheFirstAnswerARunSaysSo() throws {
        let stop = StopFlag()
        stop.set()
        let report = try run(Plan(target: Target("http://127.0.0.1:1"), seed: 1), stop: stop)
        #expect(report.isInterrupted && report.rows.isEmpty)
    }

    /// One answer of 400 that is late by 0.3 s is none in a hundred; what it kept its client from asking is.
    @Test func aStallOfTheServerShowsInThe99thPercentile() throws {
        let pulls = Mutex(0)
        let registry = try FakeRegistry(
            .init(onRequest: { line in
                guard line.hasPrefix("GET"), line.contains("/blobs/") else { return }
                let isLate = pulls.withLock {
                    $0 += 1
                    return $0 == 300
                }
                let start = ContinuousClock.now
                while isLate, ContinuousClock.now - start < .milliseconds(300) {}
            })
        )
        let report = try run(
            plan(registry) {
                $0.workloads = [.warm]
                $0.requests = 400
            }
        )
        let row = try row(report, "warm pull")
        #expect(try #require(row.latency).p99 >= 200_000)
        #expect(row.operations == 400 && row.measuredLatency?.count == 400)
    }

    @Test func aWorkloadThatCannotBePreparedIsARowWithItsError() throws {
        let registry = try FakeRegistry(.init(pullStatus: 503))
        let report = try run(plan(registry) { $0.workloads = [.warm, .push] })
        #expect(try row(report, "warm pull").errors == ["status 503": 1])
        #expect(try row(report, "push").errors.isEmpty, "what can be measured is")
        #expect(registry.isEmpty)
    }

    @Test func whatARegistryDoesNotDeleteIsSaid() throws {
        let registry = try FakeRegistry(.init(refusesDeletes: true))
        let report = try run(plan(registry) { $0.workloads = [.mixed] })
        #expect(report.errorCount == 0)
        #expect(report.notes.contains { $0.contains("2 manifests") && $0.contains("405") }, "\(report.notes)")
        #expect(report.notes.contains { $0.contains("15 blobs") && $0.contains("405") }, "\(report.notes)")
    }

    @Test func stoppingCleansUp() throws {
        let stop = StopFlag()
        let pulls = Mutex(0)
        let registry = try FakeRegistry(
            .init(onRequest: { line in
                guard line.hasPrefix("GET"), line.contains("/blobs/") else { return }
                if pulls.withLock({
                    $0 += 1
                    return $0 == 10
                }) {
                    stop.set()
                }
            })
        )
        let report = try run(
            plan(registry) {
                $0.workloads = [.warm, .push]
                $0.requests = nil
                $0.seconds = 3_600
            },
            stop: stop
        )
        #expect(report.isInterrupted && report.errorCount == 0)
        #expect(report.rows.map(\.name) == ["warm pull"], "what was to come does not")
        // Bug: the table of a run that was ended looked complete.
        #expect(report.table().contains("Ended early"))
        #expect(RunReport.comparison([report]).contains("Ended early: \(report.label)."))
        #expect(registry.isEmpty)
    }

    /// An empty table used to be shown, below which every byte had been compared.
    @Test(arguments: [Workload.cold, .warm, .herd, .range, .mixed])
    func stoppedBeforeItMeasuresARunSaysSo(workload: Workload) throws {
        let stop = StopFlag()
        let registry = try FakeRegistry(.init(onRequest: { if $0.hasPrefix("POST") { stop.set() } }))
        let report = try run(plan(registry) { $0.workloads = [workload, .push] }, stop: stop)
        #expect(report.isInterrupted && report.rows.isEmpty, "\(report.rows)")
        #expect(report.table().hasPrefix("Nothing was measured."))
        #expect(!report.table().contains("compared") && !report.table().contains("latencies"))
        #expect(RunReport.comparison([report]) == "Nothing was measured.\nEnded early: \(report.label).\n")
        #expect(registry.isEmpty)
    }

    /// Bug: while content was made, an interrupt was not heard, and the line told of something else.
    @Test(arguments: [Workload.push, .mixed])
    func anInterruptEndsTheMakingOfContent(workload: Workload) throws {
        let stop = StopFlag()
        let lines = Mutex<[String]>([])
        let registry = try FakeRegistry()
        let plan = try self.plan(registry) {
            $0.workloads = [workload]
            // Hours of hashing.
            ($0.sizes, $0.imageSize, $0.count) = ([1 << 40], 1 << 40, 64)
        }
        let report = try Run(plan, program: "test", stop: stop) { line in
            lines.withLock { $0.append(line) }
            if line.hasPrefix("preparing"), !line.hasSuffix(" 0 B") { stop.set() }
        }.execute()
        #expect(report.isInterrupted && report.rows.isEmpty && registry.contents.requests.count == 1)
        #expect(lines.withLock { $0.contains { $0.contains("making") && $0.contains(" 0 of ") } })
    }

    /// Bug: the lines of what is not measured did not count.
    @Test func preparingAndDeletingCount() throws {
        let lines = Mutex<[String]>([])
        let registry = try FakeRegistry()
        let plan = try self.plan(registry) { $0.workloads = [.warm, .mixed] }
        _ = try Run(plan, program: "test", stop: StopFlag()) { line in lines.withLock { $0.append(line) } }.execute()
        let begins = [
            "preparing warm pull: making, 0 of 3", "preparing warm pull: pushing, 0 of 3",
            "preparing warm pull: pulling, 0 of 3",
            "preparing image pull: making layers, 0 of 13", "preparing image pull: pushing, 0 of 15",
            "preparing image pull: pushing manifests, 0 of 2", "deleting manifests: 0 of 2", "deleting blobs: 0 of 18",
        ]
        for begin in begins {
            #expect(lines.withLock { $0.contains { $0.hasPrefix(begin) } }, "\(begin)")
        }
    }

    /// A pull cache takes no pushes.
    @Test(arguments: [Workload.warm, .mixed, .range])
    func whatIsPulledGoesToTheOriginWhenThereIsOne(workload: Workload) throws {
        let origin = try FakeRegistry()
        let edge = try FakeRegistry(.init(pullRedirect: origin.url))
        let report = try run(
            plan(edge) {
                $0.workloads = [workload]
                $0.origin = try? Target(origin.url)
            }
        )
        #expect(report.isFlawless && report.rows[0].operations == 6, "\(report.notes)")
        let lines = edge.contents.requests.map(\.line)
        #expect(!lines.contains { $0.hasPrefix("POST") || $0.hasPrefix("PUT") } && origin.isEmpty)
        #expect(lines.contains { $0.hasPrefix("DELETE") }, "it may have kept a copy")
    }

    @Test func coldContentGoesToTheOriginWhenThereIsOne() throws {
        let origin = try FakeRegistry()
        let edge = try FakeRegistry(.init(pullRedirect: origin.url))
        let report = try run(
            plan(edge) {
                $0.workloads = [.cold]
                $0.origin = try? Target(origin.url)
            }
        )
        #expect(report.errorCount == 0, "\(report.notes)")
        #expect(!edge.contents.requests.contains { $0.line.hasPrefix("POST") })
        #expect(origin.contents.requests.count { $0.line.hasPrefix("POST") } == 6)
        #expect(report.notes.contains { $0.contains("pushed to \(origin.url)") })
        #expect(origin.isEmpty)
    }

    @Test(arguments: [Workload.cold, .warm, .herd, .range, .mixed])
    func whatAnEarlierRunKeptIsFoundBySeed(workload: Workload) throws {
        let registry = try FakeRegistry()
        for isPushed in [false, true] {
            let report = try run(
                plan(registry) {
                    $0.workloads = [workload]
                    $0.isKept = true
                    $0.isPushed = isPushed
                }
            )
            #expect(report.errorCount == 0, "\(report.notes)")
        }
        let pushes = registry.contents.requests.map(\.line).filter { $0.hasPrefix("POST") }
        #expect(pushes.count == registry.contents.blobs.count, "each blob was pushed once")
        #expect(!registry.contents.requests.contains { $0.line.hasPrefix("DELETE") })
    }

    /// Bug: where nothing of the seed was there, the report said that it was, and that every byte had been compared.
    @Test func whatIsNotThereIsNotSaidToBe() throws {
        let registry = try FakeRegistry()
        let report = try run(
            plan(registry) {
                $0.workloads = [.cold]
                $0.isPushed = true
            }
        )
        #expect(try row(report, "cold pull").errors == ["status 404": 6])
        #expect(report.notes.contains("nothing was pushed: no content of this seed was found"), "\(report.notes)")
        #expect(!report.table().contains("compared"))
    }

    @Test(arguments: [(Workload.push, false), (.cold, true)])
    func onlyWhatWasPulledWasCompared(workload: Workload, isCompared: Bool) throws {
        let registry = try FakeRegistry()
        let report = try run(plan(registry) { $0.workloads = [workload] })
        #expect(report.table().contains("Every byte was compared.") == isCompared)
    }

    @Test func nobodyThereIsSaidAtOnce() throws {
        let plan = try Plan(target: Target("http://127.0.0.1:1"), seed: 1)
        let error = #expect(throws: Run.Impossible.self) { try run(plan) }
        #expect(error?.description.contains("no registry at http://127.0.0.1:1") == true)
        #expect(error?.description.contains("cannot connect") == true)
    }

    @Test func anOpenLoopIsMarkedAsOne() throws {
        let registry = try FakeRegistry()
        let report = try run(
            plan(registry) {
                $0.workloads = [.warm]
                $0.rate = 10_000
            }
        )
        let row = try row(report, "warm pull")
        #expect(row.loop == .open && row.rate == 10_000 && row.measuredLatency == nil)
    }
}

@Suite("Credentials")
struct CredentialTests {
    private static let basic = "Basic bmFtZTpoaWRkZW4tc2VjcmV0"

    private func report(
        _ registry: FakeRegistry,
        credentials: String?,
        _ change: (inout Plan) -> Void = { _ in }
    ) throws -> RunReport {
        var plan = try Plan(target: Target(registry.url), seed: 1)
        plan.workloads = [.push, .warm]
        (plan.sizes, plan.count, plan.clients, plan.requests) = ([1_000], 2, [2], 4)
        plan.credentials = credentials.flatMap { BenchCredentials($0) }
        change(&plan)
        return try Run(plan, program: "test", stop: StopFlag(), progress: { _ in }).execute()
    }

    @Test func basicAreSentWhereAskedFor() throws {
        let registry = try FakeRegistry(.init(access: .basic(Self.basic)))
        let report = try report(registry, credentials: "name:hidden-secret\n")
        #expect(report.errorCount == 0 && registry.isEmpty)
        #expect(!String(decoding: report.json(), as: UTF8.self).contains("hidden"))
    }

    @Test(arguments: [nil, "name:hidden-secret"])
    func aTokenIsFetchedOnceAndKept(credentials: String?) throws {
        let registry = try FakeRegistry(.init(access: .token(for: credentials.map { _ in Self.basic })))
        let report = try report(registry, credentials: credentials)
        #expect(report.errorCount == 0 && registry.isEmpty, "\(report.notes)")
        let requests = registry.contents.requests
        #expect(requests.count { $0.line == "GET /realm" } == 1)
        #expect(
            requests.filter { $0.line != "GET /realm" }.dropFirst().allSatisfy {
                $0.authorization == "Bearer token-of-the-realm"
            }
        )
    }

    /// Bug: a token that others had spent before it was used counted as credentials that are not accepted.
    @Test func aTokenThatOthersHaveSpentIsFetchedAnew() throws {
        let registry = try FakeRegistry(.init(access: .token(for: nil), tokenUses: 1))
        let report = try report(registry, credentials: nil) {
            $0.clients = [8]
            $0.requests = 200
        }
        #expect(report.isFlawless && registry.isEmpty, "\(report.notes)")
    }

    @Test(arguments: [nil, "name:wrong"])
    func whoIsNotLetInIsTold(credentials: String?) throws {
        let registry = try FakeRegistry(.init(access: .basic(Self.basic)))
        let error = #expect(throws: Run.Impossible.self) { try report(registry, credentials: credentials) }
        let words = credentials == nil ? "wants credentials" : "does not accept the credentials"
        #expect(error?.description.contains(words) == true)
        #expect(error?.description.contains("wrong") == false)
    }

    @Test func redirectsElsewhereGetNone() throws {
        let other = try FakeRegistry()
        let registry = try FakeRegistry(.init(access: .basic(Self.basic), pullRedirect: other.url))
        _ = try? report(registry, credentials: "name:hidden-secret")  // what is asked there is what counts
        #expect(!other.contents.requests.isEmpty)
        #expect(other.contents.requests.allSatisfy { $0.authorization == nil })
    }

    /// Bug: behind a redirect to another port the registry's challenge was not answered.
    @Test func followTheRegistryToAnotherPort() throws {
        let there = try FakeRegistry(.init(access: .token(for: Self.basic)))
        let registry = try FakeRegistry(.init(rootRedirect: "\(there.url)/v2/"))
        let report = try report(registry, credentials: "name:hidden-secret")
        #expect(report.isFlawless && report.rows.allSatisfy { $0.operations == 4 }, "\(report.notes)")
        #expect(report.notes.contains("\(registry.url) redirects to \(there.url), which was measured"))
        #expect(registry.contents.requests.count == 1 && there.isEmpty)
        #expect(there.contents.requests.count { $0.line == "GET /realm" } == 1)
    }

    /// Bug: it was told as credentials that are missing.
    @Test func doNotFollowItToAnotherHost() throws {
        let there = try FakeRegistry(.init(access: .basic(Self.basic)))
        let url = there.url.replacing("127.0.0.1", with: "localhost")
        let registry = try FakeRegistry(.init(rootRedirect: "\(url)/v2/"))
        let error = #expect(throws: Run.Impossible.self) { try report(registry, credentials: "name:hidden-secret") }
        #expect(error?.description.contains("led to \(url), but credentials go to \(registry.url) only") == true)
        #expect(error?.description.contains("--credentials") == false)
        #expect(there.contents.requests.allSatisfy { $0.authorization == nil })
    }

    /// Bug: an upload that a registry wants elsewhere failed with "status 401", and not a word on why.
    @Test func areNotForTheHostOfAnUpload() throws {
        let other = try FakeRegistry(.init(access: .basic(Self.basic)))
        let url = other.url
        let registry = try FakeRegistry(
            .init(access: .basic(Self.basic), sessionLocation: { "\(url)/v2/x/blobs/uploads/\($0)" })
        )
        let report = try report(registry, credentials: "name:hidden-secret") { $0.workloads = [.push] }
        #expect(report.rows[0].errors == ["status 401 elsewhere": 4] && report.left == 4)
        #expect(report.notes.contains { $0.contains("led to \(url), but credentials go to \(registry.url) only") })
        #expect(!other.contents.requests.isEmpty && other.contents.requests.allSatisfy { $0.authorization == nil })
    }

    @Test(arguments: ["", "name", ":password", "\n"])
    func needANameAndAPassword(text: String) {
        #expect(BenchCredentials(text) == nil)
    }

    @Test func areNotPrinted() throws {
        let credentials = try #require(BenchCredentials("name:hidden-secret"))
        #expect("\(credentials)" == "credentials")
    }
}
