import FaultProxy
import Glibc
import Testing

@Suite("Open files")
struct OpenFileTests {
    /// Connections beyond what the process may open used to be neither answered nor closed, `/healthz` among them.
    @Test func connectionsThatCannotBeServedAreClosed() throws {
        try withForebay(openFiles: 256) { forebay in
            let digest = try Repository(forebay).push(blob: noise(16 << 20, seed: 61))
            var idle: [Connection] = []
            for _ in 0..<100 {
                let connection = try Connection(to: forebay.endpoint, receiveBuffer: 4_096)
                connection.socket.setTimeout(seconds: 10)
                do {
                    guard try connection.request("GET", "/v2/").status == 200 else { break }
                    idle.append(connection)
                } catch {
                    #expect((error as? SocketError)?.isTimeout != true, "closed at once: \(error)")
                }
            }
            #expect((16..<100).contains(idle.count), "\(idle.count)")
            // There is a file for each.
            let path = Repository(forebay).path("blobs/\(digest)")
            for connection in idle { try connection.sendHead("GET", path, body: .none) }
            for connection in idle { #expect(try connection.readHead().status == 200) }
            idle = []
            try poll(for: "/healthz after the others have left") {
                (try? forebay.endpoint.request("GET", "/healthz"))?.status == 200 ? () : nil  // closed: not yet
            }
            let warnings = forebay.log.split(separator: "\n").filter { $0.contains("connection-limit") }
            #expect(warnings.count == 1, "\(forebay.log)")
            for word in ["4096", "256", "ulimit -n", "LimitNOFILE"] {
                #expect(warnings.first?.contains(word) == true, "\(word) in \(forebay.log)")
            }
        }
    }

    /// The thread that accepts used to wait for a descriptor for ever.
    @Test func aProcessWithoutADescriptorToSpareEnds() throws {
        try require(tools: "prlimit")
        try withForebay { forebay in
            let process = try #require(forebay.processIdentifier)
            try run(["prlimit", "--pid", "\(process)", "--nofile=8:"])
            // It had a descriptor for the next one already.
            #expect(try forebay.endpoint.request("GET", "/v2/").status == 200)
            #expect(try forebay.stop() == 0)
        }
    }

    /// A soft limit is for programs that ask for no more.
    @Test func theSoftLimitIsRaised() throws {
        var limit = rlimit()
        getrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
        try require(limit.rlim_max >= 2 * 4096 + 128, "the hard limit on open files is too low")
        let folder = try TemporaryDirectory()
        let endpoint = Endpoint(port: try Ports.free())
        let serve = [Settings.binary, "serve", "--listen", endpoint.authority, "--cache-dir", folder.path + "/cache"]
        let process = try Command(
            ["sh", "-c", "ulimit -S -n 256 && exec \"$@\"", "sh"] + serve + [
                "--origin", "file://\(folder.path)/origin",
            ],
            log: folder.path + "/log"
        )
        try poll(for: "forebay to answer") {
            (try? endpoint.request("GET", "/v2/"))?.status == 200 ? () : nil  // refused: not yet
        }
        process.signal(SIGTERM)
        let result = try process.wait(seconds: 30)
        #expect(result.status == 0 && !result.errors.contains("connection-limit"), "\(result.errors)")
    }
}
