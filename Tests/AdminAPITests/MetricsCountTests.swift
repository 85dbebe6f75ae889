import EdgeCache
import HTTPClient
import Hashing
import OCI
import ObjectStorage
import TestDoubles
import Testing
import Threading

/// Each thing that can happen is counted as what it is.
@Suite struct MetricsCountTests {
    private func path(_ digest: Digest) -> String { "/v2/team/app/blobs/\(digest)" }

    @Test func whoJoinsAFetchUnderWayIsCountedAsThat() throws {
        let node = try MonitoredNode()
        let digest = node.seed(pattern(400_000))
        let isOpen = Monitor(false)
        node.store.interceptPieces { _, offset in
            if offset > 0 { _ = isOpen.wait { $0 ? true : nil } }
        }
        let ended = Monitor<[Int]>([])
        let get = node.statusOfGet
        for name in ["a", "b", "c"] {
            spawnThread(name: name) { [path = path(digest)] in
                let status = get(path)
                ended.update { $0.append(status) }
            }
        }
        var looks = 0
        while try node.sample("forebay_coalesced_requests_total") != 2, looks < 5_000 { looks += 1 }
        #expect(try node.sample("forebay_fills_running") == 1)
        isOpen.update { $0 = true }
        #expect(ended.wait { $0.count == 3 ? $0 : nil } == [200, 200, 200])
        node.cache.waitForFills()
        #expect(try node.sample("forebay_cache_misses_total") == 1)
        #expect(try node.sample("forebay_coalesced_requests_total") == 2)
        #expect(try node.sample("forebay_cache_hits_total") == 0)
        #expect(try node.sample(#"forebay_origin_requests_total{operation="get",code="200"}"#) == 1)
        #expect(try node.sample("forebay_fills_running") == 0)
        let lines = node.lines.wait { $0.filter { $0.contains(#""route":"blob""#) }.count == 3 ? $0 : nil } ?? []
        #expect(
            lines.count { $0.contains(#""cache":"fill""#) } == 2 && lines.count { $0.contains(#""cache":"miss""#) } == 1
        )
    }

    /// Bug: retries and outages were counted where nobody could read them, and connections not at all.
    @Test func howTheOriginFaresIsTold() throws {
        let node = try MonitoredNode()
        #expect(try node.sample("forebay_origin_up") == 1)
        #expect(
            try !node.request("GET", "/metrics").1.contains("forebay_origin_connections"),
            "there are none to a directory"
        )
        node.store.availability.set(isDown: true)
        node.store.health.outages = 2
        node.store.health.retries = 30
        node.store.health.retriesDenied = 4
        node.store.health.connections = .init(opened: 50, inUse: 6, idle: 7)
        #expect(try node.sample("forebay_origin_up") == 0)
        #expect(try node.sample("forebay_origin_outages_total") == 2)
        #expect(try node.sample("forebay_origin_retries_total") == 30)
        #expect(try node.sample("forebay_origin_retries_denied_total") == 4)
        #expect(try node.sample("forebay_origin_connections_opened_total") == 50)
        #expect(try node.sample(#"forebay_origin_connections{state="in_use"}"#) == 6)
        #expect(try node.sample(#"forebay_origin_connections{state="idle"}"#) == 7)
    }

    /// Bug: what was refused here, since the origin is down, counted as a request that it had failed.
    @Test(arguments: [false, true])
    func whatTheOriginIsNeverAskedIsNoRequest(wasTried: Bool) throws {
        let node = try MonitoredNode()
        let digest = Digest(of: [7])
        node.store.intercept { _, call throws(StoreError) in
            guard call.key.contains(digest.hex) else { return }
            throw StoreError(.get, in: "memory", .unavailable, "", wasTried: wasTried)
        }
        #expect(try node.request("GET", path(digest)).0.status == 503)
        node.cache.waitForFills()
        let count = try node.sample(#"forebay_origin_requests_total{operation="get",code="error"}"#)
        #expect(count == (wasTried ? 1 : nil))
    }

    @Test func whatIsEvictedIsCounted() throws {
        let node = try MonitoredNode(ceilingBytes: 4 << 20)
        for seed in 0..<12 {
            let digest = node.seed(pattern(512 << 10, seed: seed))
            #expect(node.statusOfGet(path(digest)) == 200)
            node.cache.waitForFills()
        }
        let blobs = try #require(try node.sample("forebay_cache_evicted_blobs_total"))
        #expect(blobs >= 4)
        #expect(try #require(try node.sample("forebay_cache_evicted_bytes_total")) >= blobs * Double(512 << 10))
        #expect(try #require(try node.sample("forebay_cache_bytes")) <= Double(4 << 20))
        #expect(try node.sample("forebay_cache_limit_bytes") == Double(4 << 20))
    }

    @Test func uploadsAreCountedWhileTheyAreOpen() throws {
        let node = try MonitoredNode()
        let content = pattern(50_000)
        let opened = try node.request("POST", "/v2/team/app/blobs/uploads/").0
        #expect(opened.status == 202)
        #expect(try node.sample("forebay_upload_sessions") == 1)
        let location = try #require(opened.header("Location"))
        let separator = location.contains("?") ? "&" : "?"
        let put = try node.request("PUT", "\(location)\(separator)digest=\(Digest(of: content))", body: content)
        #expect(put.0.status == 201)
        #expect(try node.sample("forebay_upload_sessions") == 0)
        #expect(try #require(try node.sample(#"forebay_origin_bytes_total{direction="sent"}"#)) >= 50_000)
        #expect(try #require(try node.sample(#"forebay_origin_requests_total{operation="put",code="200"}"#)) >= 1)
    }

    @Test func aFailedFillIsCountedByWhatBecameOfIt() throws {
        let node = try MonitoredNode(ceilingBytes: 4 << 20)
        let damaged = node.seed(pattern(100_000))
        node.store["epoch/blobs/sha256/\(damaged.hex)"] = pattern(100_000, seed: 1)
        _ = node.statusOfGet(path(damaged))  // ends in a broken connection
        let failed = Digest(of: [7])
        node.store.intercept { _, call throws(StoreError) in
            if call.key.contains(failed.hex) { throw MemoryStore.unreachable(call) }
        }
        #expect(try node.request("GET", path(failed)).0.status == 503)
        let large = node.seed(pattern(5 << 20))
        #expect(node.statusOfGet(path(large)) == 200)
        node.cache.waitForFills()
        #expect(try node.sample(#"forebay_fills_total{outcome="damaged"}"#) == 1)
        #expect(try node.sample(#"forebay_fills_total{outcome="failed"}"#) == 1)
        #expect(try node.sample(#"forebay_fills_total{outcome="not_stored"}"#) == 1)
        #expect(
            try #require(try node.sample(#"forebay_origin_requests_total{operation="get",code="unreachable"}"#)) >= 1
        )
        #expect(try node.sample(#"forebay_fills_total{outcome="complete"}"#) == 0)
    }
}
