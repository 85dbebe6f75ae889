import Testing

@testable import Benchmark

@Suite("Reports")
struct ReportTests {
    private func report(label: String = "one", errors: [String: Int] = [:]) -> RunReport {
        var histogram = LatencyHistogram()
        for milliseconds in 1...100 { histogram.record(.milliseconds(milliseconds)) }
        var result = LoadResult()
        result.tallies[nil]?.latencies = histogram
        result.tallies[nil]?.failures = errors.mapValues { ($0, "the first") }
        result.tallies["a part"] = Tally(latencies: histogram)
        (result.bytes, result.seconds, result.cpuSeconds) = (64 << 20, 2, 1)
        result.samples += [
            .init(seconds: 1, bytes: 32 << 20, operations: 50), .init(seconds: 2, bytes: 64 << 20, operations: 100),
        ]
        var report = RunReport(
            label: label,
            target: "http://127.0.0.1:5000",
            repository: "forebay-bench",
            seed: "feed",
            startedAt: "2026-01-02T03:04:05Z",
            program: "forebay test",
            machine: ["cores": "2"]
        )
        report.add(result, "warm pull", "640 KiB", Schedule(clients: 4, loop: .closed))
        return report
    }

    @Test func comeBackFromTheirJSON() throws {
        let report = report(errors: ["status 503": 2])
        #expect(try RunReport(json: report.json(), name: "x") == report)
        let row = report.rows[0]
        #expect(
            row.mibPerSecond == 32 && row.operationsPerSecond == 50 && row.errorCount == 2 && row.clientCores == 0.5
        )
        #expect(row.timeline.map(\.mibPerSecond) == [32, 32])
        #expect(report.rows[1].name == "warm pull: a part")
        #expect(report.notes == ["warm pull, 640 KiB: status 503 × 2, the first: the first"])
    }

    /// In a column of the page, what differs used to be cut off.
    @Test(arguments: [
        ("http://127.0.0.1:5000", "127.0.0.1:5000"), ("https://registry.example.com/v2/", "registry.example.com"),
        ("http://[::1]:5000/mirror/", "[::1]:5000/mirror"),
    ])
    func aRunIsCalledByItsPlaceUnlessItHasAName(url: String, name: String) throws {
        #expect(try Plan(target: Target(url), seed: 1).label == name)
    }

    @Test func rowsOfOtherProgramsMayLeaveOutWhatTheyDoNotKnow() throws {
        let json = #"""
            {"format": 1, "label": "nginx", "target": "x", "repository": "", "seed": "", "startedAt": "", "program": "", "machine": {},
             "isVerified": false, "isInterrupted": false, "notes": [], "rows": [{"name": "warm pull", "detail": "4 KiB", "clients": 1,
             "loop": "closed", "operations": 3, "errors": {}, "bytes": 0, "seconds": 1, "mibPerSecond": 0, "operationsPerSecond": 3,
             "timeline": [], "clientCPUSeconds": 0, "measured": "2026-01-01, 5 rounds", "figures": [{"name": "server CPU", "value": 2.5, "low": 1, "high": 3}]}]}
            """#
        let report = try RunReport(json: Array(json.utf8), name: "x")
        #expect(report.rows[0].figures?[0].value == 2.5 && report.rows[0].latency == nil)
        #expect(ReportPage([report]).html.contains("server CPU"))
        // Bug: rows of an earlier run were shown under the date and rounds of the newest.
        #expect(ReportPage([report]).html.contains("2026-01-01, 5 rounds"))
        #expect(report.table().contains("nginx") == false && report.table().contains("warm pull"))
    }

    @Test func goalsComeBackAndAreShown() throws {
        var report = report()
        report.goals = [
            RunReport.Goal(
                name: "requests/s",
                row: "warm pull",
                against: "nginx",
                value: 1.5,
                low: 1.25,
                high: 1.75,
                bound: "at least",
                limit: 1.2,
                isMet: true
            )
        ]
        #expect(try RunReport(json: report.json(), name: "x") == report)
        #expect(ReportPage([report]).html.contains(#""bound" : "at least""#))
    }

    @Test func runsAreComparedInATable() {
        var faster = report(label: "faster")
        faster.rows[0].mibPerSecond *= 1.5
        faster.rows[0].name = "warm pull"
        let lines = RunReport.comparison([report(label: "first"), faster]).split(separator: "\n")
        #expect(lines.count == 1 + 2 * 2 + 1, "a head, two rows of two runs, and what is compared")
        #expect(Set(lines[0...4].map(\.count)).count == 1, "columns stand below each other")
        #expect(lines[1].contains("first") && lines[1].contains("32"))
        #expect(lines[2].contains("faster") && lines[2].contains("48") && lines[2].contains("1.5 ×"))
    }

    /// Bug: a run at a rate beside a closed loop had "0.04 ×" of it.
    @Test func whatWasAskedForAtARateIsComparedWithItsLikeOnly() {
        var atRate = report(label: "rate")
        (atRate.rows[0].loop, atRate.rows[0].rate, atRate.rows[0].mibPerSecond) = (.open, 100, 2)
        let lines = RunReport.comparison([report(label: "first"), atRate]).split(separator: "\n")
        #expect(lines.contains { $0.hasPrefix("warm pull at 100/s ") && $0.contains(" rate ") && $0.contains(" 1 ×") })
        #expect(atRate.table().contains("warm pull at 100/s "))
    }

    /// Bug: a part of an image pull stood beside real rates with the pace of the whole.
    @Test func aPartHasNoThroughput() throws {
        let report = report()
        for text in [report.table(), RunReport.comparison([report])] {
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("warm pull: a part") })
            #expect(line.count { $0 == "–" } == 3 && !line.contains("×") && line.contains("50 ms"), "\(line)")
        }
    }

    /// Bug: of the rows of one run that have the same name, size and clients, only the first was shown.
    @Test func rowsOfOneNameAreAllShown() {
        var twice = report(label: "twice")
        twice.rows.append(twice.rows[0])
        let lines = RunReport.comparison([report(label: "once"), twice]).split(separator: "\n")
        #expect(lines.count { $0.hasPrefix("warm pull ") && $0.contains("twice") } == 2, "\(lines)")
    }

    /// Bug: escape sequences of a registry, or in a report of somebody else's, reached the terminal.
    @Test func whatOthersWroteCannotSteerATerminal() {
        let hostile = "\u{1B}]0;title\u{7}\u{9B}2J\u{202E}\r\n"
        var bad = report(label: hostile)
        bad.rows[0].name = hostile
        bad.notes = [hostile, Failure("push", status: 500, body: Array(hostile.utf8)).detail]
        for text in [RunReport.comparison([bad]), bad.table()] {
            let controls = text.unicodeScalars.filter { $0.properties.generalCategory == .control }
            #expect(controls.allSatisfy { $0 == "\n" }, "\(text)")
            #expect(text.contains(#"\u{1B}]0;title\u{7}"#) && !text.contains("\u{202E}"), "\(text)")
        }
        #expect(bad.table().contains(#"push: status 500: \u{1B}"#))
    }

    /// Two runs of one URL used to be two rows and curves of one name.
    @Test(arguments: [
        (["old.json", "new.json"], ["old", "new"]), (["runs/old.json", "new"], ["old", "new"]),
        (["old/run.json", "new/run.json"], ["old/run.json", "new/run.json"]),
        (["run.json", "run.json"], ["2026-01-02T03:04:05Z", "2026-01-03T03:04:05Z"]),
    ])
    func runsOfOneNameAreToldApart(files: [String], marks: [String]) {
        var later = report(label: "same")
        later.startedAt = "2026-01-03T03:04:05Z"
        let runs = RunReport.toldApart(
            [report(label: "same"), report(label: "other"), later],
            files: [files[0], "other.json", files[1]]
        )
        #expect(runs.map(\.label) == ["same (\(marks[0]))", "other", "same (\(marks[1]))"])
    }

    @Test func oneFileGivenTwiceIsTwoRunsAllTheSame() {
        let runs = RunReport.toldApart([report(), report()], files: ["a.json", "a.json"])
        #expect(runs.map(\.label) == ["one (no. 1)", "one (no. 2)"])
    }

    /// Bug: numbers in a file that no run could have ended the program.
    @Test func numbersMayBeAnything() throws {
        var huge = report()
        (huge.rows[0].mibPerSecond, huge.rows[0].operationsPerSecond, huge.rows[0].clientCPUSeconds) = (
            1e300, -1e30, 1e40
        )
        (huge.rows[0].operations, huge.rows[0].bytes, huge.rows[0].rate) = (.max, .max, 1e25)
        huge.rows[0].seconds = 1e-300
        huge.rows[0].latency?.max = .max
        huge.rows[0].errors = ["a": .max, "b": .max]
        let read = try RunReport(json: huge.json(), name: "x")
        #expect(read.errorCount == .max && !read.isFlawless)
        #expect(read.table().contains("1e+300") && RunReport.comparison([read, report()]).contains("at 1e+25/s"))
    }

    @Test(arguments: ["", "{}", "[]", #"{"format": 2}"#])
    func whatIsNoneIsNamed(text: String) {
        let error = #expect(throws: UnreadableReport.self) { try RunReport(json: Array(text.utf8), name: "file.json") }
        #expect(error?.description.contains("file.json") == true)
    }

    @Test func theTableHasARowForEach() {
        let lines = report(errors: ["cut short": 1]).table().split(separator: "\n")
        #expect(!lines.contains { $0.contains("the p99 is the slowest") }, "there are a hundred")
        #expect(lines[0].contains("clients") && lines[0].contains("p99.9"))
        #expect(lines[1].hasPrefix("warm pull") && lines[1].contains("640 KiB") && lines[1].contains("50 ms"))
        #expect(Set(lines[0...2].map(\.count)).count == 1, "columns stand below each other")
        #expect(lines.contains { $0.hasPrefix("- warm pull, 640 KiB: cut short × 1") })
    }

    /// Names come from files that others wrote.
    @Test func thePageHoldsHostileNamesAsText() throws {
        let hostile = "</script><script>alert('1')</script><!--<img src=x onerror=alert(1)>&amp;\u{2028}\"'"
        var bad = report(label: hostile)
        bad.rows[0].name = hostile
        bad.notes = [hostile]
        let html = ReportPage([report(), bad]).html
        #expect(
            !html.contains(hostile) && !html.contains("<img") && !html.contains("<!--") && !html.contains("\u{2028}")
        )
        #expect(html.ranges(of: "<script").count == 2 && html.ranges(of: "</script>").count == 2)
        #expect(!html.contains("innerHTML") && !html.contains("insertAdjacentHTML") && !html.contains("document.write"))
    }

    @Test func thePageNeedsNothingElse() {
        let html = ReportPage([report(), report(label: "two")]).html
        #expect(html.hasPrefix("<!DOCTYPE html>"))
        for word in ["src=", "<link rel=\"stylesheet", "@import", "url(", "fetch(", "https://"] {
            #expect(!html.contains(word), "\(word)")
        }
        #expect(html.contains("default-src 'none'"))
        for tag in ["html", "head", "body", "main", "style", "script", "title"] {
            #expect(html.ranges(of: "<\(tag)").count == html.ranges(of: "</\(tag)>").count, "\(tag)")
        }
        #expect(html.contains("prefers-color-scheme: dark"))
    }

    @Test func manyRunsMakeOnePage() {
        #expect(ReportPage((0..<20).map { report(label: "run \($0)") }).html.contains("run 19"))
    }
}
