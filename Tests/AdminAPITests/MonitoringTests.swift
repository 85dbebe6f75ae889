import AdminAPI
import DiskTier
import EdgeCache
import Glibc
import HTTPClient
import HTTPServer
import Hashing
import Logging
import Metrics
import OCI
import ObjectStorage
import Registry
import RegistryAPI
import System
import TestDoubles
import Testing
import Threading

@Suite struct MetricsPageTests {
    @Test func requestsAreCountedByMethodRouteAndCode() throws {
        let node = try MonitoredNode()
        let digest = node.seed(pattern(100_000))
        for _ in 0..<3 { _ = try node.request("GET", "/v2/team/app/blobs/\(digest)") }
        _ = try node.request("HEAD", "/v2/team/app/blobs/\(digest)")
        _ = try node.request("GET", "/v2/team/app/manifests/none")
        _ = try node.request("PUT", "/v2/team/app/manifests/none")
        _ = try node.request("GET", "/nowhere")
        _ = try node.request("BREW", "/v2/")
        // A request counts when it has ended, a moment after its answer came.
        _ = node.line(with: #""method":"BREW""#)
        #expect(try node.sample(#"forebay_requests_total{method="GET",route="blob",code="200"}"#) == 3)
        #expect(try node.sample(#"forebay_requests_total{method="HEAD",route="blob",code="200"}"#) == 1)
        #expect(try node.sample(#"forebay_requests_total{method="GET",route="manifest",code="404"}"#) == 1)
        #expect(try node.sample(#"forebay_requests_total{method="GET",route="other",code="404"}"#) == 1)
        #expect(try node.sample(#"forebay_requests_total{method="other",route="support",code="405"}"#) == 1)
        #expect(try node.sample(#"forebay_request_seconds_count{route="blob"}"#) == 4)
        #expect(try node.sample(#"forebay_request_seconds_bucket{route="blob",le="+Inf"}"#) == 4)
        #expect(try node.sample(#"forebay_sent_bytes_total{route="blob"}"#) == 300_000)
    }

    /// Whether a body is gathered, taken in piece by piece, or refused and read to its end.
    @Test(arguments: [1, 1_000, 3_000_000], ["/v2/team/app/blobs/uploads/", "/v2/team/app/manifests/none"])
    func whatClientsSendIsCounted(_ bytes: Int, _ path: String) throws {
        let node = try MonitoredNode()
        let method = path.hasSuffix("/") ? "POST" : "PUT"
        _ = try node.request(method, path, [("X-Request-Id", "push")], body: pattern(bytes))
        #expect(try #require(node.line(with: #""id":"push""#)).contains(#","received":\#(bytes),"#))
        let route = path.hasSuffix("/") ? "uploads" : "manifest"
        #expect(try node.sample("forebay_received_bytes_total{route=\"\(route)\"}") == Double(bytes))
        #expect(try node.sample(#"forebay_received_bytes_total{route="metrics"}"#) == 0)
    }

    @Test func theCacheAndTheOriginAreCounted() throws {
        let node = try MonitoredNode()
        let digest = node.seed(pattern(100_000))
        for _ in 0..<3 {
            _ = try node.request("GET", "/v2/team/app/blobs/\(digest)")
            node.cache.waitForFills()
        }
        _ = try node.request("GET", "/v2/team/app/blobs/\(Digest(of: [1]))")
        #expect(try node.sample("forebay_cache_hits_total") == 2)
        #expect(try node.sample("forebay_cache_misses_total") == 2)
        #expect(try node.sample(#"forebay_fills_total{outcome="complete"}"#) == 1)
        #expect(try node.sample(#"forebay_fills_total{outcome="unknown"}"#) == 1)
        #expect(try node.sample(#"forebay_origin_requests_total{operation="get",code="200"}"#) == 1)
        #expect(try node.sample(#"forebay_origin_requests_total{operation="get",code="404"}"#) == 1)
        #expect(try node.sample(#"forebay_origin_bytes_total{direction="received"}"#) == 100_000)
        #expect(try #require(try node.sample("forebay_cache_bytes")) >= 100_000)
        #expect(try node.sample("forebay_cache_lingering_bytes") == 0)
        #expect(try node.sample("forebay_cache_quarantined_bytes") == 0)
        #expect(try node.sample(#"forebay_cache_entries{kind="file"}"#) == 1)
        #expect(try node.sample("forebay_upload_sessions") == 0)
        #expect(try #require(try node.sample("forebay_index_map_bytes")) > 0)
        #expect(try node.sample("forebay_index_oldest_reader_seconds") != nil)
        #expect(try node.sample(#"forebay_build_info{version="1.2.3"}"#) == 1)
        #expect(try #require(try node.sample("process_resident_memory_bytes")) > 1_000_000)
    }

    /// Every sample belongs to the family above it, and no series is there twice.
    @Test func thePageIsWellFormed() throws {
        let node = try MonitoredNode()
        _ = try node.request("GET", "/v2/")
        let (response, page) = try node.request("GET", "/metrics")
        #expect(response.header("Content-Type") == "text/plain; version=0.0.4; charset=utf-8")
        #expect(page.hasSuffix("\n"))
        var (family, series): (Substring, Set<Substring>) = ("", [])
        for line in page.split(separator: "\n") {
            if line.hasPrefix("# TYPE ") {
                family = line.split(separator: " ")[2]
            } else if !line.hasPrefix("#") {
                let name = line.prefix { $0 != " " && $0 != "{" }
                #expect(name == family || ["_bucket", "_sum", "_count"].contains { name == family + $0 }, "\(line)")
                let key = line[..<(line.lastIndex(of: " ") ?? line.endIndex)]
                #expect(series.insert(key).inserted, "\(key) is there twice")
            }
        }
    }

    @Test func labelsAndHelpAreEscaped() {
        var page = Exposition()
        page.family("a", .gauge, "one\\two\nthree")
        page.sample("a", ["b": "say \"x\\y\"\n"], 1)
        #expect(page.text == "# HELP a one\\\\two\\nthree\n# TYPE a gauge\na{b=\"say \\\"x\\\\y\\\"\\n\"} 1\n")
    }

    @Test func durationsFallIntoTheirBuckets() {
        let histogram = DurationHistogram(rows: 2)
        for nanoseconds: UInt64 in [0, 50_000, 50_001, 59_000_000_000, 61_000_000_000] {
            histogram.record(nanoseconds, row: 1)
        }
        let (cumulative, count, sum) = histogram.snapshot(row: 1)
        #expect(cumulative.first == 2 && cumulative[1] == 3 && cumulative.last == 4 && count == 5)
        #expect(sum == 120_000_100_001)
        #expect(histogram.snapshot(row: 0).count == 0)
    }
}

@Suite struct ReadinessTests {
    @Test func aNodeIsReadyWhenOriginAndIndexAre() throws {
        let node = try MonitoredNode()
        #expect(try node.request("GET", "/healthz").0.status == 200)
        let (response, body) = try node.request("GET", "/readyz")
        #expect(response.status == 200)
        #expect(body == #"{"ready":true,"checks":{"server":"ok","index":"ok","origin":"ok"}}"# + "\n")
        let head = try node.request("HEAD", "/readyz")
        #expect(head.0.status == 200 && head.0.contentLength == Int64(body.utf8.count) && head.1.isEmpty)
        #expect(try node.request("POST", "/readyz").0.status == 405)
    }

