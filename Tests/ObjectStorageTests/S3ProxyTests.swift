import FaultProxy
import HTTPClient
import ObjectStorage
import Testing

private let key = ScriptedStore.key

/// A proxy between this machine and the store has a will of its own.
@Suite struct S3ProxyTests {
    /// The server is the proxy of a store that is nowhere.
    private func with(_ server: ScriptedServer, _ scheme: String, _ body: (Weather) throws -> Void) throws {
        var client = ClientConfiguration()
        client.proxy = .url("http://user:hunter2@127.0.0.1:\(server.port)")
        let endpoint = try S3Endpoint("\(scheme)://store.test", bucket: "bucket", region: "us-east-1")
        try Weather.with(server, client: client, { $0.endpoint = endpoint }, body)
    }

    private func expect(_ error: StoreError, names words: [String]) {
        for word in words { #expect(error.description.contains(word), "\(error)") }
        #expect(!error.description.contains("hunter2") && !error.description.contains("user:"), "\(error)")
    }

    /// Bug: "failed (status 407)" was all that was said, or that the store is unreachable.
    @Test(arguments: ["http", "https"])
    func oneThatWantsCredentialsIsNamed(_ scheme: String) throws {
        let server = ScriptedServer { _, _ in .status(407) }
        try with(server, scheme) { test in
            for error in [try test.error { try $0.check() }, try test.error { _ = try $0.head(key) }] {
                guard case .proxyRefused = error.kind else {
                    Issue.record("another kind: \(error)")
                    return
                }
                #expect(!error.isRetryable)
                expect(error, names: ["proxy 127.0.0.1:\(server.port)", "407", "name and password", "no_proxy"])
            }
            #expect(server.requests.count == 2, "not asked again in vain")
        }
    }

    /// It may be on its way up again.
    @Test(arguments: [403, 502])
    func oneThatRefusesATunnelIsNamed(_ status: Int) throws {
        let server = ScriptedServer { _, _ in .status(status) }
        try with(server, "https") { test in
            let error = try test.error { try $0.check() }
            guard case .unreachable = error.kind else {
                Issue.record("another kind: \(error)")
                return
            }
            #expect(error.isRetryable)
            expect(error, names: ["proxy 127.0.0.1:\(server.port)", "status \(status)", "let it pass", "no_proxy"])
        }
    }
}

@Suite struct S3ConnectionTests {
    /// Bug: nothing said how many connections there are.
    @Test func areCounted() throws {
        let server = ScriptedServer { _, number in number == 0 ? .status(500) : .ok("", [("ETag", "\"e\"")]) }
        try Weather.with(server) { test in
            #expect(test.store.health.connections == .init(opened: 0, inUse: 0, idle: 0))
            for _ in 0..<3 { _ = try test.store.head(key) }
            let health = test.store.health
            let connections = try #require(health.connections)
            #expect(connections.inUse == 0 && connections.idle == 1)
            #expect((1...server.requests.count).contains(connections.opened))
            #expect(health.retries == 1 && health.retriesDenied == 0)
        }
    }
}
