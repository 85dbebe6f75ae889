import Glibc
import HTTPServer
import System
import Testing
import Threading

@Suite struct SendfileTests {
    /// What the calling thread has written by write(2) or sendfile(2); what send(2) sends is not among it (`proc(5)`, "io").
    private struct Written {
        let bytes: Int
        let calls: Int

        init?() {
            guard let file = try? LocalFileSystem().open("/proc/thread-self/io", .read),
                let text = try? LocalFileSystem().read(file, at: 0, count: 1_000)
            else { return nil }
            let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
            let number = { (name: String) in
                lines.first { $0.hasPrefix(name) }.flatMap { Int($0.dropFirst(name.count)) }
            }
            guard let bytes = number("wchar: "), let calls = number("syscw: ") else { return nil }
            (self.bytes, self.calls) = (bytes, calls)
        }
    }

    /// libmicrohttpd reads the file and sends what it has read, unless it is told that we see to SIGPIPE. Where a loop drives it, it sends 128 KiB at
    /// once, unless it finds our function.
    /// Bug: on a volume that does not tell `preadv2(2)` what is in memory, as tmpfs and overlayfs, all was read by threads: a quarter of the throughput.
    @Test(
        .enabled(if: Written() != nil, "the kernel does not count a thread's I/O"),
        arguments: ["/tmp", "/dev/shm"].filter { (folder: String) in access(folder, W_OK) == 0 }
    )
    func aFileInMemoryGoesOutBySendfileInLargePieces(folder: String) throws {
        let path = "\(folder)/forebay-http-\(getpid())-sent"
        let file = try LocalFileSystem().open(path, .create)
        defer { unlink(path) }
        let size = 8 << 20
        try LocalFileSystem().write([UInt8](repeating: 7, count: size).span, to: file, at: 0)
        let written = Monitor<[Written]>([])
        let handler = ScriptedHandler(file: file) { written.update { $0 += [Written()].compactMap(\.self) } }
        try withServer(handler) { server, handler in
            #expect(try RawClient(port: server.port).get("/whole-file").body.count == size)
            #expect(handler.waitForEnds(1)?.first?.bodyBytes == Int64(size))
            let counts = written.withLock { $0 }
            try #require(counts.count == 2)
            #expect(counts[1].bytes - counts[0].bytes >= size)
            #expect(counts[1].calls - counts[0].calls < size / (128 << 10))
        }
    }
}