    @Test func anOriginThatFailsIsNamedAndCanBeLeftOut() throws {
        let node = try MonitoredNode()
        node.store.intercept { _, call throws(StoreError) in
            if call.operation == "CHECK" { throw MemoryStore.unreachable(call) }
        }
        let (response, body) = try node.request("GET", "/readyz")
        #expect(response.status == 503 && body.contains(#""origin":"#) && body.contains("unreachable"), "\(body)")
        #expect(try node.request("GET", "/readyz?exclude=origin").0.status == 200)
        #expect(try node.request("GET", "/healthz").0.status == 200, "the process itself is well")
    }

    /// Bug: as long as one question hung, the node was not ready, though the origin had answered others since.
    @Test func anOriginThatIsBackIsSeenThoughAQuestionHangs() throws {
        let node = try MonitoredNode()
        node.store.ignoreNextCheck()
        let (response, body) = try node.request("GET", "/readyz")
        #expect(response.status == 503 && body.contains("it does not answer"), "\(body)")
        var isReady = false
        let deadline = Deadline.after(.seconds(60))
        while !isReady, !deadline.hasPassed { isReady = try node.request("GET", "/readyz").0.status == 200 }
        #expect(isReady)
    }

    /// Bug: what an index did not take counted as a complete fill, and nothing told of the index.
    @Test func anIndexThatTakesNoWriteIsSaidWhileClientsAreServed() throws {
        let node = try MonitoredNode()
        #expect(try node.sample("forebay_index_up") == 1)
        #expect(failNextMetaWrite(of: node.folder.path + "/cache/index"))
        let digest = node.seed(pattern(9_000))
        #expect(try node.request("GET", "/v2/team/app/blobs/\(digest)").0.status == 200)
        node.cache.waitForFills()
        #expect(try node.sample("forebay_index_up") == 0)
        #expect(try node.sample(#"forebay_fills_total{outcome="not_stored"}"#) == 1)
        #expect(try node.sample(#"forebay_fills_total{outcome="complete"}"#) == 0)
        let (response, body) = try node.request("GET", "/readyz")
        #expect(response.status == 200 && body.contains(#""ready":true"#), "it serves them: \(body)")
        #expect(body.contains(#""index":"degraded: cache index: "#), "\(body)")
        #expect(try node.request("GET", "/v2/team/app/blobs/\(digest)").0.status == 200)
        node.cache.waitForFills()
        #expect(try node.sample("forebay_index_up") == 1, "it took the next")
        #expect(try node.sample(#"forebay_fills_total{outcome="complete"}"#) == 1)
        #expect(try node.request("GET", "/readyz").1.contains(#""index":"ok""#))
    }

