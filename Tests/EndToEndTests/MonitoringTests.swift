import Foundation
import Testing

@Suite("Seen from outside")
struct MonitoringTests {
    private func sample(_ page: String, _ name: String) -> Double? {
        page.split(separator: "\n").first { $0.hasPrefix(name + " ") }.flatMap { Double($0.dropFirst(name.count + 1)) }
    }

    /// What operators may rely on.
    private static let promised = [
        #"forebay_requests_total{method="GET",route="blob",code="200"} "#,
        #"forebay_request_seconds_bucket{route="blob",le="0.001"} "#,
        #"forebay_request_seconds_sum{route="blob"} "#, #"forebay_request_seconds_count{route="blob"} "#,
        "forebay_cache_hits_total ", "forebay_cache_misses_total ", "forebay_cache_bytes ",
        "forebay_cache_evicted_bytes_total ", #"forebay_fills_total{outcome="complete"} "#,
        "forebay_coalesced_requests_total ", #"forebay_origin_requests_total{operation="get",code="200"} "#,
        "forebay_origin_up 1", "forebay_origin_outages_total 0", "forebay_origin_retries_total ",
        "forebay_origin_retries_denied_total 0", #"forebay_origin_bytes_total{direction="received"} "#,
        #"forebay_origin_bytes_total{direction="sent"} "#,
        "forebay_upload_sessions ", "forebay_index_map_bytes ", "forebay_index_bytes ", "forebay_index_live_bytes ",
        "forebay_index_oldest_reader_seconds ", "process_cpu_seconds_total ", "process_resident_memory_bytes ",
        "process_open_fds ", "process_start_time_seconds ", #"forebay_build_info{version=""#,
    ]

