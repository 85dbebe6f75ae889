import Glibc
import HTTPServer
import Synchronization
import System
import Testing
import Threading

@Suite("The server on its loops")
struct ServerTests {
    private func body(_ count: Int, first: Character = "a") -> [UInt8] {
        [first.asciiValue!] + (1..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    }

    private func echo(_ bytes: [UInt8]) -> String {
        "\(bytes.count) \(bytes.reduce(UInt64(0)) { $0 &* 31 &+ UInt64($1) })"
    }

    private func post(_ path: String, length: Int) -> String {
        "POST \(path) HTTP/1.1\r\nHost: a\r\nContent-Length: \(length)\r\n\r\n"
    }

    // MARK: Fast and slow

    @Test func oneConnectionMixesWhatIsReadyWithWhatIsNot() throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            for _ in 0..<3 {
                #expect(try client.get("/prepared").text == "ready")
                #expect(try client.get("/other").text == "/other")
                #expect(try client.get("/now").text == "now")
            }
            let seen = handler.seen.withLock { $0 }
            #expect(seen.handled == ["/other", "/other", "/other"], "what is ready is not asked for twice")
            #expect(seen.threads == ["loop-0", "request"], "and only the rest has a thread of its own")
        }
    }

    @Test func aHeadOfAPreparedAnswerHasItsLengthAndNoBody() throws {
        try withServer { server, _ in
            let client = try RawClient(port: server.port)
            let answer = try client.get("/prepared", method: "HEAD")
            #expect(answer.headers["content-length"] == "5")
            #expect(answer.headers["x-kind"] == "prepared")
            #expect(try client.get("/now").text == "now", "and the next answer begins where it should")
        }
    }

    @Test func aRequestThatWaitsHoldsUpNobodyElse() throws {
        try withServer { server, handler in
            let slow = try (0..<50).map { _ in try RawClient(port: server.port) }
            for client in slow { try client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n") }
            try #require(handler.waitForWaiting(50))
            let client = try RawClient(port: server.port)
            #expect(try client.get("/prepared").text == "ready")
            #expect(try client.get("/other").text == "/other")
            #expect(server.requestsInFlight >= 50)
            handler.open()
            for client in slow { #expect(try client.answer().text == "slow") }
        }
    }

    @Test func requestsThatCameTogetherAreAnsweredInTheirOrder() throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            let paths = ["/slow", "/prepared", "/other", "/now"]
            try client.send(paths.map { "GET \($0) HTTP/1.1\r\nHost: a\r\n\r\n" }.joined())
            try #require(handler.waitForWaiting(1))
            handler.open()
            #expect(try paths.map { _ in try client.answer().text } == ["slow", "ready", "/other", "now"])
        }
    }

    // MARK: Bodies

    /// Pieces are 1 MiB.
    @Test(arguments: [1, 70_000, 262_144, 1_000_003, 1 << 20, 2_400_011])
    func aBodyArrivesWholeAndInOrder(count: Int) throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            let bytes = body(count)
            for _ in 0..<2 {
                try client.send(Array(post("/echo", length: count).utf8) + bytes)
                #expect(try client.answer().text == echo(bytes))
            }
            #expect(handler.seen.withLock { $0.overlaps } == 0)
        }
    }

    /// Also before a body, and with little left of the connection's memory for the answer.
    @Test(arguments: [1, 32])
    func aHeaderSectionWithinTheLimitIsRead(fields: Int) throws {
        try withServer { server, _ in
            let value = String(repeating: "x", count: 8_000 / fields - 20)
            let headers = (0..<fields).map { "X-\($0): \(value)\r\n" }.joined()
            let client = try RawClient(port: server.port)
            for _ in 0..<2 {
                try client.send("GET /now HTTP/1.1\r\nHost: a\r\n\(headers)\r\n")
                #expect(try client.answer().text == "now")
            }
            let bytes = body(100_000)
            let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: \(bytes.count)\r\n\(headers)\r\n"
            try client.send(Array(head.utf8) + bytes)
            #expect(try client.answer().text == echo(bytes))
        }
    }

    @Test func aBodyArrivesWholeWhereItsFirstPieceIsTakenInSlowly() throws {
        try withServer { server, handler in
            // Two pieces, and some more for which the connection has to wait.
            let bytes = body(2_300_000, first: "w")
            let client = try RawClient(port: server.port)
            try client.send(Array(post("/echo", length: bytes.count).utf8) + bytes)
            try #require(handler.waitForWaiting(1))
            handler.open()
            #expect(try client.answer().text == echo(bytes))
            #expect(handler.seen.withLock { $0.overlaps } == 0)
        }
    }

    @Test func aChunkedBodyArrivesWholeAndInOrder() throws {
        try withServer { server, _ in
            let client = try RawClient(port: server.port)
            let bytes = body(900_000)
            var sent = Array("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
            var start = 0
            // Chunks of many sizes, so that several of them come in one piece.
            for size in [1, 5, 3, 100, 7, 50_000, 2, 2, 2, 300_000].lazy.map({ $0 }) + [549_878] {
                sent += Array("\(String(size, radix: 16))\r\n".utf8) + bytes[start..<start + size] + Array("\r\n".utf8)
                start += size
            }
            try client.send(sent + Array("0\r\n\r\n".utf8))
            #expect(try client.answer().text == echo(bytes))
        }
    }

    @Test func aBodyThatWaitsHoldsUpNobodyElse() throws {
        try withServer { server, handler in
            let bytes = body(200_000, first: "w")
            let slow = try RawClient(port: server.port)
            try slow.send(Array(post("/echo", length: bytes.count).utf8) + bytes)
            try #require(handler.waitForWaiting(1))
            #expect(try RawClient(port: server.port).get("/now").text == "now")
            handler.open()
            #expect(try slow.answer().text == echo(bytes))
        }
    }

    @Test func theClientIsToldToGoOnOnlyWhenItsBodyIsWanted() throws {
        try withServer { server, _ in
            let client = try RawClient(port: server.port)
            let head = "Host: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            try client.send("POST /echo HTTP/1.1\r\n\(head)")
            #expect(try client.answer(hasBody: false).status == 100)
            try client.send("hello")
            #expect(try client.answer().text == echo(Array("hello".utf8)))
            try client.send("POST /refused HTTP/1.1\r\n\(head)")
            #expect(try client.answer().status == 403)
            #expect(client.isAtEnd())
        }
    }

    @Test(arguments: ["/stream", "/partly-at-hand", "/at-hand", "/chunked"])
    func aBodyIsStreamed(path: String) throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            // Often: a block that was there before libmicrohttpd was told to wait for it used to get lost.
            for _ in 0..<30 {
                let answer = try client.get(path)
                #expect(answer.body == (0..<600_000).map { UInt8(truncatingIfNeeded: $0) })
            }
            #expect(try client.get("/now").text == "now")
            #expect(handler.waitForEnds(1)?.first?.bodyBytes == 600_000)
            if path == "/at-hand" { return }
            #expect(handler.seen.wait(until: .after(.seconds(20))) { $0.producersGone == 30 ? true : nil } == true)
        }
    }

    @Test func aStreamThatFailsBreaksTheConnection() throws {
        try withServer { server, handler in
            #expect(throws: RawClient.Failure.self) { try RawClient(port: server.port).get("/broken") }
            let end = try #require(handler.waitForEnds(1)?.first)
            #expect(end.isBroken && end.bodyBytes == 300_000)
            #expect(!end.isComplete)
        }
    }

    @Test func aFileIsSentWhetherItIsInMemoryOrNot() throws {
        var template = Array("/tmp/forebay-http-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        let path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        defer { unlink(path) }
        let file = File(owning: descriptor, path: path)
        let bytes = body(300_010)
        try LocalFileSystem().write(bytes.span, to: file, at: 0)
        try LocalFileSystem().synchronize(file)
        try withServer(ScriptedHandler(file: file)) { server, _ in
            let client = try RawClient(port: server.port)
            #expect(try client.get("/file").body == Array(bytes[3..<300_003]))
            posix_fadvise(descriptor, 0, 0, Int32(POSIX_FADV_DONTNEED))
            #expect(try client.get("/file").body == Array(bytes[3..<300_003]))
        }
    }

    /// The client would wait for the rest for ever. Bug: it got a 500, which says that it need not ask again.
    @Test func aFileThatIsShorterThanItsAnswerIsRefused() throws {
        let path = "/tmp/forebay-http-\(getpid())-short"
        let file = try LocalFileSystem().open(path, .create)
        defer { unlink(path) }
        try LocalFileSystem().write(body(300_002).span, to: file, at: 0)
        try withServer(ScriptedHandler(file: file)) { server, _ in
            let client = try RawClient(port: server.port)
            try client.send("GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try client.status() == 503)
        }
    }

    // MARK: Clients that leave

    /// The kernel takes a few MiB for a client that reads nothing.
    @Test func whatAClientDidNotTakeIsNotCounted() throws {
        try withLargeFile { server, handler in
            let client = try RawClient(port: server.port)
            try client.send("GET /whole-file HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try client.status() == 200)
            // A client that has but the head may leave before the first piece.
            _ = try client.rest(1 << 20)
            client.close()
            let end = try #require(handler.waitForEnds(1)?.first)
            #expect(!end.isComplete && !end.isBroken)
            #expect(end.bodyBytes > 0 && end.bodyBytes < 24 << 20, "\(end.bodyBytes)")
        }
    }

    @Test func aReceiverHearsThatItsClientIsGone() throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            try client.send(post("/echo", length: 100_000) + "some")
            try #require(handler.seen.wait(until: .after(.seconds(20))) { $0.handled.count == 1 ? true : nil } ?? false)
            client.close()
            #expect(handler.seen.wait(until: .after(.seconds(20))) { $0.abandoned == 1 ? true : nil } == true)
        }
    }

    @Test func aSmallBodyIsThereBeforeAnybodyIsAsked() throws {
        try withServer { server, handler in
            let gone = try RawClient(port: server.port)
            try gone.send(post("/echo", length: 1_000) + "some")
            gone.close()
            let end = try #require(handler.waitForEnds(1)?.first)
            #expect(!end.isComplete)
            #expect(handler.seen.withLock { $0.handled } == [], "there is nothing that could be done with it")
            let client = try RawClient(port: server.port)
            for count in [1, 1_000, 65_536, 65_537] {
                let sent = body(count)
                try client.send(Array(post("/echo", length: count).utf8) + sent)
                #expect(try client.answer().text == echo(sent))
            }
            // Whoever asks first is answered before the body, and a refusal of what has been read does not end the connection.
            try client.send(post("/refused", length: 4) + "body")
            #expect(try client.answer().status == 403)
            try client.send("POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            #expect(try client.answer().status == 403)
        }
    }

    @Test func aReceiverHearsOfItOnlyAfterThePieceThatItTakesIn() throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            try client.send(Array(post("/echo", length: 3 << 20).utf8) + body(1_200_000, first: "w"))
            try #require(handler.waitForWaiting(1))
            client.close()
            #expect(handler.waitForEnds(1)?.first?.isComplete == false)
            #expect(handler.seen.withLock { $0.abandoned } == 0)
            handler.open()
            #expect(handler.seen.wait(until: .after(.seconds(20))) { $0.abandoned == 1 ? true : nil } == true)
            #expect(handler.seen.withLock { $0.overlaps } == 0)
        }
    }

    @Test(arguments: ["/slow", "/gated-stream"])
    func aClientThatLeavesWhileItsRequestWaitsIsLetGo(path: String) throws {
        try withServer { server, handler in
            let client = try RawClient(port: server.port)
            try client.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
            try #require(handler.waitForWaiting(1))
            client.close()
            handler.open()
            #expect(handler.waitForEnds(1)?.count == 1)
            #expect(try RawClient(port: server.port).get("/now").text == "now")
        }
    }

    private static let requests = ["/now", "/prepared", "/other", "/stream"].map {
        ("GET \($0) HTTP/1.1\r\nHost: a\r\n\r\n", 1)
    }

    /// The end of what the client sends may come together with its last bytes; such connections used to stay until they timed out.
    @Test(
        arguments: [
            ("", 0), ("\r\n", 0), ("GET", 0), ("GET /now HTTP/1.1\r\nHost: a\r\n", 0),
            ("GET /now HTTP/1.1\r\nHost: a\r\n\r\nGET /prep", 1),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome", 0),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nsome", 1),
        ] + requests
    )
    func aClientThatSendsNothingMoreIsAnsweredAndLetGo(text: String, answers: Int) throws {
        try withServer { server, _ in
            for _ in 0..<3 {
                let client = try RawClient(port: server.port)
                try client.send(text)
                client.finishSending()
                for _ in 0..<answers { #expect(try client.answer().status / 100 == 2) }
                #expect(client.isAtEnd())
            }
            let client = try RawClient(port: server.port)
            #expect(try client.get("/now").text == "now")
            // And one that is idle for a moment first.
            client.finishSending()
            #expect(client.isAtEnd())
        }
    }

    /// Whoever works for a request can see that its client has left.
    @Test func theEndOfAClientIsSeenByTheHandler() throws {
        try withServer { server, handler in
            let (left, quiet) = (try RawClient(port: server.port), try RawClient(port: server.port))
            for client in [left, quiet] { try client.send("GET /until-hung-up HTTP/1.1\r\nHost: a\r\n\r\n") }
            left.close()
            #expect(handler.waitForEnds(1)?.count == 1)
            quiet.finishSending()
            #expect(try quiet.answer().text == "hung up")
        }
    }

    /// Bug: who said that it sends nothing more got no answer when its request was with a thread, unless its connection had been quiet for longest.
    @Test func aClientThatSendsNothingMoreGetsItsAnswer() throws {
        try withServer { server, handler in
            let quiet = try RawClient(port: server.port)
            #expect(try quiet.get("/now").text == "now")
            let client = try RawClient(port: server.port)
            try client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(handler.waitForWaiting(1))
            client.finishSending()
            handler.open()
            #expect(try client.answer().text == "slow")
            #expect(client.isAtEnd())
        }
    }

    @Test func aLargeBodyMayEndWithTheClient() throws {
        try withServer { server, _ in
            let bytes = body(900_000)
            let client = try RawClient(port: server.port)
            try client.send(Array(post("/echo", length: bytes.count).utf8) + bytes)
            client.finishSending()
            #expect(try client.answer().text == echo(bytes))
            #expect(client.isAtEnd())
        }
    }

    // MARK: Limits

    @Test func connectionsAreLimited() throws {
        try withServer(loops: 2) {
            $0.connectionLimit = 3
        } _: { server, _ in
            var clients = try (0..<3).map { _ in try RawClient(port: server.port) }
            for client in clients { #expect(try client.get("/now").text == "now") }
            #expect(try RawClient(port: server.port).isAtEnd())
            clients.removeLast().close()
            #expect(try getsIn(server))
            #expect(try clients[0].get("/now").text == "now")
        }
    }

    @Test func connectionsOfOneAddressAreLimited() throws {
        try withServer(loops: 2) {
            $0.connectionsPerAddressLimit = 2
        } _: { server, _ in
            let clients = try (0..<2).map { _ in try RawClient(port: server.port) }
            for client in clients { #expect(try client.get("/now").text == "now") }
            #expect(try RawClient(port: server.port).isAtEnd())
            clients[0].close()
            #expect(try getsIn(server))
        }
    }

    /// The server learns of a closed connection in its own time.
    private func getsIn(_ server: Server) throws -> Bool {
        for _ in 0..<1_000 {
            if let answer = try? RawClient(port: server.port).get("/now") { return answer.text == "now" }
            pauseThread(.milliseconds(10))
        }
        return false
    }

    // MARK: Stopping

    @Test func aStopLetsWaitingRequestsFinish() throws {
        let handler = ScriptedHandler()
        var configuration = ServerConfiguration(host: "127.0.0.1", port: 0)
        configuration.loops = 2
        let server = try Server(configuration, handler: handler)
        let idle = try RawClient(port: server.port)
        #expect(try idle.get("/prepared").headers["connection"] == nil)
        let slow = try RawClient(port: server.port)
        try slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        try #require(handler.waitForWaiting(1))
        let stopped = Monitor<Bool?>(nil)
        spawnThread(name: "stop") { stopped.update { $0 = server.stop(drain: .seconds(20)) } }
        // Refused from the moment on when the socket is closed; then the server drains.
        while (try? RawClient(port: server.port)) != nil { pauseThread(.milliseconds(1)) }
        handler.open()
        let answer = try slow.answer()
        #expect(answer.text == "slow")
        #expect(stopped.wait(until: .after(.seconds(20))) { $0 } == true)
        #expect(idle.isAtEnd())
    }

    @Test func aStopGivesUpOnRequestsThatDoNotFinish() throws {
        let handler = ScriptedHandler()
        let server = try Server(ServerConfiguration(host: "127.0.0.1", port: 0), handler: handler)
        let client = try RawClient(port: server.port)
        try client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        try #require(handler.waitForWaiting(1))
        #expect(!server.stop(drain: .milliseconds(10)))
        handler.open()
        #expect(try client.answer().headers["connection"] == "close")
    }
}
