import ObjectStorage
import System
import TestDoubles
import Testing

/// What a text asks of metrics: names, and the labels they are selected or grouped by.
private struct Queries {
    struct Matcher {
        let metric, label, value: String
        /// Otherwise a pattern, or a value that is not wanted.
        let isExact: Bool
    }

    var names: Set<String> = []
    var matchers: [Matcher] = []
    var groupings: Set<String> = []

    init(_ text: String) {
        let text = text.replacing("\\\"", with: "\"")
        for word in text.split(whereSeparator: { !Self.isWord($0) }) where Self.isMetric(word) {
            names.insert(String(word))
            let rest = text[word.endIndex...]
            guard rest.first == "{", let end = rest.firstIndex(of: "}") else { continue }
            for part in rest[rest.index(after: rest.startIndex)..<end].split(separator: ",") {
                let label = part.prefix { Self.isWord($0) }
                let isExact = part[label.endIndex...].hasPrefix("=\"")
                let value = part.drop { $0 != "\"" }.dropFirst().prefix { $0 != "\"" }
                matchers.append(
                    Matcher(metric: String(word), label: String(label), value: String(value), isExact: isExact)
                )
            }
        }
        for start in text.ranges(of: "by (") {
            let labels = text[start.upperBound...].prefix { $0 != ")" }
            groupings.formUnion(labels.split { !Self.isWord($0) }.map(String.init))
        }
    }

    private static func isWord(_ character: Character) -> Bool {
        character.isASCII && (character.isLetter || character.isNumber || character == "_")
    }

    private static func isMetric(_ word: Substring) -> Bool { word.hasPrefix("forebay_") || word.hasPrefix("process_") }
}

/// What a page of metrics offers.
private struct Offer {
    var names: Set<String> = []
    /// Labels with their values, by metric.
    var labels: [String: [String: Set<String>]] = [:]

    init(page: String) {
        for line in page.split(separator: "\n") {
            if line.hasPrefix("# TYPE ") {
                let words = line.split(separator: " ").map(String.init)
                names.insert(words[2])
                if words[3] == "histogram" { names.formUnion(["_bucket", "_sum", "_count"].map { words[2] + $0 }) }
            } else if !line.hasPrefix("#"), let start = line.firstIndex(of: "{"), let end = line.lastIndex(of: "}") {
                for pair in line[line.index(after: start)..<end].split(separator: ",") {
                    let sides = pair.split(separator: "=", maxSplits: 1).map(String.init)
                    labels[String(line[..<start]), default: [:]][sides[0], default: []].insert(
                        String(sides[1].dropFirst().dropLast())
                    )
                }
            }
        }
    }

    /// What is asked for and is not there.
    func missing(_ queries: Queries) -> [String] {
        // Prometheus itself adds these.
        let added: Set = ["instance", "job"]
        let known = labels.values.reduce(into: added) { $0.formUnion($1.keys) }
        let matchers = queries.matchers.filter { matcher in
            guard !added.contains(matcher.label) else { return false }
            guard let values = labels[matcher.metric]?[matcher.label] else { return true }
            return matcher.isExact && !values.contains(matcher.value)
        }
        return queries.names.subtracting(names).sorted() + queries.groupings.subtracting(known).sorted()
            + matchers.map { "\($0.metric){\($0.label)=\"\($0.value)\"}" }
    }
}

/// The dashboard and the alert rules speak of what is really there.
@Suite struct MonitoringFilesTests {
    private static func offer() throws -> Offer {
        let node = try MonitoredNode()
        node.store.health.connections = .init(opened: 0, inUse: 0, idle: 0)
        _ = try node.request("GET", "/v2/")
        // A request counts when it has ended, a moment after its answer came.
        _ = node.line(with: #""route":"support""#)
        return Offer(page: try node.request("GET", "/metrics").1)
    }

    private static func text(_ name: String) throws -> String {
        let root = String(#filePath.dropLast("Tests/AdminAPITests/MonitoringFilesTests.swift".count))
        return String(decoding: try #require(try LocalFileSystem().contents(at: root + "conf/" + name)), as: UTF8.self)
    }

    @Test(arguments: ["grafana-dashboard.json", "prometheus-alerts.yaml"])
    func everythingThatIsNamedExists(_ file: String) throws {
        let queries = Queries(try Self.text(file))
        #expect(queries.names.count >= 8 && !queries.matchers.isEmpty && !queries.groupings.isEmpty)
        #expect(try Self.offer().missing(queries) == [])
    }

    @Test(arguments: [
        ("rate(forebay_nope_total[5m])", "forebay_nope_total"),
        ("sum by (rout) (forebay_requests_total)", "rout"),
        (#"forebay_requests_total{status=~\"5..\"}"#, #"forebay_requests_total{status="5.."}"#),
        (#"forebay_fills_total{outcome="broken"}"#, #"forebay_fills_total{outcome="broken"}"#),
    ])
    func whatIsNotThereIsFound(_ query: String, _ missing: String) throws {
        #expect(try Self.offer().missing(Queries(query)) == [missing])
    }
}
