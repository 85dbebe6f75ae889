import FaultProxy
import Foundation
import Glibc
import Testing

/// `forebay bench` against a running registry: it must find what is there, and leave nothing.
@Suite("forebay bench")
struct BenchTests {
    private let tiny = [
        "--size", "40KiB", "--count", "3", "--clients", "2", "--requests", "6", "--rounds", "2", "--range-size", "1KiB",
        "--images",
        "2", "--image-size", "60KiB",
    ]

    private func bench(_ endpoint: Endpoint, _ flags: [String]) throws -> CommandResult {
        try runAllowingFailure([Settings.binary, "bench", "http://\(endpoint.authority)"] + tiny + flags)
    }

    private func rows(_ json: String) throws -> [[String: Any]] {
        let report = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        return try #require(report?["rows"] as? [[String: Any]])
    }

    /// What is not bookkeeping of the registry itself.
    private func leftovers(_ origin: any Origin) throws -> [String] {
        try origin.keys().filter { $0 != "epoch/catalog.json" }
    }

    @Test(arguments: OriginKind.allCases)
    func everyWorkloadIsMeasuredAndCleanedUp(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let folder = try TemporaryDirectory()
            let page = folder.path + "/page.html"
            let result = try bench(forebay.endpoint, ["--json", "-", "--report", page, "--label", "tiny <run>"])
            #expect(result.status == 0, "\(result.errors)")
            let rows = try rows(result.output)
            let names = rows.compactMap { $0["name"] as? String }.filter { !$0.contains(":") }
            #expect(names == ["push", "cold pull", "warm pull", "herd", "image pull", "range read"])
            for row in rows {
                #expect((row["errors"] as? [String: Int]) == [:])
                #expect((row["operations"] as? Int ?? 0) >= 4, "\(row)")
                #expect((row["latency"] as? [String: Any])?["p99"] as? Int ?? 0 > 0, "\(row)")
            }
            #expect(result.errors.contains("warm pull"), "the table gives way to JSON on standard output")
            let html = text(of: page)
            #expect(html.contains("tiny \\u003crun\\u003e") && !html.contains("<run>"))
            #expect(try leftovers(forebay.origin) == [])
        }
    }

    @Test func runsAreComparedOnOnePage() throws {
        try withForebay { forebay in
            let folder = try TemporaryDirectory()
            var files: [String] = []
            for name in ["before", "after"] {
                let path = "\(folder.path)/\(name).json"
                #expect(
                    try bench(forebay.endpoint, ["--workloads", "push", "--label", name, "--json", path]).status == 0
                )
                files.append(path)
            }
            let page = try run([Settings.binary, "bench", "report"] + files + ["--report", "-"])
            #expect(page.contains("\"label\" : \"before\"") && page.contains("\"label\" : \"after\""))
            let table = try run([Settings.binary, "bench", "report"] + files).split(separator: "\n")
            let unlabelled = ["1st", "2nd"].map { "\(folder.path)/\($0).json" }
            for path in unlabelled {
                #expect(try bench(forebay.endpoint, ["--workloads", "push", "--json", path]).status == 0)
            }
            let sameURL = try run([Settings.binary, "bench", "report"] + unlabelled)
            #expect(sameURL.contains("\(forebay.endpoint.authority) (1st)") && sameURL.contains("(2nd)"), "\(sameURL)")
            #expect(table[1].contains("before") && table[2].contains("after"), "\(table)")
            let failed = try runAllowingFailure([
                Settings.binary, "bench", "report", page.isEmpty ? "" : "/dev/null", "--report", "-",
            ])
            #expect(failed.status == 69 && failed.errors.contains("/dev/null cannot be read as a report"))
        }
    }

    /// One bit of one blob, on the way back from the registry.
    @Test func aDamagedBlobIsAnError() throws {
        try withForebay { forebay in
            let proxy = try FaultProxy.relay(to: forebay.endpoint.port)
            proxy.on(.method("GET", "/blobs/"), .nth(2), .response(.flip(at: 30_000)))
            let endpoint = Endpoint(port: proxy.port)
            let result = try bench(endpoint, ["--workloads", "cold", "--json", "-"])
            #expect(result.status == 1, "\(result.errors)")
            #expect(try rows(result.output)[0]["errors"] as? [String: Int] == ["wrong bytes": 1])
            #expect(result.errors.contains("with other bytes than were pushed"), "\(result.errors)")
            #expect(try leftovers(forebay.origin) == [])
            proxy.clear()
            proxy.on(.method("GET", "/blobs/"), .nth(2), .response(.flip(at: 30_000)))
            let unverified = try bench(endpoint, ["--workloads", "cold", "--no-verify"])
            #expect(unverified.status == 0, "\(unverified.errors)")
        }
    }

    @Test func whereNobodyListensThatIsSaid() throws {
        let endpoint = Endpoint(port: try Ports.free())
        let result = try bench(endpoint, [])
        #expect(result.status == 69)
        #expect(result.errors.contains("no registry at http://\(endpoint.authority)"), "\(result.errors)")
        #expect(result.errors.contains("cannot connect") && !result.errors.contains("Fatal"))
    }

    /// Bug: the name of a file reached the terminal as it was.
    @Test func aNameCannotSteerATerminal() throws {
        let result = try runAllowingFailure([Settings.binary, "bench", "report", "/nonexistent/\u{1B}[2J"])
        #expect(result.status == 69)
        #expect(result.errors.contains(#"/nonexistent/\u{1B}[2J: no such file"#), "\(result.errors)")
    }

    /// Bug: both were written to standard output, one behind the other.
    @Test func oneResultGoesToOnePlace() throws {
        for place in ["-", "/tmp/both"] {
            let result = try bench(Endpoint(port: 1), ["--json", place, "--report", place])
            #expect(result.status == 78 && result.errors.contains("the same place"), "\(result.errors)")
        }
    }

    /// Bug: what could not be written to standard output was no failure.
    @Test(arguments: [">&-", ">/dev/full"])
    func aTableThatCannotBeWrittenIsAFailure(output: String) throws {
        try withForebay { forebay in
            let folder = try TemporaryDirectory()
            let flags = tiny + ["--workloads", "push", "--json", folder.path + "/run.json"]
            let words = [Settings.binary, "bench", "http://\(forebay.endpoint.authority)"] + flags + [output]
            let result = try runAllowingFailure(["/bin/sh", "-c", "exec \(words.joined(separator: " "))"])
            #expect(result.status == 69)
            #expect(result.errors.contains("standard output cannot be written"), "\(result.errors)")
            #expect(text(of: folder.path + "/run.json").contains("\"push\""), "other places get their result")
        }
    }

    @Test(arguments: [
        ["--size", "4x"], ["--clients", "0"], ["--seed", "xyz"], ["--workloads", "pull"], ["--repository", "Upper"],
        ["--credentials", "/nonexistent"], ["--json", "/nonexistent/x.json"], ["--json", "/tmp"],
        ["--report", "/dev/null/x.html"],
    ])
    func whatCannotBeMeantIsRefused(flags: [String]) throws {
        let result = try bench(Endpoint(port: 1), flags)
        #expect([69, 78].contains(result.status))
        #expect(result.errors.contains(flags[0]) || result.errors.contains(flags[1]), "\(result.errors)")
    }

    /// Bug: the help was that of another command, "'abc' is none of 4KiB or 16MiB", and a folder made it status 1 with "Error:".
    @Test(arguments: [
        (["--size", "abc"], "--size: 'abc' is no size; examples: 4KiB, 16MiB; see 'forebay bench run --help'"),
        (["--seed", "xyz"], "--seed: 'xyz' is no seed: write up to 16 hexadecimal digits"),
        (
            ["--workloads", "pull"],
            "--workloads: 'pull' is no workload; there are push, cold, warm, herd, mixed, range"
        ),
        (["--credentials", "/tmp"], "--credentials: /tmp is a directory"),
        (["--ca-file", "/nonexistent"], "--ca-file: /nonexistent: no such file"),
        (["--ca-file", "/tmp"], "--ca-file: /tmp is a directory"),
        (["--ca-file", "/dev/null"], "--ca-file: /dev/null holds no certificate"),
        (["--origin", "http://[::1"], "'http://[::1' is no URL of a registry"),
    ])
    func aFlagThatCannotBeMeantIsExplained(flags: [String], words: String) throws {
        let result = try bench(Endpoint(port: 1), flags)
        #expect(result.status == 78 && result.errors.hasPrefix("forebay: \(words)"), "\(result.errors)")
    }

    @Test func aFolderIsNoReport() throws {
        let result = try runAllowingFailure([Settings.binary, "bench", "report", "/tmp"])
        #expect(result.status == 69 && result.errors == "forebay: /tmp is a directory\n", "\(result.errors)")
    }

    /// SIGHUP is what a closed terminal sends, more than once; it used to leave everything there.
    @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
    func anInterruptCleansUp(signal: Int32) throws {
        try withForebay { forebay in
            let folder = try TemporaryDirectory()
            let command = try Command(
                [
                    Settings.binary, "bench", "http://\(forebay.endpoint.authority)", "--workloads", "warm", "--size",
                    "40KiB",
                    "--duration", "1h", "--json", folder.path + "/run.json",
                ],
                log: folder.path + "/log"
            )
            _ = try poll(for: "the run to begin") { try leftovers(forebay.origin).isEmpty ? nil : true }
            command.signal(signal)
            if signal == SIGHUP { command.signal(signal) }
            let result = try command.wait(seconds: 30)
            #expect(result.status == 130, "\(result.errors)")
            #expect(text(of: folder.path + "/run.json").contains("\"isInterrupted\" : true"))
            #expect(try leftovers(forebay.origin) == [])
        }
    }
}
