import Foundation
import Testing

/// What Grafana 10 and later read of a dashboard; what is missing here would be missing there.
private struct Dashboard: Decodable {
    struct Source: Decodable, Equatable {
        let type, uid: String
    }

    struct Place: Decodable {
        let x, y, w, h: Int
    }

    struct Query: Decodable {
        let refId, expr, legendFormat: String
        let datasource: Source
    }

    struct Panel: Decodable {
        struct Fields: Decodable {
            struct Defaults: Decodable {
                let unit: String
            }

            let defaults: Defaults
            let overrides: [String]
        }

        let id: Int
        let title, type, description: String
        let datasource: Source
        let gridPos: Place
        let fieldConfig: Fields
        let targets: [Query]
    }

    struct Variable: Decodable {
        let name, type, label: String
        let datasource: Source?
        let definition: String?
        let allValue: String?
    }

    struct Templating: Decodable {
        let list: [Variable]
    }

    let title, uid, refresh, timezone: String
    let schemaVersion: Int
    let tags: [String]
    let time: [String: String]
    let templating: Templating
    let panels: [Panel]

    static func read() throws -> Dashboard {
        let bytes = try contents(of: Settings.packageRoot + "/conf/grafana-dashboard.json")
        return try JSONDecoder().decode(Dashboard.self, from: Data(bytes))
    }

    /// Every query as Grafana sends it when all instances are looked at.
    func queries(over window: String) -> [(name: String, expression: String)] {
        let all = templating.list.first { $0.name == "instance" }?.allValue ?? ""
        return panels.flatMap { panel in
            panel.targets.map { query in
                let expression = query.expr.replacing("$__rate_interval", with: window).replacing(
                    "$instance",
                    with: all
                )
                return ("panel_\(panel.id)_\(query.refId)", expression)
            }
        }
    }
}

@Suite("Grafana dashboard")
struct DashboardTests {
    private static let prometheus = Dashboard.Source(type: "prometheus", uid: "${datasource}")
    private static let columns = 24
    /// Of Grafana's identifiers, those that mean what we count.
    private static let units: Set = ["short", "bytes", "Bps", "s", "ops", "reqps", "percentunit"]

    @Test func panelsFillTheGridWithoutOverlaps() throws {
        let dashboard = try Dashboard.read()
        var taken: [Int: String] = [:]
        for panel in dashboard.panels {
            let place = panel.gridPos
            #expect(place.x >= 0 && place.y >= 0 && place.w > 0 && place.h > 0, "\(panel.title)")
            #expect(place.x + place.w <= Self.columns, "\(panel.title)")
            for y in place.y..<place.y + place.h {
                for x in place.x..<place.x + place.w {
                    let other = taken.updateValue(panel.title, forKey: y * Self.columns + x)
                    #expect(other == nil, "\(panel.title) lies over \(other ?? "")")
                }
            }
        }
        let bottom = dashboard.panels.map { $0.gridPos.y + $0.gridPos.h }.max() ?? 0
        #expect(taken.count == bottom * Self.columns, "there are holes")
    }

    @Test func everythingIsNamedOnceAndHasAUnit() throws {
        let dashboard = try Dashboard.read()
        // 36 came with Grafana 9.1, 41 with 12; an older one is migrated.
        #expect(36...41 ~= dashboard.schemaVersion)
        #expect(try #/[A-Za-z0-9_-]{1,40}/#.wholeMatch(in: dashboard.uid) != nil)
        #expect(dashboard.time["from"] != nil && dashboard.time["to"] != nil)
        #expect(dashboard.panels.count >= 8)
        #expect(Set(dashboard.panels.map(\.id)).count == dashboard.panels.count)
        #expect(Set(dashboard.panels.map(\.title)).count == dashboard.panels.count)
        for panel in dashboard.panels {
            #expect(panel.id > 0 && panel.type == "timeseries", "\(panel.title)")
            #expect(!panel.title.isEmpty && !panel.description.isEmpty, "\(panel.title)")
            #expect(Self.units.contains(panel.fieldConfig.defaults.unit), "\(panel.title)")
            #expect(panel.datasource == Self.prometheus && !panel.targets.isEmpty, "\(panel.title)")
            #expect(Set(panel.targets.map(\.refId)).count == panel.targets.count, "\(panel.title)")
            #expect(Set(panel.targets.map(\.legendFormat)).count == panel.targets.count, "\(panel.title)")
            for query in panel.targets {
                #expect(query.datasource == Self.prometheus && !query.legendFormat.isEmpty, "\(panel.title)")
            }
        }
    }

