import FaultProxy
import Foundation
import Glibc
import Testing

/// Exit statuses of sysexits.h that `forebay` uses.
private let unavailable: Int32 = 69
private let misconfigured: Int32 = 78

@Suite("Life cycle of the process")
struct LifeCycleTests {
    /// Waits until the registry takes no new connections.
    private func waitUntilClosed(_ forebay: Forebay) throws {
        try poll(for: "the listening socket to close") {
            guard let connection = try? Connection(to: forebay.endpoint) else { return () }  // refused: closed
            // What was queued before the end is dropped.
            return (try? connection.request("GET", "/v2/")) == nil ? () : nil
        }
    }

    @Test func aDownloadInFlightIsFinishedBeforeTheEnd() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let content = noise(32 << 20, seed: 41)
            let digest = try repository.push(blob: content)
            let connection = try Connection(to: forebay.endpoint, receiveBuffer: 65_536)
            try connection.sendHead("GET", repository.path("blobs/\(digest)"), body: .none)
            #expect(try connection.readHead().status == 200)
            #expect(try same(connection.read(100_000), Array(content[..<100_000])))
            forebay.terminate()
            try waitUntilClosed(forebay)
            #expect(try same(connection.read(content.count - 100_000), Array(content[100_000...])))
            connection.socket.shutDown()
            #expect(try forebay.exitStatus() == 0)
        }
    }

    /// A client that is slower than the drain timeout costs itself its answer, and not the cache its trust in what it holds.
    @Test func aDownloadThatIsCutOffLeavesTheCacheClean() throws {
        try withForebay(flags: ["--drain-timeout", "200ms"]) { forebay in
            let repository = Repository(forebay)
            let content = noise(32 << 20, seed: 43)
            let digest = try repository.push(blob: content)
            let connection = try Connection(to: forebay.endpoint, receiveBuffer: 65_536)
            try connection.sendHead("GET", repository.path("blobs/\(digest)"), body: .none)
            #expect(try connection.readHead().status == 200)
            #expect(try forebay.stop() == 0)
            #expect(forebay.log.contains("stopped with requests in flight"))
            try forebay.start()
            #expect(!forebay.log.contains("the last stop was not clean"))
            #expect(try same(repository.request("GET", "blobs/\(digest)").body, content))
        }
    }

    @Test(arguments: OriginKind.allCases)
    func anUploadInFlightIsFinishedBeforeTheEnd(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let content = noise(4 << 20, seed: 42)
            let connection = try Connection(to: forebay.endpoint)
            let path = repository.path("blobs/uploads/?digest=\(sha256(content))")
            try connection.sendHead("POST", path, ["Expect": "100-continue"], body: .bytes(content))
            #expect(try connection.readHead().status == 100)
            try connection.socket.send(content[..<1_000_000])
            forebay.terminate()
            try waitUntilClosed(forebay)
            try connection.socket.send(content[1_000_000...])
            #expect(try connection.readResponse().status == 201)
            connection.socket.shutDown()
            #expect(try forebay.exitStatus() == 0)
            #expect(try same(forebay.origin.object("epoch/blobs/sha256/\(sha256Hex(content))"), content))
        }
    }

    @Test func anIdleConnectionDoesNotHoldUpTheEnd() throws {
        try withForebay { forebay in
            let connection = try Connection(to: forebay.endpoint)
            #expect(try connection.request("GET", "/v2/").status == 200)
            #expect(try forebay.stop() == 0)
            #expect(try connection.readToEnd() == [])
        }
    }

    @Test func aClientThatStallsHoldsUpTheEndOnlySoLong() throws {
        try withForebay(flags: ["--drain-timeout", "1s"]) { forebay in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: noise(32 << 20, seed: 43))
            let connection = try Connection(to: forebay.endpoint, receiveBuffer: 4_096)
            try connection.sendHead("GET", repository.path("blobs/\(digest)"), body: .none)
            #expect(try connection.readHead().status == 200)
            forebay.terminate()
            // The process ends although nobody reads; how it calls that end is its own affair.
            _ = try forebay.exitStatus(seconds: 20)
        }
    }

    /// Bug: where standard output was closed, something else got its number, the log was written into that, and no line counted as lost.
    @Test func closedDescriptorsAreNobodyElses() throws {
        let folder = try TemporaryDirectory()
        let endpoint = Endpoint(port: try Ports.free())
        let closing = ["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"]
        let process = try Command(
            closing + [
                Settings.binary, "serve", "--listen", endpoint.authority, "--cache-dir", folder.folder("cache"),
                "--origin",
                "file://\(folder.folder("origin"))", "--access-log", "full",
            ],
            log: folder.path + "/log"
        )
        defer { process.signal(SIGKILL) }
        try poll(for: "it to answer") { (try? endpoint.request("GET", "/v2/"))?.status == 200 ? () : nil }
        for descriptor in 0...2 {
            let path = "/proc/\(process.processIdentifier)/fd/\(descriptor)"
            #expect(try FileManager.default.destinationOfSymbolicLink(atPath: path) == "/dev/null")
        }
        try poll(for: "lost lines to be counted") {
            let page = try endpoint.request("GET", "/metrics").text
            return page.contains("\nforebay_access_log_dropped_total 0\n") ? nil : ()
        }
    }

    @Test(arguments: [SIGTERM, SIGINT])
    func aSignalEndsAnIdleProcess(signal: Int32) throws {
        try withForebay { forebay in
            kill(try #require(forebay.processIdentifier), signal)
            #expect(try forebay.exitStatus() == 0)
        }
    }

    /// Bug: SIGHUP, which a rotation of logs sends, ended a server that has no terminal to lose.
    @Test func aHangUpEndsNoServer() throws {
        try withForebay { forebay in
            let process = try #require(forebay.processIdentifier)
            kill(process, SIGHUP)
            #expect(try forebay.endpoint.request("GET", "/v2/").status == 200)
            kill(process, SIGTERM)
            #expect(try forebay.exitStatus() == 0)
            #expect(forebay.log.contains("SIGTERM") && !forebay.log.contains("SIGHUP"))
        }
    }

    /// Power fails while a client pushes, at each request of the push in turn.
    @Test(arguments: OriginKind.allCases, [3, 7, 10, 13])
    func powerFailsDuringAPush(origin: OriginKind, request: Int) throws {
        try require(tools: "skopeo")
        let layout = try debianImages()
        try withForebay(origin) { forebay in
            let repository = Repository(forebay, "library/debian")
            let kept = try Repository(forebay, "library/kept").pushImage(tag: "v1", seed: 44, layerSize: 3_000_000)
            let process = try #require(forebay.processIdentifier)
            let relay = try FaultProxy.relay(to: forebay.endpoint.port)
            defer { relay.stop() }
            relay.onRequest { [weak relay] _ in
                if let relay, relay.requestLines.count == request { kill(process, SIGKILL) }
            }
            let target = "docker://\(relay.endpoint.authority)/library/debian:v1"
            let copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
            let result = try runAllowingFailure(copy + ["oci:\(layout.folder):debian", target])
            let acknowledged = result.status == 0
            forebay.kill()

            try forebay.start()
            for digest in try layout.digests(tag: "debian") {
                let response = try repository.request("GET", "blobs/\(digest)")
                #expect([200, 404].contains(response.status))
                #expect(response.status == 404 || sha256(response.body) == digest, "an unverified byte")
            }
            if acknowledged {
                #expect(try fetchedDigests(repository, "v1") == layout.digests(tag: "debian"))
            }
            #expect(try fetchedDigests(Repository(forebay, "library/kept"), "v1").contains(sha256(kept)))
            _ = try Skopeo().push(layout, tag: "debian", to: "\(forebay.endpoint.authority)/library/debian:v1")
            #expect(try fetchedDigests(repository, "v1") == layout.digests(tag: "debian"))
        }
    }

    @Test(arguments: OriginKind.allCases)
    func powerFailsInTheMiddleOfABody(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let stored = noise(2_000_000, seed: 45)
            let digest = try repository.push(blob: stored)
            let broken = noise(8_000_000, seed: 46)
            let connection = try Connection(to: forebay.endpoint)
            let path = repository.path("blobs/uploads/?digest=\(sha256(broken))")
            try connection.sendHead("POST", path, ["Expect": "100-continue"], body: .bytes(broken))
            #expect(try connection.readHead().status == 100)
            try connection.socket.send(broken[..<5_000_000])
            forebay.kill()
            try forebay.start()
            #expect(try same(repository.request("GET", "blobs/\(digest)").body, stored))
            #expect(try repository.request("GET", "blobs/\(sha256(broken))").status == 404)
            try repository.push(blob: broken)
            #expect(try same(repository.request("GET", "blobs/\(sha256(broken))").body, broken))
        }
    }

    @Test(arguments: OriginKind.allCases)
    func powerFailsDuringAFill(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let content = noise(16 << 20, seed: 47)
            let digest = try repository.push(blob: content)
            for cut in [1, 1_000_000, 8_000_000] {
                try forebay.restart(wipingCache: true)
                let connection = try Connection(to: forebay.endpoint, receiveBuffer: 65_536)
                try connection.sendHead("GET", repository.path("blobs/\(digest)"), body: .none)
                #expect(try connection.readHead().status == 200)
                #expect(try same(connection.read(cut), Array(content[..<cut])))
                forebay.kill()
                try forebay.start()
                #expect(try same(repository.request("GET", "blobs/\(digest)").body, content), "cut after \(cut)")
            }
        }
    }

    @Test func aSecondProcessOnTheSameCacheRefusesToStart() throws {
        try withForebay { forebay in
            let second = try forebay.launch(listening: Endpoint(port: Ports.free()), log: "second")
            let result = try second.wait(seconds: 30)
            #expect(result.status == unavailable)
            expectOneLine(result, naming: ["\(try #require(forebay.processIdentifier))"])
            #expect(try forebay.endpoint.request("GET", "/v2/").status == 200)
            forebay.kill()
            try forebay.start()
        }
    }

    @Test func aPortInUseIsNamed() throws {
        try withForebay { forebay in
            let folder = try TemporaryDirectory()
            let result = try runForebay(["--listen", forebay.endpoint.authority, "--cache-dir", folder.path + "/cache"])
            #expect(result.status == unavailable)
            expectOneLine(result, naming: ["\(forebay.endpoint.port)", "; choose another address"])
            // Bug: the socket for commands stayed.
            let left = try FileManager.default.contentsOfDirectory(atPath: folder.path + "/cache")
            #expect(!left.contains("admin.sock"), "\(left)")
        }
    }

    @Test(
        arguments: [
            (["--cache-size", "12parsecs"], ["cache-size", "12parsecs"]),
            (["--cache-size", "-1"], ["cache-size"]),
            (["--origin", "ftp://example"], ["origin", "ftp"]),
            (["--origin", "s3://"], ["origin"]),
            (["--listen", "nowhere"], ["listen", "nowhere"]),
            (["--tag-ttl", "soon"], ["tag-ttl", "soon"]),
            (["--s3-addressing", "sideways"], ["s3-addressing", "sideways"]),
            (["--config", "/nonexistent.yaml"], ["/nonexistent.yaml"]),
        ]
    )
    func aBadSettingIsNamed(flags: [String], names: [String]) throws {
        let result = try runForebay(flags)
        #expect(result.status == misconfigured)
        expectOneLine(result, naming: names)
    }

    @Test(
        arguments: [
            ("cache-sizee: 1GiB\n", "cache-sizee"), ("cache-size: lots\n", "cache-size"),
            ("no: such: yaml: [\n", "forebay.yaml"),
        ]
    )
    func aBadConfigurationFileIsNamed(text: String, name: String) throws {
        let folder = try TemporaryDirectory()
        let path = folder.path + "/forebay.yaml"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        let result = try runForebay(["--config", path])
        #expect(result.status == misconfigured)
        expectOneLine(result, naming: [name])
    }

    @Test func aBucketThatIsNotThereOrNotOursIsNamed() throws {
        let server = try S3Server.required()
        let flags = ["--s3-endpoint", "http://127.0.0.1:\(server.port)", "--s3-addressing", "path"]
        let absent = try runForebay(flags + ["--origin", "s3://no-such-bucket/"], environment: server.credentials)
        #expect(absent.status == unavailable)
        expectOneLine(absent, naming: ["no-such-bucket"])
        var credentials = server.credentials
        credentials["AWS_SECRET_ACCESS_KEY"] = "wrong"
        let refused = try runForebay(flags + ["--origin", "s3://no-such-bucket/"], environment: credentials)
        #expect(refused.status == unavailable)
        expectOneLine(refused, naming: ["no-such-bucket"])
        #expect(!refused.errors.contains(#"wrong"#), "no secret in a message")
    }

    /// Bug: these ended as if all had been said.
    @Test(arguments: ["config", "catalog rebuild"])
    func aResultThatCannotBeWrittenIsAFailure(_ command: String) throws {
        let origin = try DirectoryOrigin()
        let words = [Settings.binary, command, "--origin", "file://\(origin.folder)", ">/dev/full"]
        let result = try runAllowingFailure(["/bin/sh", "-c", "exec \(words.joined(separator: " "))"])
        #expect(result.status == unavailable)
        #expect(result.errors.contains("standard output cannot be written"), "\(result.errors)")
    }

    /// Bug: they were quoted as they came, and the journal had the secret key.
    @Test(arguments: [
        ["--origin", "s3://KEY:hunter2@bucket"], ["s3://KEY:hunter2@bucket"], ["--s3-secret-key", "KEY", "hunter2"],
        ["--s3-endpoint", "http://KEY:hunter2@host"],
    ])
    func aSecretInAURLIsNotRepeated(_ arguments: [String]) throws {
        let result = try runForebay(arguments)
        #expect(result.status == misconfigured)
        #expect(
            !result.errors.isEmpty && !result.errors.contains("hunter2") && !result.errors.contains("KEY"),
            "\(result.errors)"
        )
    }

    /// `forebay serve` with what a test does not say, which must end by itself.
    private func runForebay(_ flags: [String], environment: [String: String] = [:]) throws -> CommandResult {
        try require(access(Settings.binary, X_OK) == 0, "no binary at \(Settings.binary)")
        let folder = try TemporaryDirectory()
        var arguments = [Settings.binary, "serve"] + flags
        for (flag, value) in [
            ("--listen", "127.0.0.1:\(try Ports.free())"), ("--cache-dir", folder.path + "/cache"),
            ("--origin", "file://\(folder.path)/origin"),
        ] where !flags.contains(flag) {
            arguments += [flag, value]
        }
        return try runAllowingFailure(arguments, environment: environment, seconds: 60)
    }

    /// Besides log records, one line that names what is wrong.
    private func expectOneLine(
        _ result: CommandResult,
        naming names: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let lines = result.errors.split(separator: "\n").filter { !$0.hasPrefix("{") }
        #expect(lines.count == 1, "\(result.errors)", sourceLocation: sourceLocation)
        for name in names {
            #expect(lines.first?.contains(name) == true, "\(result.errors)", sourceLocation: sourceLocation)
        }
    }
}
