import Glibc
import Testing

/// What counts requests and ends programs is itself put to the test: a counter that sees nothing proves nothing.
@Suite("The tests' own tools")
struct HarnessTests {
    static let conversation = """
        GET /a HTTP/1.1\r
        Host: x\r
        \r
        PUT /b?c=d HTTP/1.1\r
        content-length: 19\r
        \r
        GET /body HTTP/1.1\r
        PATCH /c HTTP/1.1\r
        Transfer-Encoding: chunked\r
        \r
        5;x=y\r
        GET /\r
        2\r
        \r
        \r
        0\r
        \r
        \r
        HEAD /d HTTP/1.1\r
        Host: x\r
        \r

        """

    @Test(arguments: [1, 2, 3, 7, 1_000])
    func requestLinesAreFoundHoweverTheBytesCome(step: Int) {
        let bytes = Array(Self.conversation.utf8)
        var parser = RequestLines()
        var found: [String] = []
        for start in stride(from: 0, to: bytes.count, by: step) {
            found += parser.feed(Array(bytes[start..<min(start + step, bytes.count)]))
        }
        #expect(found == ["GET /a HTTP/1.1", "PUT /b?c=d HTTP/1.1", "PATCH /c HTTP/1.1", "HEAD /d HTTP/1.1"])
    }

    @Test func aRelayPassesBytesOnAndCanBreakOff() throws {
        let listener = try Socket.listen(port: Ports.free())
        let relay = try Relay(to: listener.port)
        let caller = try Socket.connect(port: relay.endpoint.port)
        let callee = try #require(listener.accept())
        try caller.send("GET /blobs/x HTTP/1.1\r\n\r\n".utf8)
        #expect(try String(decoding: callee.receive(), as: UTF8.self) == "GET /blobs/x HTTP/1.1\r\n\r\n")
        #expect(relay.blobRequests == ["GET /blobs/x HTTP/1.1"])
        try callee.send("answer".utf8)
        #expect(try String(decoding: caller.receive(), as: UTF8.self) == "answer")
        relay.stop()
        #expect((try? caller.receive()) ?? [] == [], "ended or reset")
        #expect(throws: SocketError.self) { try Socket.connect(port: relay.endpoint.port) }
        try relay.resume()
        _ = try Socket.connect(port: relay.endpoint.port)
    }

    @Test func aProgramsEndIsItsStatus() throws {
        #expect(try runAllowingFailure(["sh", "-c", "echo out; echo err >&2; exit 69"]).status == 69)
        #expect(try runAllowingFailure(["sh", "-c", "kill -9 $$"]).status == 128 + SIGKILL)
        #expect(
            try run(["sh", "-c", "echo $VARIABLE; pwd"], environment: ["VARIABLE": "x"], directory: "/") == "x\n/\n"
        )
        #expect(throws: CommandFailure.self) { try run(["false"]) }
        #expect(throws: DeadlineExceeded.self) { try run(["sleep", "60"], seconds: 0.1) }
        let folder = try TemporaryDirectory()
        let sleeper = try Command(["sleep", "60"], log: folder.path + "/log")
        sleeper.signal(SIGTERM)
        #expect(try sleeper.wait(seconds: 10).status == 128 + SIGTERM)
    }
}