    @Test func aNodeThatStopsIsNotReady() throws {
        let node = try MonitoredNode()
        node.readiness.stop()
        let (response, body) = try node.request("GET", "/readyz")
        #expect(response.status == 503 && body.contains("stopping"))
    }
}

private func threadName() -> String {
    guard let file = fopen("/proc/thread-self/comm", "r") else { return "" }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 32)
    fgets(&line, Int32(line.count), file)
    return String(decoding: line.prefix { $0 > 32 }.map { UInt8($0) }, as: UTF8.self)
}

@Suite struct AccessLogTests {
    /// Bug: lines that could not be written were lost without being counted.
    @Test func linesThatCannotBeWrittenAreCounted() throws {
        let node = try MonitoredNode(beforeLog: { false })
        for _ in 0..<3 { _ = try node.request("GET", "/v2/") }
        let deadline = Deadline.after(.seconds(60))
        var dropped = 0.0
        while dropped < 3, !deadline.hasPassed { dropped = try node.sample("forebay_access_log_dropped_total") ?? 0 }
        #expect(dropped >= 3)
    }

    /// Bug: an access log whose reader was gone was said so nowhere.
    @Test func linesThatCannotBeWrittenAreToldOnceInAWhile() throws {
        let node = try MonitoredNode(beforeLog: { false })
        _ = try node.request("GET", "/v2/")
        let told = node.losses.wait { $0.first }
        #expect(told == 1)
        while try node.sample("forebay_access_log_dropped_total") ?? 0 < 4 {}
        #expect(node.losses.withLock { $0 } == [1])
    }

    /// Bug: what a full disk had torn was glued to the next line, which was lost with it, and whole lines counted as lost.
    @Test func aTornLineIsEndedBeforeTheNext() throws {
        let output = Monitor("")
        let isFull = Monitor(true)
        let observer = RequestObserver(accessLog: .full) { text in
            let written = isFull.withLock { $0 } ? text.utf8.count - 5 : text.utf8.count
            output.update { $0 += String(decoding: text.utf8.prefix(written), as: UTF8.self) }
            return (written, written < text.utf8.count ? 28 : 0)
        }
        let server = try Server(ServerConfiguration(host: "127.0.0.1", port: 0), handler: Plain(observer: observer))
        let client = try Client(ClientConfiguration())
        let get = { _ = try client.perform(Request("GET", "http://127.0.0.1:\(server.port)/v2/")) }
        try get()
        _ = output.wait { $0.isEmpty ? nil : true }
        isFull.update { $0 = false }
        try get()
        let text = try #require(output.wait { $0.hasSuffix("}\n") ? $0 : nil })
        let lines = text.split(separator: "\n")
        #expect(lines.count == 2 && !lines[0].hasSuffix("}") && lines[1].hasPrefix("{\"ts\""), "\(text)")
        #expect(server.stop(drain: .seconds(10)))
    }

