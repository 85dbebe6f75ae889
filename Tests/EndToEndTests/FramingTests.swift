import FaultProxy
import Foundation
import Testing

/// Requests that two readers could take for different ones are refused, and their connection with them.
@Suite("Framing over a raw socket")
struct FramingTests {
    /// Sends `text` and a request that must never be seen as one; only a refusal may come back, and then the end.
    private func expectRefused(
        _ forebay: Forebay,
        _ text: String,
        _ statuses: Set<Int> = [400],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let connection = try Connection(to: forebay.endpoint)
        connection.socket.setTimeout(seconds: 10)
        let smuggled = "GET /v2/ HTTP/1.1\r\nHost: \(connection.authority)\r\n\r\n"
        // A reset while this is sent means that the refusal is already on its way.
        try? connection.socket.send((text + smuggled).utf8)
        let answer = try String(decoding: connection.readToEnd(), as: UTF8.self)
        // libmicrohttpd sends the head of its own error page twice, which is why there may be more than one.
        let answered = Set(answer.components(separatedBy: "HTTP/1.1 ").dropFirst().map { Int($0.prefix(3)) ?? 0 })
        #expect(
            !answered.isEmpty && answered.isSubset(of: statuses),
            "\(text.prefix(300)) -> \(answer)",
            sourceLocation: sourceLocation
        )
    }

    private func put(_ forebay: Forebay, _ fields: String..., body: String = "") -> String {
        (["PUT /v2/library/test/manifests/v1 HTTP/1.1", "Content-Type: \(manifestType)"] + fields)
            .joined(separator: "\r\n") + "\r\n\r\n" + body
    }

    @Test func lengthsThatConflict() throws {
        try withForebay { forebay in
            let host = "Host: \(forebay.endpoint.authority)"
            try expectRefused(forebay, put(forebay, host, "Content-Length: 5", "Content-Length: 6", body: "hello"))
            try expectRefused(forebay, put(forebay, host, "Content-Length: 6", "Content-Length: 5", body: "hello"))
            try expectRefused(forebay, put(forebay, host, "Content-Length: 5, 6", body: "hello"))
        }
    }

    @Test(arguments: ["-1", "+5", "5x", "0x5", "", "99999999999999999999999", "5 5", "٥"])
    func lengthsThatAreNone(length: String) throws {
        try withForebay { forebay in
            try expectRefused(forebay, put(forebay, "Host: a", "Content-Length: \(length)", body: "hello"), [400, 413])
        }
    }

    @Test func aLengthBesideATransferCoding() throws {
        try withForebay { forebay in
            let (length, coding) = ("Content-Length: 5", "Transfer-Encoding: chunked")
            try expectRefused(forebay, put(forebay, "Host: a", length, coding, body: "0\r\n\r\n"))
            try expectRefused(forebay, put(forebay, "Host: a", coding, length, body: "0\r\n\r\n"))
        }
    }

    @Test(
        arguments: [
            "gzip", "identity", "xchunked", "chunked, chunked", "gzip, chunked", "chunked, gzip", "", "chunked;q=1",
            "\"chunked\"",
        ]
    )
    func unknownTransferCodings(coding: String) throws {
        try withForebay { forebay in
            let request = put(forebay, "Host: a", "Transfer-Encoding: \(coding)", body: "0\r\n\r\n")
            try expectRefused(forebay, request, [400, 501])
        }
    }

    @Test func twoTransferCodingFields() throws {
        try withForebay { forebay in
            let fields = ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"]
            for order in [fields, fields.reversed(), [fields[0], fields[0]]] {
                try expectRefused(forebay, put(forebay, "Host: a", order[0], order[1], body: "0\r\n\r\n"), [400, 501])
            }
        }
    }

    @Test func aBlankInAFieldName() throws {
        try withForebay { forebay in
            try expectRefused(forebay, put(forebay, "Host: a", "Content-Length : 5", body: "hello"))
            try expectRefused(forebay, put(forebay, "Host: a", "Transfer-Encoding : chunked", body: "0\r\n\r\n"))
        }
    }

    @Test func aHostThatIsMissingOrTwofold() throws {
        try withForebay { forebay in
            try expectRefused(forebay, "GET /v2/ HTTP/1.1\r\n\r\n")
            try expectRefused(forebay, "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        }
    }

    @Test(
        arguments: [
            "/v2/%00", "/v2/library/test/manifests/v1%00.json", "/v2/library%00/tags/list", "/v2/../etc/passwd",
            "/v2/library/../../etc/tags/list", "/v2/library/test/manifests/..", "/v2/%2e%2e/tags/list",
            "/v2/%", "/v2/%zz/tags/list",
        ]
    )
    func pathsThatHideWhatTheyName(path: String) throws {
        try withForebay { forebay in
            try expectRefused(forebay, "GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
        }
    }

    @Test func headersTooLong() throws {
        try withForebay { forebay in
            let long = String(repeating: "x", count: 200_000)
            try expectRefused(forebay, "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Long: \(long)\r\n\r\n", [400, 431])
            try expectRefused(forebay, "GET /v2/\(long) HTTP/1.1\r\nHost: a\r\n\r\n", [400, 414, 431])
            let many = (0..<20_000).map { "X-\($0): 1\r\n" }.joined()
            try expectRefused(forebay, "GET /v2/ HTTP/1.1\r\nHost: a\r\n\(many)\r\n", [400, 431])
        }
    }

    @Test(arguments: ["", "\r\n\r\n", "GET\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}", "GET /v2/ HTTP/9.9\r\nHost: a\r\n\r\n"])
    func whatIsNoRequestAtAll(text: String) throws {
        try withForebay { forebay in
            let connection = try Connection(to: forebay.endpoint)
            try connection.socket.send(text.utf8)
            connection.socket.finishSending()
            let answer = try String(decoding: connection.readToEnd(), as: UTF8.self)
            #expect(!answer.contains(" 200 "))
            #expect(try forebay.endpoint.request("GET", "/v2/").status == 200, "and the server is still there")
        }
    }

    private static let refused = [
        (name: "two-lengths", fields: "Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", status: 400),
        (
            name: "both", fields: "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            status: 400
        ),
        (name: "long", fields: "Host: a\r\nX-Long: \(String(repeating: "x", count: 9 << 10))\r\n\r\n", status: 400),
        (name: "no-host", fields: "\r\n", status: 400),
        // libmicrohttpd answers these by itself, without a name; they are counted and logged all the same.
        (name: "chunks", fields: "Host: a\r\nTransfer-Encoding: chunked\r\n\r\nnine\r\n", status: 400),
        (name: "endless", fields: "Host: a\r\nX-Long: \(String(repeating: "x", count: 200_000))\r\n\r\n", status: 431),
    ]

    @Test func whatIsRefusedIsNamedLoggedAndCountedOnce() throws {
        try withForebay(flags: ["--access-log", "full"]) { forebay in
            // That of the harness, which may still be about to be counted.
            let before = try poll(for: "a refusal") {
                let count = try refusals(forebay)
                return count > 0 ? count : nil
            }
            for (name, fields, _) in Self.refused {
                let connection = try Connection(to: forebay.endpoint)
                let head = "PUT /v2/library/test/manifests/v1 HTTP/1.1\r\nX-Request-Id: \(name)\r\n"
                // A reset while this is sent means that the refusal is already on its way.
                try? connection.socket.send((head + fields).utf8)
                let answer = try String(decoding: connection.readToEnd(), as: UTF8.self)
                let isOurs = !["chunks", "endless"].contains(name)
                #expect(answer.contains("\r\nX-Request-Id: \(name)\r\n") == isOurs, "\(name): \(answer)")
            }
            for (name, _, status) in Self.refused {
                let line = try poll(for: "the line of \(name)") {
                    forebay.log.split(separator: "\n").first { $0.contains("\"id\":\"\(name)\"") }
                }
                #expect(line.contains("\"status\":\(status),"), "\(line)")
            }
            #expect(try refusals(forebay) - before == Self.refused.count)
        }
    }

    /// So many are counted, and are in the log sooner or later.
    private func refusals(_ forebay: Forebay) throws -> Int {
        let page = try forebay.endpoint.request("GET", "/metrics").text
        let counts = page.split(separator: "\n").filter {
            $0.hasPrefix("forebay_requests_total{") && $0.contains("code=\"4")
        }.map { Int($0.split(separator: " ")[1]) ?? 0 }
        let count = counts.reduce(0, +)
        try poll(for: "\(count) refusals in the log") {
            forebay.log.components(separatedBy: "\"status\":4").count - 1 == count ? () : nil
        }
        return count
    }

    @Test func aConnectionServesManyRequests() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "v1")
            let connection = try Connection(to: forebay.endpoint)
            for _ in 0..<50 {
                try #require(same(connection.request("GET", repository.path("manifests/v1")).body, manifest))
                try #require(try connection.request("GET", repository.path("manifests/none")).status == 404)
                let blob = noise(1_000, seed: 1)
                let path = repository.path("blobs/uploads/?digest=\(sha256(blob))")
                try #require(try connection.request("POST", path, body: .chunked([blob])).status == 201)
            }
        }
    }
}