    /// A line's name must not be one that the query leaves out, and a variable must be one that there is.
    @Test func variablesAndLegendsStandForSomething() throws {
        let dashboard = try Dashboard.read()
        let variables = dashboard.templating.list
        #expect(variables.first?.name == "datasource" && variables.first?.type == "datasource")
        #expect(variables.dropFirst().allSatisfy { $0.type == "query" && $0.datasource == Self.prometheus })
        let known = Set(variables.map(\.name) + ["__rate_interval"])
        for query in dashboard.panels.flatMap(\.targets) {
            let used = query.expr.matches(of: #/\$\{?(\w+)/#).map { String($0.1) }
            #expect(used.contains("instance") && known.isSuperset(of: used), "\(query.expr)")
            let kept = query.expr.matches(of: #/by \(([^)]*)\)/#).flatMap {
                $0.1.split(separator: ", ").map(String.init)
            }
            let isAggregated = query.expr.contains("sum")
            for label in query.legendFormat.matches(of: #/\{\{(\w+)\}\}/#).map({ String($0.1) }) {
                #expect(isAggregated ? kept.contains(label) : label == "instance", "\(query.legendFormat)")
            }
        }
    }

    @Test func promtoolReadsEveryQuery() throws {
        try require(tools: "promtool")
        let queries = try Dashboard.read().queries(over: "1m")
        let encoder = JSONEncoder()
        // YAML takes JSON's strings, but for the escaped slash.
        encoder.outputFormatting = .withoutEscapingSlashes
        let rules = try queries.map { name, expression in
            let text = String(decoding: try encoder.encode(expression), as: UTF8.self)
            return "      - {record: \(name), expr: \(text)}"
        }
        let folder = try TemporaryDirectory()
        let path = folder.path + "/rules.yaml"
        let file = "groups:\n  - name: dashboard\n    rules:\n\(rules.joined(separator: "\n"))\n"
        try file.write(toFile: path, atomically: true, encoding: .utf8)
        #expect(try run(["promtool", "check", "rules", path]).contains("\(queries.count) rules found"))
    }

    /// Prometheus reads a registry that works, and is asked what Grafana would ask.
    @Test func everyPanelShowsWhatARegistryDoes() throws {
        try require(tools: "prometheus")
        let origin = try DirectoryOrigin()
        try withForebay(origin) { forebay in
            let prometheus = try Prometheus(reading: forebay.endpoint)
            let repository = Repository(forebay, "team/app")
            try repository.pushImage(tag: "v1", layerSize: 100_000)
            let layer = sha256(noise(100_000, seed: 1))
            // What the origin refuses to give makes failures.
            let bad = "\(origin.folder)/epoch/manifests/team/app/bad.json"
            try FileManager.default.createSymbolicLink(atPath: bad, withDestinationPath: "v1.json")
            // There are no connections to a directory.
            let queries = try Dashboard.read().queries(over: "2s").filter {
                !$0.expression.contains("forebay_origin_connections")
            }
            var (missing, round) = (queries, UInt64(0))
            let start = ContinuousClock.now
            while !missing.isEmpty, ContinuousClock.now - start < .seconds(20) {
                round += 1
                #expect(try repository.request("GET", "manifests/v1").status == 200)
                #expect(try repository.request("GET", "manifests/bad").status == 502)
                #expect(try repository.request("GET", "blobs/\(layer)").status == 200)
                try repository.push(blob: noise(20_000, seed: 1_000 + round))
                let fresh = noise(20_000, seed: 2_000 + round)
                try origin.write(fresh, to: "epoch/blobs/sha256/\(sha256(fresh).dropFirst("sha256:".count))")
                #expect(try repository.request("GET", "blobs/\(sha256(fresh))").status == 200)
                missing = try missing.filter { try !prometheus.values(of: $0.expression).contains(where: \.isFinite) }
            }
            #expect(missing.map(\.name) == [], "no data after \(ContinuousClock.now - start)")
            #expect(
                try prometheus.values(ofLabel: "instance", of: "forebay_build_info") == [forebay.endpoint.authority]
            )
            try poll(for: "each alert rule to be evaluated") {
                let rules = try prometheus.rules()
                return rules.count >= 8 && rules.allSatisfy { $0.health == "ok" } ? () : nil
            }
            // What failed here has not failed for long enough.
            #expect(try prometheus.rules().filter { $0.state == "firing" }.map(\.name) == [])
        }
    }
}
