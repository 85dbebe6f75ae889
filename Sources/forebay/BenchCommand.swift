internal import ArgumentParser
internal import Benchmark
internal import System

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Measure a registry, whichever it is.",
        usage: """
            forebay bench URL [options]
            forebay bench report FILE... [--report FILE.html]
            """,
        discussion: """
            `forebay bench URL` is short for `forebay bench run URL`, whose options `forebay bench run --help` lists.

            Examples:
              forebay bench http://127.0.0.1:5000
              forebay bench https://r.example.com --size 4KiB,16MiB --clients 1,64
              forebay bench http://edge:5000 --workloads warm --rate 200
              forebay bench http://edge:5000 --origin http://core:5000
              forebay bench http://edge:5000 --json new.json --report new.html
              forebay bench report old.json new.json --report both.html
            """,
        subcommands: [BenchRun.self, BenchReport.self],
        defaultSubcommand: BenchRun.self
    )
}

struct BenchReport: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Compare several runs: a table, or a page with plots.",
        discussion: """
            Runs are shown in the order given, under their --label, and where several have the same, with their files' names. Rows \
            are compared when workload, size, clients and rate are the same.
            """
    )

    @Argument(help: ArgumentHelp("What `forebay bench --json` wrote.", valueName: "FILE"))
    var files: [String]

    @Option(help: ArgumentHelp("Write a page instead of the table; - is standard output.", valueName: "FILE.html"))
    var report: String?

    // The compiler does not get through this as a coroutine (6.3.1, -O).
    func run() async throws { try compare() }

    @inline(never)
    private func compare() throws {
        if let report, files.contains(where: { Output($0).place == Output(report).place }) {
            throw Misuse("--report names a file that is to be read")
        }
        var runs: [RunReport] = []
        for path in files {
            let bytes = try readWhole(path)
            do {
                runs.append(try RunReport(json: bytes, name: path))
            } catch {
                throw Unavailable(description: error.description)
            }
        }
        runs = RunReport.toldApart(runs, files: files)
        ignoreBrokenPipes()
        if let report {
            try Output(report).write(Array(ReportPage(runs).html.utf8))
        } else {
            try Output.standard.write(Array(RunReport.comparison(runs).utf8))
        }
    }
}
