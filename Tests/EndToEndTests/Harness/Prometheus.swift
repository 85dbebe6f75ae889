import Foundation
import Testing

/// Prometheus itself, reading a registry's page four times a second. Alert rules are those of conf/.
final class Prometheus {
    static let scrapesPerSecond = 4

    private let workspace: TemporaryDirectory
    private let endpoint: Endpoint
    private let process: Command

    init(reading registry: Endpoint) throws {
        workspace = try TemporaryDirectory()
        endpoint = Endpoint(port: try Ports.free())
        let configuration = """
            global: {scrape_interval: \(1_000 / Self.scrapesPerSecond)ms, evaluation_interval: 500ms}
            rule_files: ['\(Settings.packageRoot)/conf/prometheus-alerts.yaml']
            scrape_configs:
              - job_name: forebay
                static_configs: [{targets: ['\(registry.authority)']}]

            """
        let path = workspace.path + "/prometheus.yaml"
        try configuration.write(toFile: path, atomically: true, encoding: .utf8)
        let flags = [
            "--config.file=\(path)", "--storage.tsdb.path=\(workspace.path)/data",
            "--web.listen-address=\(endpoint.authority)", "--log.level=warn",
        ]
        process = try Command(["prometheus"] + flags, log: workspace.path + "/log")
        try poll(for: "prometheus to be ready") {
            guard process.isRunning else { throw MissingRequirement(description: text(of: process.errorsPath)) }
            // Refused means not ready yet.
            return (try? endpoint.request("GET", "/-/ready"))?.status == 200 ? () : nil
        }
    }

    deinit {
        process.signal(SIGKILL)
        // A process that does not end by SIGKILL is beyond what a test can do.
        _ = try? process.wait(seconds: 30)
    }

    /// What an expression is now: the samples' values. An expression that it does not take is an error.
    func values(of expression: String) throws -> [Double] {
        let form = "query=" + (expression.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")
        let type = ["Content-Type": "application/x-www-form-urlencoded"]
        let answer = try endpoint.request("POST", "/api/v1/query", type, body: .bytes(Array(form.utf8)))
        struct Refused: Error { let expression, reason: String }
        guard answer.status == 200, let data = try answer.json()["data"] as? [String: Any],
            let samples = data["result"] as? [[String: Any]]
        else { throw Refused(expression: expression, reason: answer.text) }
        return samples.compactMap { ($0["value"] as? [Any])?.last as? String }.compactMap { Double($0) }
    }

    /// The values of a label of a metric.
    func values(ofLabel label: String, of metric: String) throws -> [String] {
        let answer = try endpoint.request("GET", "/api/v1/label/\(label)/values?match%5B%5D=\(metric)")
        return try answer.json()["data"] as? [String] ?? []
    }

    /// The alert rules by name, with how their last evaluation went: `ok`, `err`, or `unknown` before the first.
    func rules() throws -> [(name: String, health: String, state: String)] {
        let data = try endpoint.request("GET", "/api/v1/rules").json()["data"] as? [String: Any]
        let groups = data?["groups"] as? [[String: Any]] ?? []
        return groups.flatMap { $0["rules"] as? [[String: Any]] ?? [] }.map {
            ($0["name"] as? String ?? "", $0["health"] as? String ?? "", $0["state"] as? String ?? "")
        }
    }
}
