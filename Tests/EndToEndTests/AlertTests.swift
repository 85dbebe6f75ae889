import Foundation
import Testing

/// Prometheus's own tester runs the alert rules over series that we make up.
@Suite("Alert rules")
struct AlertTests {
    private struct Case: CustomStringConvertible {
        let alert: String
        /// In promtool's notation, a value a minute.
        let series: [(name: String, firing: String, quiet: String)]
        let severity: String
        var description: String { alert }
    }

    private static let label = #"instance="a:5000",job="forebay""#

    private static let cases = [
        Case(alert: "ForebayDown", series: [("up{\(label)}", "0x30", "1x30")], severity: "critical"),
        Case(
            alert: "ForebayFailing",
            series: [
                (#"forebay_requests_total{code="503",route="blob",\#(label)}"#, "0+10x30", "0+1x30"),
                (#"forebay_requests_total{code="200",route="blob",\#(label)}"#, "0+90x30", "0+99x30"),
                // Bug: a node whose probes fail with the origin failed no client, and probes hid that a node failed them all.
                (#"forebay_requests_total{code="503",route="readyz",\#(label)}"#, "0x30", "0+900x30"),
                (#"forebay_requests_total{code="200",route="metrics",\#(label)}"#, "0+900x30", "0x30"),
            ],
            severity: "critical"
        ),
        Case(
            alert: "ForebayBreakingAnswers",
            series: [(#"forebay_broken_answers_total{route="blob",\#(label)}"#, "0x20 5x10", "5x30")],
            severity: "critical"
        ),
        Case(
            alert: "ForebayOriginFailing",
            series: [
                (#"forebay_origin_requests_total{operation="get",code="unreachable",\#(label)}"#, "0+10x30", "0+1x30"),
                (#"forebay_origin_requests_total{operation="get",code="404",\#(label)}"#, "0+90x30", "0+99x30"),
            ],
            severity: "warning"
        ),
        Case(
            alert: "ForebayOriginDenies",
            series: [
                (#"forebay_origin_requests_total{operation="get",code="403",\#(label)}"#, "0+90x30", "0+10x30"),
                (#"forebay_origin_requests_total{operation="get",code="200",\#(label)}"#, "0+10x30", "0+90x30"),
            ],
            severity: "warning"
        ),
        Case(
            alert: "ForebayOriginDown",
            series: [("forebay_origin_up{\(label)}", "0x30", "1x30")],
            severity: "critical"
        ),
        Case(
            alert: "ForebayDamagedContent",
            series: [("forebay_cache_damaged_total{\(label)}", "0x20 1x10", "1x30")],
            severity: "warning"
        ),
        Case(
            alert: "ForebayDamagedOrigin",
            series: [(#"forebay_fills_total{outcome="damaged",\#(label)}"#, "0x20 1x10", "1x30")],
            severity: "critical"
        ),
        Case(
            alert: "ForebayCacheTooSmall",
            series: [(#"forebay_fills_total{outcome="not_stored",\#(label)}"#, "0+1x40", "0x40")],
            severity: "warning"
        ),
        // One write that fails is none of it.
        Case(
            alert: "ForebayIndexFailing",
            series: [("forebay_index_up{\(label)}", "0x5 1x2 0x22", "1x12 0 1x16")],
            severity: "warning"
        ),
        Case(
            alert: "ForebayIndexNearlyFull",
            series: [
                ("forebay_index_live_bytes{\(label)}", "75x30", "60x30"),
                ("forebay_index_map_bytes{\(label)}", "100x30", "100x30"),
            ],
            severity: "warning"
        ),
        Case(
            alert: "ForebayIndexReaderStuck",
            series: [("forebay_index_oldest_reader_seconds{\(label)}", "0+60x30", "5x30")],
            severity: "warning"
        ),
        Case(
            alert: "ForebayLosingLogLines",
            series: [("forebay_access_log_dropped_total{\(label)}", "0+1x40", "9x40")],
            severity: "warning"
        ),
        Case(
            alert: "ForebayOutOfFileDescriptors",
            series: [
                ("process_open_fds{\(label)}", "900x30", "700x30"), ("process_max_fds{\(label)}", "1000x30", "1000x30"),
            ],
            severity: "warning"
        ),
    ]

    private var rules: String { Settings.packageRoot + "/conf/prometheus-alerts.yaml" }

    /// The file of one case; promtool compares labels, and text only where it is given.
    private func text(_ one: Case, fires: Bool) -> String {
        let lines = one.series.map { "      - {series: '\($0.name)', values: '\(fires ? $0.firing : $0.quiet)'}" }
        return """
            rule_files: ['\(rules)']
            evaluation_interval: 1m
            tests:
              - interval: 1m
                input_series:
            \(lines.joined(separator: "\n"))
                promql_expr_test:
                  - expr: count by (severity) (ALERTS{alertname="\(one.alert)",alertstate="firing",instance="a:5000"})
                    eval_time: 28m
                    exp_samples: \(fires ? #"[{labels: '{severity="\#(one.severity)"}', value: 1}]"# : "[]")

            """
    }

    @Test func eachFiresWhenItShallAndNotElse() throws {
        try require(tools: "promtool")
        let folder = try TemporaryDirectory()
        for one in Self.cases {
            for fires in [true, false] {
                let path = "\(folder.path)/\(one.alert)-\(fires).yaml"
                try text(one, fires: fires).write(toFile: path, atomically: true, encoding: .utf8)
                let result = try runAllowingFailure(["promtool", "test", "rules", path])
                #expect(result.status == 0, "\(one.alert), \(fires): \(result.output)\(result.errors)")
            }
        }
    }

    @Test func noneIsLeftOut() {
        let named = text(of: rules).split(separator: "\n").compactMap { line in
            line.firstRange(of: "- alert: ").map { String(line[$0.upperBound...]) }
        }
        #expect(named == Self.cases.map(\.alert))
    }

    private func text(of path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }
}