    @Test func metricsTellOfAPull() throws {
        try withForebay { forebay in
            let repository = Repository(forebay, "team/app")
            let manifest = try repository.pushImage(tag: "v1", layerSize: 300_000)
            try forebay.restart(wipingCache: true)
            for _ in 0..<2 { #expect(try fetchedDigests(repository, sha256(manifest)).count == 3) }
            let page = try poll(for: "four reads and two fills to be counted") {
                let page = try forebay.endpoint.request("GET", "/metrics").text
                let reads = sample(page, #"forebay_requests_total{method="GET",route="blob",code="200"}"#)
                // A fill ends after the client has its last byte.
                return reads == 4 && sample(page, #"forebay_fills_total{outcome="complete"}"#) == 2 ? page : nil
            }
            #expect(sample(page, "forebay_cache_misses_total") == 3)
            // A second read may come before the first one's fetch is put away.
            let hits = try #require(sample(page, "forebay_cache_hits_total"))
            #expect(try hits + #require(sample(page, "forebay_coalesced_requests_total")) == 3)
            #expect(sample(page, #"forebay_request_seconds_count{route="manifest"}"#) == 2)
            #expect(try #require(sample(page, "process_cpu_seconds_total")) > 0)
            for series in Self.promised { #expect(page.contains("\n" + series), "\(series)") }
        }
    }

    /// Bug: a fill ended the transfer that had just brought its last byte. It counted as an error, and cost its connection.
    @Test(arguments: OriginKind.allCases)
    func aFillIsNoError(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay, "team/app")
            let digests = try (0..<30).map { try repository.push(blob: noise(100_000, seed: $0)) }
            try forebay.restart(wipingCache: true)
            for digest in digests { #expect(try repository.request("GET", "blobs/\(digest)").status == 200) }
            let page = try poll(for: "the fills to end") {
                let page = try forebay.endpoint.request("GET", "/metrics").text
                return sample(page, #"forebay_fills_total{outcome="complete"}"#) == 30 ? page : nil
            }
            let gets = page.split(separator: "\n").filter {
                $0.hasPrefix(#"forebay_origin_requests_total{operation="get",code=""#)
            }
            let expected = gets.filter { line in [200, 206, 404].contains { line.contains(#"code="\#($0)""#) } }
            #expect(expected.count == gets.count, "\(gets)")
            if let opened = sample(page, "forebay_origin_connections_opened_total") { #expect(opened < 15) }
        }
    }

    /// Prometheus's own reader takes the page and the rules.
    @Test func prometheusUnderstandsThePageAndTheRules() throws {
        try require(tools: "promtool")
        try run(["promtool", "check", "rules", Settings.packageRoot + "/conf/prometheus-alerts.yaml"])
        try withForebay { forebay in
            try Repository(forebay, "team/app").pushImage(tag: "v1")
            let folder = try TemporaryDirectory()
            let page = try forebay.endpoint.request("GET", "/metrics").text
            try page.write(toFile: folder.path + "/page", atomically: true, encoding: .utf8)
            let result = try runAllowingFailure(["sh", "-c", "promtool check metrics < \(folder.path)/page"])
            // 3 is a matter of style.
            #expect(result.status == 0 || result.status == 3, "\(result.output)\(result.errors)")
            #expect(!result.errors.contains("error while linting"), "\(result.errors)")
        }
    }

    @Test func anAddressOfItsOwnHasMonitoringAndNothingElse() throws {
        let admin = Endpoint(port: try Ports.free())
        try withForebay(flags: ["--admin-listen", admin.authority]) { forebay in
            for path in ["/metrics", "/healthz", "/readyz"] {
                let (there, here) = try (admin.request("GET", path), forebay.endpoint.request("GET", path))
                #expect(there.status == 200 && here.status == 404, "\(path)")
            }
            for path in ["/v2/", "/cache/ls"] {
                let (get, post) = try (admin.request("GET", path), admin.request("POST", path))
                #expect(get.status == 404 && post.status == 404, "\(path)")
            }
        }
    }

    /// Bug: what was asked on the socket was in no count and in no log.
    @Test func whatIsAskedOnTheSocketIsCountedToo() throws {
        try require(tools: "curl")
        try withForebay { forebay in
            let socket = forebay.cacheDirectory + "/admin.sock"
            for _ in 0..<3 { try run(["curl", "-sf", "--unix-socket", socket, "http://forebay/healthz"]) }
            let sample = #"forebay_requests_total{method="GET",route="healthz",code="200"} 3"#
            try poll(for: "the requests to be counted") {
                try forebay.endpoint.request("GET", "/metrics").text.contains(sample) ? () : nil
            }
        }
    }

    @Test func readinessNamesWhatIsMissing() throws {
        try withForebay { forebay in
            #expect(try forebay.endpoint.request("GET", "/healthz").text == "ok\n")
            let ready = try forebay.endpoint.request("GET", "/readyz")
            #expect(ready.status == 200)
            #expect(try ready.json()["ready"] as? Bool == true)
        }
    }

    @Test func anOriginThatIsGoneIsNamed() throws {
        let origin = try DirectoryOrigin()
        try withForebay(origin) { forebay in
            try FileManager.default.removeItem(atPath: origin.folder)
            let ready = try forebay.endpoint.request("GET", "/readyz")
            let checks = try #require(ready.json()["checks"] as? [String: String])
            #expect(ready.status == 503 && checks["server"] == "ok" && checks["index"] == "ok")
            #expect(try #require(checks["origin"]).contains(origin.folder), "\(checks)")
            #expect(try forebay.endpoint.request("GET", "/healthz").status == 200)
        }
    }

    /// An access log goes where logs go: none of what lets somebody in may be in it.
    @Test func noSecretReachesTheAccessLog() throws {
        try withForebay(flags: ["--access-log", "full"]) { forebay in
            let headers = [
                "Authorization": "Basic aGlkZGVuOnNlY3JldA==", "Cookie": "hidden=1", "X-Request-Id": "mark-1",
            ]
            _ = try forebay.endpoint.request("GET", "/v2/?token=hidden-token", headers)
            _ = try poll(for: "the line") { forebay.log.contains("mark-1") ? true : nil }
            for word in ["aGlkZGVu", "hidden", "token"] { #expect(!forebay.log.contains(word), "\(word)") }
        }
    }

    @Test func theAccessLogHasALineForEachRequest() throws {
        try withForebay(flags: ["--access-log", "full"]) { forebay in
            let repository = Repository(forebay, "team/app")
            let digest = try repository.push(blob: noise(100_000, seed: 3))
            let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
            let response = try repository.request(
                "GET",
                "blobs/\(digest)",
                ["X-Request-Id": "pull-1", "traceparent": trace, "Range": "bytes=0-9"]
            )
            #expect(response["X-Request-Id"] == "pull-1")
            let line = try poll(for: "the line") { forebay.log.split(separator: "\n").first { $0.contains("pull-1") } }
            let entry = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            #expect(entry["route"] as? String == "blob" && entry["status"] as? Int == 206)
            #expect(entry["bytes"] as? Int == 10 && entry["cache"] as? String == "hit")
            #expect(entry["traceparent"] as? String == trace && entry["client"] as? String == "127.0.0.1")
            #expect(entry["path"] as? String == "/v2/team/app/blobs/\(digest)")
            #expect(try #require(entry["seconds"] as? Double) >= 0)
        }
    }
}
