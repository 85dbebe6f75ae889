import HTTPServer
import Testing

/// Requests that no handler is shown.
@Suite struct RefusalTests {
    private static let refused: [(request: String, status: Int)] = [
        // By us.
        ("GET /now HTTP/1.1\r\n\r\n", 400),
        ("GET /../now HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET /now HTTP/1.1\r\nHost: a\r\nX-A: \(String(repeating: "x", count: 9 << 10))\r\n\r\n", 400),
        // By libmicrohttpd.
        ("GET /now HTTP/1.1\r\nHost: a\r\nX-A: \(String(repeating: "x", count: 100 << 10))\r\n\r\n", 431),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello\r\n0\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello6\r\n0\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\nhello", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nhello", 413),
    ]

    @Test(arguments: refused)
    func whatIsRefusedForItsFormEndsOnceWithItsStatus(request: String, status: Int) throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            // A reset while this is sent means that the refusal is already on its way.
            try? client.send(request)
            #expect(try client.status() == status)
            #expect(handler.waitForEnds(1)?.first?.status == status)
            #expect(try RawClient(port: server.port).get("/now").text == "now")
            #expect(handler.waitForEnds(2)?.count == 2)
        }
    }

    /// Wherever it stands, and however long what it stands in is.
    @Test(arguments: [("\u{1}", 400), ("\u{1F}", 400), ("\u{7F}", 400), ("\t", 200), ("é", 200)])
    func oneByteOfAHeaderDecides(byte: String, status: Int) throws {
        try withServer { server, _ in
            for place in 0..<20 {
                let value = String(repeating: "x", count: place) + byte
                for value in [value, value + "yyyyy"] {
                    let client = try RawClient(port: server.port)
                    try client.send("GET /now HTTP/1.1\r\nHost: a\r\nX-A: \(value)\r\n\r\n")
                    #expect(try client.status() == status, "\(value)")
                }
            }
        }
    }

    @Test(arguments: [
        ("/..", 400), ("/%2e%2E/now", 400), ("%00", 400), ("%", 400), ("a.b", 200), ("é", 200), ("?..", 200),
        // Bug: what stood before the zero was done, as if the rest had not been said.
        ("\0", 400), ("a\0b", 400), ("?a\0b", 400),
    ])
    func aPartOfATargetDecides(part: String, status: Int) throws {
        try withServer { server, _ in
            for place in 0..<20 {
                let target = "/" + String(repeating: "x", count: place) + part
                let client = try RawClient(port: server.port)
                try client.send("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try client.status() == status, "\(target)")
            }
        }
    }

    @Test func aHeaderSectionThatIsTooLargeIsRefused() throws {
        try withServer {
            $0.headerLimitBytes = 1_000
        } _: { server, _ in
            let client = try RawClient(port: server.port)
            try client.send("GET /now HTTP/1.1\r\nHost: a\r\nX-A: \(String(repeating: "x", count: 2_000))\r\n\r\n")
            #expect(try client.answer().status == 400)
            #expect(client.isAtEnd())
            #expect(try RawClient(port: server.port).get("/now").text == "now")
        }
    }
}
