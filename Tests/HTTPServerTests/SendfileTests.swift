import Glibc
import HTTPServer
import System
import Testing
import Threading

@Suite struct SendfileTests {
    /// Bytes that the calling thread has written by write(2) or sendfile(2); what send(2) sends is not among them (`proc(5)`, "io").
    private static func bytesWritten() -> Int? {
        guard let file = try? LocalFileSystem().open("/proc/thread-self/io", .read),
            let bytes = try? LocalFileSystem().read(file, at: 0, count: 1_000)
        else { return nil }
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("wchar: ") }
        return line.flatMap { Int($0.dropFirst("wchar: ".count)) }
    }

    /// libmicrohttpd reads the file and sends what it has read, unless it is told that we see to SIGPIPE.
    @Test(.enabled(if: bytesWritten() != nil, "the kernel does not count a thread's I/O"))
    func aFileInMemoryGoesOutBySendfile() throws {
        let path = "/tmp/forebay-http-\(getpid())-sent"
        let file = try LocalFileSystem().open(path, .create)
        defer { unlink(path) }
        let size = 8 << 20
        try LocalFileSystem().write([UInt8](repeating: 7, count: size).span, to: file, at: 0)
        let written = Monitor<[Int]>([])
        let handler = ScriptedHandler(file: file) { written.update { $0.append(Self.bytesWritten() ?? 0) } }
        try withServer(handler) { server, handler in
            #expect(try RawClient(port: server.port).get("/whole-file").body.count == size)
            #expect(handler.waitForEnds(1)?.first?.bodyBytes == Int64(size))
            let counts = written.withLock { $0 }
            try #require(counts.count == 2)
            #expect(counts[1] - counts[0] >= size)
        }
    }
}