    @Test func aRequestIsALine() throws {
        let node = try MonitoredNode()
        let digest = node.seed(pattern(100_000))
        let path = "/v2/team/app/blobs/\(digest)"
        for name in ["first", "second"] {
            _ = try node.request("GET", path, [("X-Request-Id", name), ("User-Agent", "te\"st")])
            node.cache.waitForFills()
        }
        let first = try #require(node.line(with: #""id":"first""#))
        #expect(first.contains(#""route":"blob","status":200,"bytes":100000,"#) && first.contains(#""cache":"miss""#))
        #expect(first.contains(#""client":"127.0.0.1""#) && first.contains(#""agent":"te\"st""#))
        #expect(first.contains(#""path":"\#(path)""#) && first.hasSuffix("}\n"))
        #expect(try #require(node.line(with: #""id":"second""#)).contains(#""cache":"hit""#))
    }

    @Test func aLogThatNobodyReadsStopsNoRequest() throws {
        let isRead = Monitor(false)
        let node = try MonitoredNode(beforeLog: { isRead.wait { $0 ? true : nil } ?? false })
        let path = "/v2/" + String(repeating: "x", count: 1_100)
        let headers = [(name: "User-Agent", value: String(repeating: "a", count: 200))]
        var sent = 0
        while try node.sample("forebay_access_log_dropped_total") == 0 {
            for _ in 0..<500 { #expect(try node.request("GET", path, headers).0.status == 404) }
            sent += 500
            try #require(sent < 10_000)
        }
        isRead.update { $0 = true }
        _ = try node.request("GET", "/v2/", [("X-Request-Id", "last")])
        #expect(node.line(with: #""id":"last""#) != nil)
        let dropped = try #require(try node.sample("forebay_access_log_dropped_total"))
        #expect(node.lines.withLock { $0.count { $0.contains("xxx") } } + Int(dropped) == sent)
    }

    @Test func aRequestIsNamedByItsClientOrByUs() throws {
        let node = try MonitoredNode()
        #expect(
            try node.request("GET", "/v2/", [("X-Request-Id", "build-7.a")]).0.header("X-Request-Id") == "build-7.a"
        )
        var names: Set<String> = []
        for given in [nil, "", "two words", "quote\"", String(repeating: "x", count: 129)] {
            let headers = given.map { [(name: "X-Request-Id", value: $0)] } ?? []
            let name = try #require(try node.request("GET", "/v2/", headers).0.header("X-Request-Id"))
            #expect(name.count == 13 && name != given)
            names.insert(name)
        }
        #expect(names.count == 5)
    }

    @Test func withoutALogThereAreNoNames() throws {
        let node = try MonitoredNode(accessLog: .off)
        #expect(try node.request("GET", "/v2/", [("X-Request-Id", "a")]).0.header("X-Request-Id") == nil)
        #expect(node.lines.withLock { $0.isEmpty })
    }

