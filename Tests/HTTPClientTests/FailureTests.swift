import HTTPClient
import Synchronization
import Testing
import Threading

@Suite struct FailureTests {
    @Test(arguments: [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ])
    func aShortBodyIsAnError(answer: String) throws {
        let server = LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            connection.send(answer)
        }
        let error = failure { () throws(TransferError) in try Client(.test()).perform(Request("GET", server.url)) }
        #expect(error?.kindName == "shortBody")
        #expect(error?.bytesReceived == 5)
        #expect(error?.reachedServer == true)
        #expect(error?.isConnectionLevel == true)
    }

    @Test(arguments: ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"])
    func aStalledServerIsLeft(answer: String) throws {
        let server = LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            connection.send(answer)
            connection.waitForEnd()
        }
        var request = Request("GET", server.url)
        request.stallSeconds = 1
        let error = failure { () throws(TransferError) in try Client(.test()).perform(request) }
        #expect(error?.kindName == "stalled")
        #expect(error?.reachedServer == (answer.isEmpty ? nil : true))
    }

    @Test func theTotalTimeoutEndsATransferThatMoves() throws {
        let server = LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            connection.waitForEnd()
        }
        var request = Request("GET", server.url)
        request.totalTimeoutMilliseconds = 100
        let error = failure { () throws(TransferError) in try Client(.test()).perform(request) }
        guard case .timeout(.total) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.bytesReceived == 5)
    }

    /// The TLS handshake counts as connecting.
    @Test func connectingHasALimit() throws {
        let server = LoopbackServer { $0.waitForEnd() }
        let client = try Client(.test { $0.connectTimeoutMilliseconds = 100 })
        let error = failure { () throws(TransferError) in
            try client.perform(Request("GET", "https://127.0.0.1:\(server.port)/"))
        }
        guard case .timeout(.connect) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.reachedServer == false)
    }

    @Test func aRefusedConnectionIsAnError() throws {
        let port = RefusingPort()
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request("GET", "http://127.0.0.1:\(port.number)/"))
        }
        #expect(error?.kindName == "connect")
        #expect(error?.code == 7)
        #expect(error?.reachedServer == false)
        #expect(error?.isConnectionLevel == true)
    }

    @Test func anUnknownHostIsAnError() throws {
        // Too long a label for any name server: fails without asking one.
        let host = String(repeating: "a", count: 70) + ".test"
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request("GET", "http://\(host)/"))
        }
        #expect(error?.kindName == "resolve", "\(String(describing: error))")
        #expect(error?.reachedServer == false)
    }

    private struct Enough: Error {}

    /// A body without end: the transfer can only end by the receiver's error.
    private func endless(_ ended: Monitor<Bool> = Monitor(false)) -> LoopbackServer {
        LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n12345")
            connection.waitForEnd()
            ended.update { $0 = true }
        }
    }

    @Test func whatTheReceiverThrowsEndsTheTransfer() throws {
        let ended = Monitor(false)
        let server = endless(ended)
        let client = try Client(.test())
        let error = failure { () throws(TransferError) in
            try client.perform(Request("GET", server.url)) { _, _ in throw Enough() }
        }
        guard case .receiver(let reason) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason is Enough)
        #expect(error?.bytesReceived == 5)
        // The connection cannot be used again and is closed.
        #expect(ended.wait(until: .after(.seconds(30))) { $0 ? true : nil } == true)
    }

    @Test func whatOnHeadThrowsEndsTheTransfer() throws {
        let server = endless()
        var pieces = 0
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(
                Request("GET", server.url),
                onHead: { _ in throw Enough() },
                receive: { _, _ in pieces += 1 }
            )
        }
        #expect(error?.kindName == "receiver")
        #expect(pieces == 0)
    }

    @Test func anotherThreadCanCancel() throws {
        let cancelled = Atomic(false)
        let server = LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            cancelled.store(true, ordering: .relaxed)
            connection.waitForEnd()
        }
        let client = try Client(.test())
        let error = failure { () throws(TransferError) in
            try client.perform(Request("GET", server.url), isCancelled: { cancelled.load(ordering: .relaxed) })
        }
        #expect(error?.kindName == "cancelled")
        #expect(error?.isConnectionLevel == false)
        #expect(client.statistics.failures == 1)
    }

    /// Bug: the second request said that libcurl refused an option, the first that nobody took a connection; neither named the proxy.
    @Test(arguments: ["bogus://user:hunter2@127.0.0.1:1", "user:hunter2@no host:1"])
    func aProxyThatCannotBeUsedIsNamed(_ url: String) throws {
        var configuration = ClientConfiguration.test()
        configuration.proxy = .url(url)
        let client = try Client(configuration)
        for _ in 0..<2 {
            let request = Request("GET", "http://127.0.0.1:1/")
            let error = try #require(failure { () throws(TransferError) in try client.perform(request) })
            #expect("\(error)".contains("http_proxy") && !"\(error)".contains("hunter2"), "\(error)")
            #expect(error.isConnectionLevel)
        }
    }

    @Test func errorsHoldNoSecrets() throws {
        let secrets = ["hunter2", "AKIA", "Signature"]
        let port = RefusingPort()
        let (server, _) = LoopbackServer.answering("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")
        var proxied = ClientConfiguration.test()
        proxied.proxy = .url("bogus://user:hunter2@127.0.0.1:1")
        let attempts: [(Client, String)] = [
            (try Client(.test()), "http://127.0.0.1:\(port.number)/bucket/key"),
            (try Client(.test()), server.url + "/bucket/key"),
            (try Client(.test()), "ftp://user:hunter2@127.0.0.1/bucket/key"),
            (try Client(.test()), "http://user:hunter2@127.0.0.1/bucket/key"),
            (try Client(proxied), "http://127.0.0.1:\(port.number)/bucket/key"),
        ]
        for (client, url) in attempts {
            let request = Request(
                "GET",
                url + "?X-Amz-Signature=AKIA#hunter2".prefix(url.contains("@") ? 40 : 21),
                headers: [("Authorization", "AWS4-HMAC-SHA256 Credential=AKIA, Signature=hunter2")]
            )
            let error = try #require(failure { () throws(TransferError) in try client.perform(request) })
            #expect(secrets.allSatisfy { !"\(error)".contains($0) }, "\(error)")
            #expect("\(error)".contains("GET "))
            #expect("\(error)".contains("/bucket/key"))
        }
    }
}
