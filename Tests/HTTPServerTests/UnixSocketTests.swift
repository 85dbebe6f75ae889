import Glibc
import HTTPClient
import HTTPServer
import System
import TestDoubles
import Testing
import Threading

/// Answers with a number of lines of which nobody knows how many there are.
private struct LinesHandler: RequestHandler {
    let lines: Int
    let ends = Monitor<[ExchangeEnd]>([])

    func handle(_ request: HTTPServer.Request) -> Reply {
        .respond(HTTPServer.Response(status: 200, body: .chunked(Lines(lines))))
    }

    func refusal(of request: HTTPServer.Request, status: Int, reason: String) -> HTTPServer.Response {
        HTTPServer.Response(status: status)
    }
    func ended(_ request: HTTPServer.Request, _ end: ExchangeEnd) { ends.update { $0.append(end) } }

    private final class Lines: BodyProducer {
        private var left: Int
        init(_ count: Int) { left = count }

        func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {
            guard left > 0 else { return }
            left -= 1
            buffer.append(fitting: Array("line\n".utf8).span)
        }
    }
}

@Suite struct UnixSocketTests {
    private func client(_ path: String) throws -> Client {
        var configuration = ClientConfiguration()
        configuration.unixSocket = try SocketPath(path)
        configuration.proxy = .none
        return try Client(configuration)
    }

    /// Too deep for the kernel's 107 bytes, too.
    @Test(arguments: [0, 200])
    func aServerIsReachedThroughItsPath(_ extraDepth: Int) throws {
        let folder = TemporaryFolder()
        let parent = folder.path + (extraDepth > 0 ? "/" + String(repeating: "x", count: extraDepth) : "")
        try LocalFileSystem().createDirectory(parent)
        let path = parent + "/a.sock"
        let handler = LinesHandler(lines: 1_000)
        let server = try Server(ServerConfiguration(unixSocket: SocketPath(path)), handler: handler)
        let (response, body) = try client(path).perform(Request("GET", "http://any/"))
        #expect(response.status == 200 && body.count == 5_000)
        let end = try #require(handler.ends.wait { $0.first })
        #expect(end.status == 200 && end.bodyBytes == 5_000 && end.isComplete)
        #expect(server.stop(drain: .seconds(10)))
        #expect(try LocalFileSystem().status(at: path) == nil, "the name goes with the server")
    }

    @Test func onlyTheOwnerMayConnect() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/a.sock"
        let server = try Server(
            ServerConfiguration(unixSocket: SocketPath(path)),
            handler: LinesHandler(lines: 1)
        )
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_mode & 0o7777 == 0o600)
        server.stop(drain: .seconds(10))
    }

    @Test func whatAKilledServerLeftIsReplaced() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/a.sock"
        _ = try LocalFileSystem().open(path, .create)
        let server = try Server(
            ServerConfiguration(unixSocket: SocketPath(path)),
            handler: LinesHandler(lines: 1)
        )
        #expect(try client(path).perform(Request("GET", "http://any/")).1 == Array("line\n".utf8))
        server.stop(drain: .seconds(10))
    }
}