    @Test func aSampleHasOneInSoManyAndAllFailures() throws {
        let node = try MonitoredNode(accessLog: .sampled(oneIn: 10))
        node.store.intercept { _, call throws(StoreError) in
            if call.key.contains("/broken/") { throw MemoryStore.unreachable(call) }
        }
        // Bug: of requests that come in turns, each tenth was always the same.
        for _ in 0..<1_000 {
            _ = try node.request("GET", "/v2/")
            _ = try node.request("GET", "/v2/_catalog")
        }
        for _ in 0..<3 { #expect(try node.request("GET", "/v2/broken/manifests/x").0.status == 503) }
        let failures = { (lines: [String]) in lines.count { $0.contains(#""status":503"#) } }
        let lines = node.lines.wait { failures($0) == 3 ? $0 : nil } ?? []
        for route in ["support", "catalog"] {
            // A hundred, give or take six times the standard deviation.
            #expect((40...160).contains(lines.count { $0.contains("\"route\":\"\(route)\"") }))
        }
    }

    /// Whether clients name their requests has nothing to do with which are in the sample.
    @Test func aSampleHasOneInSoManyOfNamedRequests() throws {
        let node = try MonitoredNode(accessLog: .sampled(oneIn: 10))
        for number in 0..<1_000 { _ = try node.request("GET", "/v2/", [("X-Request-Id", "r\(number)")]) }
        let lines = node.lines.wait { lines in lines.count >= 40 ? lines : nil } ?? []
        #expect((40...160).contains(lines.count))
    }

    /// Bug: of a large blob only the first part carried the trace where the others were fetched since the client had read on.
    @Test func theTraceGoesOnToTheOriginWithEachPart() throws {
        let node = try MonitoredNode(adjust: { $0.fillPartBytes = 1 << 20 })
        let seen = Monitor<[TraceContext?]>([])
        node.store.intercept { _, call in
            if call.operation == "GET" { seen.update { $0.append(TraceContext.current) } }
        }
        node.store.interceptPieces { call, offset in
            if call.range?.lowerBound == 0, offset >= 64 << 10 { _ = seen.wait { $0.count == 3 ? true : nil } }
        }
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        let path = "/v2/team/app/blobs/\(node.seed([UInt8](repeating: 7, count: 3 << 20)))"
        #expect(try node.request("GET", path, [("traceparent", trace)]).0.status == 200)
        node.cache.waitForFills()
        #expect(seen.withLock { $0 } == Array(repeating: TraceContext(parent: trace), count: 3))
    }

    /// Bug: for a request with a trace each piece of a fill was read into memory, where others are sent its file.
    @Test func aTracedReaderIsSentTheFile() throws {
        let files = FaultyFileSystem()
        let node = try MonitoredNode(fileSystem: files)
        let content = [UInt8](repeating: 7, count: 3 << 20)
        let path = "/v2/team/app/blobs/\(node.seed(content))"
        let reads = Monitor<[String]>([])
        files.beforeCalls { operation, _ in
            // The fill's own threads may read what they have written, to note it.
            let thread = threadName()
            if operation == "pread", thread != "fill" { reads.update { $0.append(thread) } }
        }
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        #expect(try node.request("GET", path, [("traceparent", trace)]).1.utf8.count == content.count)
        node.cache.waitForFills()
        #expect(reads.withLock { $0 } == [])
    }

    /// What is asked of the origin for a request carries its trace, on whatever thread it is asked.
    @Test func theTraceGoesOnToTheOrigin() throws {
        let node = try MonitoredNode()
        let digest = node.seed(pattern(100_000))
        let seen = Monitor<[TraceContext?]>([])
        node.store.intercept { _, call in
            if call.operation == "GET" { seen.update { $0.append(TraceContext.current) } }
        }
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        let states = [("tracestate", "a=1, b@c=2"), ("Tracestate", "d=3")]
        _ = try node.request("GET", "/v2/team/app/blobs/\(digest)", [("traceparent", trace)] + states)
        let (zeros, none) = (String(repeating: "0", count: 32), String(repeating: "0", count: 16))
        let invalid = [
            "00-nonsense-01", "00-\(zeros)-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-\(none)-01",
        ]
        for (number, text) in invalid.enumerated() {
            let path = "/v2/team/app/blobs/\(node.seed(pattern(90_000 + number)))"
            _ = try node.request("GET", path, [("traceparent", text)] + states)
        }
        node.cache.waitForFills()
        #expect(seen.withLock { $0 } == [TraceContext(parent: trace, state: "a=1, b@c=2,d=3"), nil, nil, nil])
        #expect(node.line(with: trace) != nil)
    }
}

/// Says that all is well, and has it observed.
private struct Plain: RequestHandler {
    let observer: RequestObserver

    func handle(_ request: HTTPServer.Request) -> Reply { .respond(HTTPServer.Response(status: 200)) }
    func refusal(of request: HTTPServer.Request, status: Int, reason: String) -> HTTPServer.Response {
        HTTPServer.Response(status: status)
    }
    func ended(_ request: HTTPServer.Request, _ end: ExchangeEnd) { observer.ended(request, end) }
}
