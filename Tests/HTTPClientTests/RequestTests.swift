import HTTPClient
import Testing
import Threading

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

@Suite struct RequestTests {
    @Test func theRequestIsSentAsGiven() throws {
        let (server, requests) = LoopbackServer.answering(ok)
        var configuration = ClientConfiguration.test()
        configuration.userAgent = "agent/1"
        let request = Request(
            "GET",
            server.url + "/a/../b/./c//%2e%2f%41/~'()*!?list-type=2&prefix=%2b%20+&marker&a=/%C3%A4",
            headers: [("X-One", "1"), ("x-empty", ""), ("x-blank", "  "), ("Range", "bytes=0-9"), ("X-Uni", "ä;\tb")]
        )
        try Client(configuration).perform(request)
        let sent = requests.withLock { $0[0] }
        #expect(
            sent.lines == [
                "GET /a/../b/./c//%2e%2f%41/~'()*!?list-type=2&prefix=%2b%20+&marker&a=/%C3%A4 HTTP/1.1",
                "Host: 127.0.0.1:\(server.port)", "User-Agent: agent/1", "Accept: */*",
                "X-One: 1", "x-empty:", "x-blank:", "Range: bytes=0-9", "X-Uni: ä;\tb",
            ]
        )
    }

    @Test(arguments: [
        ("GET", Body.none, nil), ("DELETE", .none, nil), ("PUT", .none, "0"), ("POST", .none, "0"),
        ("PATCH", .none, "0"),
        ("PUT", .bytes([]), "0"), ("PUT", .bytes([1, 2]), "2"), ("POST", .bytes([3]), "1"),
        ("DELETE", .bytes([4, 5, 6]), "3"),
        ("PATCH", .bytes([7]), "1"),
    ])
    func methodsSendTheirBody(method: String, body: Body, length: String?) throws {
        let (server, requests) = LoopbackServer.answering(ok)
        try Client(.test()).perform(Request(method, server.url + "/m", body: body))
        let sent = requests.withLock { $0[0] }
        #expect(sent.lines[0] == "\(method) /m HTTP/1.1")
        #expect(sent.values("Content-Length") == (length.map { [$0] } ?? []))
        #expect(Int64(sent.body.count) == body.length)
        #expect(sent.values("Content-Type") == [])
        #expect(sent.values("Transfer-Encoding") == [])
    }

    @Test func aProxyGetsTheWholeURL() throws {
        let (proxy, requests) = LoopbackServer.answering(ok)
        try Client(.test { $0.proxy = .url(proxy.url) }).perform(Request("GET", "http://nowhere.test/a?b"))
        #expect(requests.withLock { $0[0].lines[0] } == "GET http://nowhere.test/a?b HTTP/1.1")
    }

    @Test func aHandleForgetsTheRequestBefore() throws {
        let (server, requests) = LoopbackServer.answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        let client = try Client(.test { $0.maxConnections = 1 })
        try client.perform(Request("PUT", server.url + "/1", headers: [("X-Secret", "1")], body: .bytes([1, 2, 3])))
        try client.perform(Request("HEAD", server.url + "/2"))
        try client.perform(Request("GET", server.url + "/3"))
        let sent = requests.withLock { $0 }
        #expect(sent.map { $0.lines[0] } == ["PUT /1 HTTP/1.1", "HEAD /2 HTTP/1.1", "GET /3 HTTP/1.1"])
        #expect(sent[1...].allSatisfy { $0.values("X-Secret").isEmpty && $0.values("Content-Length").isEmpty })
        #expect(server.accepted == 1)
    }

    @Test func anAgreeingContentLengthIsSentOnce() throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let client = try Client(.test())
        try client.perform(Request("PUT", server.url, headers: [("content-length", "2")], body: .bytes([1, 2])))
        #expect(requests.withLock { $0[0].values("Content-Length") } == ["2"])
    }

    @Test(arguments: [
        ("X-A", "1\r\nX-B: 2"), ("X-A", "1\n"), ("X-A", "\0"), ("X-A", "\u{7f}"), ("X-A: 1\r\nX-B", "2"), ("", "1"),
        ("X A", "1"),
        ("X-A:", "1"), ("X-A;", "1"), ("Content-Length", "1"), ("Transfer-Encoding", "chunked"),
        ("expect", "100-continue"),
    ])
    func hostileHeadersAreRefused(name: String, value: String) throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request("GET", server.url, headers: [(name, value)]))
        }
        #expect(error?.kindName == "invalid")
        #expect(error?.reachedServer == false)
        #expect(error.map { !"\($0)".contains("\r") && !"\($0)".contains("\n") } ?? false)
        #expect(requests.withLock { $0.isEmpty })
    }

    @Test func theHeadHasALimit() throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let client = try Client(.test { $0.headerLimitBytes = 1_000 })
        let fitting = Request("GET", server.url, headers: [("X-A", String(repeating: "a", count: 900))])
        try client.perform(fitting)
        let error = failure { () throws(TransferError) in
            var request = fitting
            request.url += "/" + String(repeating: "b", count: 100)
            return try client.perform(request)
        }
        #expect(error?.kindName == "invalid")
        #expect(requests.withLock { $0.count } == 1)
    }

    @Test(arguments: [
        "", "/relative", "127.0.0.1/a", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http:///a",
        "http://u:p@127.0.0.1/",
        "http://127.0.0.1/a b", "http://127.0.0.1/a\r\nX: 1", "http://127.0.0.1/\0", "http://127.0.0.1/ä",
        "http://127.0.0.1/#f",
        "http://127.0.0.1:99999/", "http://127.0.0.1:x/",
    ])
    func hostileURLsAreRefused(url: String) throws {
        let error = failure { () throws(TransferError) in try Client(.test()).perform(Request("GET", url)) }
        #expect(error?.kindName == "invalid", "\(String(describing: error))")
        #expect(error.map { !"\($0)".contains("u:p") && !"\($0)".contains("\r") } ?? false)
    }

    @Test(arguments: ["", "GET /", "GET\r\n", "GÊT"])
    func hostileMethodsAreRefused(method: String) throws {
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request(method, "http://127.0.0.1/"))
        }
        #expect(error?.kindName == "invalid")
    }

    @Test func headTakesNoBody() throws {
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request("HEAD", "http://127.0.0.1/", body: .bytes([1])))
        }
        #expect(error?.kindName == "invalid")
    }
}
