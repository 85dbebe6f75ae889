import FaultProxy
import Foundation
import Glibc
import Testing

/// `forebay cache …` with the settings of a registry, whether that runs or not.
private func cache(_ forebay: Forebay, _ arguments: String...) throws -> CommandResult {
    try cache(forebay, arguments)
}

private func cache(_ forebay: Forebay, _ arguments: [String]) throws -> CommandResult {
    try runAllowingFailure(
        [Settings.binary, "cache"] + arguments + ["--cache-dir", forebay.cacheDirectory] + forebay.origin.flags,
        environment: forebay.origin.environment
    )
}

/// The members of the events that a command printed with `--json`.
private func events(_ result: CommandResult, _ member: String) throws -> [[String: Any]] {
    try result.output.split(separator: "\n").compactMap { line in
        let event = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        return event?[member] as? [String: Any]
    }
}

@Suite("forebay cache")
struct CacheCommandTests {
    /// The same words, whether a server runs on the directory or not.
    @Test func lsAndStatTellTheSameOfARunningAndAStoppedCache() throws {
        try withForebay { forebay in
            let repository = Repository(forebay, "team/app")
            try repository.pushImage(tag: "v1", layerSize: 200_000)
            let layer = sha256(noise(200_000, seed: 1))
            func look() throws -> [String] {
                let list = try cache(forebay, "ls", "--json")
                #expect(list.status == 0, "\(list.errors)")
                let blobs = try events(list, "entry").filter { $0["kind"] as? String == "blob" }
                #expect(blobs.count == 2 && blobs.contains { $0["digest"] as? String == layer })
                let tags = try cache(forebay, "ls", "--kind", "tag")
                #expect(tags.output.contains("team/app:v1"))
                let image = try cache(forebay, "stat", "team/app:v1")
                #expect(image.status == 0 && image.output.contains(layer), "\(image.errors)")
                let blob = try cache(forebay, "stat", layer)
                #expect(blob.status == 0 && blob.output.contains("195 KiB"), "\(blob.output)")
                return list.output.split(separator: "\n").map(String.init)
            }
            let running = try look()
            let totals = try #require(try events(cache(forebay, "stat", "--json"), "totals").first)
            #expect(totals["ceilingBytes"] as? Int == 2 << 30)
            #expect(totals["fills"] as? Int == 0)
            #expect(try forebay.stop() == 0)
            #expect(try look() == running)
            let stopped = try #require(try events(cache(forebay, "stat", "--json"), "totals").first)
            #expect(stopped["blobFiles"] as? Int == 1 && stopped["fills"] == nil)
            // Looking is no unclean stop.
            try forebay.start()
            #expect(!forebay.log.contains("was not clean"))
        }
    }

    /// `forebay cache …` whose output goes elsewhere: to a pipe that nobody reads from, or to a file.
    private func cachePrinting(_ forebay: Forebay, to target: String, _ arguments: [String]) throws -> CommandResult {
        let folder = try TemporaryDirectory()
        let isPipe = target == "nobody"
        let path = isPipe ? folder.path + "/pipe" : target
        if isPipe { #expect(mkfifo(path, 0o600) == 0) }
        // Opened for both first, since a pipe's writer would wait for a reader.
        let script = #"exec 3<>"$0" && exec 4>"$0" 3<&- && exec "$@" >&4"#
        let command = [Settings.binary, "cache"] + arguments + ["--cache-dir", forebay.cacheDirectory]
        return try runAllowingFailure(
            ["sh", "-c", script, path] + command + forebay.origin.flags,
            environment: forebay.origin.environment
        )
    }

    /// Bug: `forebay cache ls | head` said "cancelled" and failed.
    @Test(arguments: [true, false])
    func aReaderThatHasSeenEnoughIsNoFailure(running: Bool) throws {
        try withForebay { forebay in
            try Repository(forebay, "team/app").pushImage(tag: "v1", layerSize: 200_000)
            if !running { try forebay.stop() }
            for arguments in [["ls"], ["ls", "--json"], ["stat"], ["stat", "team/app:v1", "--json"]] {
                let result = try cachePrinting(forebay, to: "nobody", arguments)
                #expect(result.status == 0 && result.errors.isEmpty, "\(arguments): \(result.status) \(result.errors)")
            }
            let verified = try cachePrinting(forebay, to: "nobody", ["verify", "--json"])
            #expect(verified.status == 1 && verified.errors.contains("the work is not finished"), "\(verified.errors)")
            let full = try cachePrinting(forebay, to: "/dev/full", ["ls"])
            #expect(full.status == 1 && full.errors.contains("standard output cannot be written"), "\(full.errors)")
        }
    }

    @Test(arguments: OriginKind.allCases, [true, false])
    func prewarmFetchesSoThatPullsNeedNoOrigin(origin: OriginKind, running: Bool) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay, "team/app")
            let manifest = try repository.pushImage(tag: "v1", layerSize: 3_000_000)
            try forebay.stop()
            try forebay.wipeCache()
            if running { try forebay.start() }
            let result = try cache(forebay, "prewarm", "team/app:v1")
            #expect(result.status == 0, "\(result.errors)")
            #expect(result.output == "fetched 2 blobs, 1 manifest, 2.9 MiB\n")
            #expect(result.errors.contains("2 of 2 blobs"))
            let again = try cache(forebay, "prewarm", "team/app:v1").output
            #expect(again == "fetched 0 blobs, 1 manifest, 0 B; 2 blobs, 2.9 MiB, were here already\n")
            if !running { try forebay.start() }
            try forebay.origin.watchBlobs()
            #expect(try fetchedDigests(repository, sha256(manifest)).count == 3)
            #expect(try forebay.origin.blobRequests() == [])
            try forebay.origin.stopWatching()
        }
    }

    @Test(arguments: [true, false])
    func pinsHoldOverRestartsAndKeepContentFromEviction(running: Bool) throws {
        try withForebay { forebay in
            let repository = Repository(forebay, "team/app")
            try repository.pushImage(tag: "v1", layerSize: 200_000)
            if !running { try forebay.stop() }
            #expect(try cache(forebay, "pin", "team/app:v1").output == "pinned 2 blobs, 1 manifest, 196 KiB\n")
            if running { try forebay.restart() }
            #expect(try cache(forebay, "ls", "--kind", "pin").output.contains("team/app:v1"))
            let refused = try cache(forebay, "evict", "team/app:v1")
            #expect(refused.status == 1 && refused.errors.contains("unpin it first"), "\(refused.errors)")
            #expect(try cache(forebay, "unpin", "team/app:v1").output == "unpinned 2 blobs, 1 manifest, 196 KiB\n")
            #expect(try cache(forebay, "evict", "team/app:v1").status == 0)
            let absent = try cache(forebay, "evict", sha256([1]))
            #expect(absent.status == 1 && absent.errors.contains("nothing of it is in the cache"), "\(absent.errors)")
            let left = try cache(forebay, "ls", "--kind", "blob", "--kind", "manifest", "--json")
            #expect(try events(left, "entry").isEmpty)
            if !running { try forebay.start() }
            #expect(try fetchedDigests(repository, "v1").count == 3, "the origin has it all")
        }
    }

    /// Bug: `stat --json` of what is not there printed nothing.
    @Test(arguments: [true, false])
    func whatIsNotThereIsAProblemForProgramsToo(running: Bool) throws {
        try withForebay { forebay in
            if !running { try forebay.stop() }
            for operation in ["stat", "evict", "pin", "unpin", "prewarm"] {
                let result = try cache(forebay, operation, sha256([1]), "--json")
                let problems = try events(result, "problem")
                #expect(result.status == 1 && problems.map { $0["what"] as? String } == [sha256([1])], "\(operation)")
                #expect(result.errors.isEmpty, "\(operation): \(result.errors)")
            }
        }
    }

    /// Bug: pinning in a stopped server's directory evicted down to what the command's own settings said, which may be less than the server's.
    @Test func pinningEvictsNothingWhateverTheSettingsOfTheCommand() throws {
        try withForebay { forebay in
            let digests = try (0..<12).map { try Repository(forebay).push(blob: noise(1 << 20, seed: UInt64($0))) }
            #expect(try forebay.stop() == 0)
            let less = ["--cache-size", "10MiB", "--cache-min-free", "100%"]
            let pinned = try cache(forebay, ["pin", digests[0]] + less)
            #expect(pinned.status == 0, "\(pinned.errors)")
            let refused = try cache(forebay, ["pin"] + digests[1...9] + less)
            #expect(refused.status == 1 && refused.errors.contains("pins would hold"), "\(refused.errors)")
            let left = try cache(forebay, "ls", "--kind", "blob", "--json")
            #expect(try events(left, "entry").count == digests.count)
        }
    }

    /// Bug: after an eviction an index was acknowledged without a manifest that its client had been told is here, and an image without a layer.
    @Test func evictDoesNotUndoWhatAClientWasTold() throws {
        try withForebay { forebay in
            let repository = Repository(forebay, "team/app")
            let child = try repository.pushImage(tag: "v1")
            // What the push was told is forgotten then.
            try forebay.restart()
            let (config, layer, other) = (Array("{}".utf8), noise(10_000, seed: 1), noise(10_000, seed: 2))
            for path in ["manifests/\(sha256(child))", "blobs/\(sha256(layer))"] {
                #expect(try repository.request("HEAD", path).status == 200)
            }
            #expect(try cache(forebay, "evict", "team/app:v1").status == 0)
            for key in try forebay.origin.keys()
            where key.hasPrefix("epoch/manifests/") || key.hasSuffix(sha256Hex(layer)) {
                try forebay.origin.remove(key)
            }
            for blob in [config, other] { try repository.push(blob: blob) }
            let image = imageManifest(config: config, layers: [layer, other])
            let type = ["Content-Type": manifestType]
            let sparse = try repository.request("PUT", "manifests/v2", type, body: .bytes(image))
            expectError(sparse, 400, "MANIFEST_BLOB_UNKNOWN")
            #expect(String(decoding: sparse.body, as: UTF8.self).contains(sha256(layer)))
            let index = Array(
                """
                {"schemaVersion":2,"mediaType":"\(indexType)","manifests":[{"mediaType":"\(manifestType)",
                "digest":"\(sha256(child))","size":\(child.count)}]}
                """.utf8
            )
            let headers = ["Content-Type": indexType]
            let refused = try repository.request("PUT", "manifests/all", headers, body: .bytes(index))
            expectError(refused, 400, "MANIFEST_BLOB_UNKNOWN")
            #expect(String(decoding: refused.body, as: UTF8.self).contains(sha256(child)))
            #expect(try repository.request("HEAD", "manifests/\(sha256(child))").status == 404)
        }
    }

    @Test(arguments: [true, false])
    func verifyFindsDamage(running: Bool) throws {
        try withForebay { forebay in
            let repository = Repository(forebay, "team/app")
            try repository.pushImage(tag: "v1", layerSize: 200_000)
            let layer = sha256(noise(200_000, seed: 1))
            let hex = layer.dropFirst("sha256:".count)
            if !running { try forebay.stop() }
            let good = try cache(forebay, "verify")
            #expect(
                good.status == 0 && good.output == "verified 2 blobs, 1 manifest, 196 KiB\n",
                "\(good.output)\(good.errors)"
            )
            let lines = good.errors.split(separator: "\n")
            #expect(lines.first?.hasPrefix("0 of 2 blobs, 0 B of 196 KiB") == true, "\(good.errors)")
            #expect(lines.last?.hasPrefix("2 of 2 blobs, 196 KiB of 196 KiB") == true, "\(good.errors)")
            let path = "\(forebay.cacheDirectory)/blobs/sha256/\(hex.prefix(2))/\(hex)"
            let file = try #require(FileHandle(forUpdatingAtPath: path))
            try file.seek(toOffset: 100_000)
            try file.write(contentsOf: Data([1, 2, 3]))
            try file.close()
            let found = try cache(forebay, "verify", "team/app:v1")
            #expect(found.status == 1 && found.errors.contains(layer), "\(found.errors)")
            #expect(try cache(forebay, "verify").status == 0, "it is gone")
            if !running { try forebay.start() }
            #expect(try fetchedDigests(repository, "v1").contains(layer))
        }
    }

    @Test func prewarmNamesWhatItCannotFetch() throws {
        try withForebay { forebay in
            let result = try cache(forebay, "prewarm", "team/none:v1")
            #expect(result.status == 1)
            #expect(result.errors.contains("team/none:v1"), "\(result.errors)")
        }
    }

    @Test func prewarmWithoutAServerNorAnOriginSaysToNameIt() throws {
        try withForebay { forebay in
            try forebay.stop()
            let result = try runAllowingFailure([
                Settings.binary, "cache", "prewarm", "team/app:v1", "--cache-dir", forebay.cacheDirectory, "--origin",
                "file://\(forebay.cacheDirectory)/none",
            ])
            #expect(result.status == 69 && result.errors.contains("--origin"), "\(result.errors)")
        }
    }

    /// Bug: "at the origin" was the default one where the command had not been told the server's, and it did not say so.
    @Test func whatIsNowhereIsSaidWithTheOriginThatWasAsked() throws {
        try withForebay { forebay in
            try forebay.stop()
            let origin = try TemporaryDirectory()
            for (operation, target) in [("stat", "team/app:v1"), ("pin", "team/app:v1"), ("prewarm", sha256([1]))] {
                let result = try runAllowingFailure([
                    Settings.binary, "cache", operation, target, "--cache-dir", forebay.cacheDirectory, "--origin",
                    "file://\(origin.path)",
                ])
                let isNamed = result.errors.contains("at the origin, file://\(origin.path)")
                #expect(result.status == 1 && isNamed, "\(result.errors)")
            }
        }
    }

    @Test func whatIsWrongIsSaidWithWhatToDo() throws {
        try withForebay { forebay in
            let bad = try cache(forebay, "stat", "127.0.0.1:5000/app:v1")
            #expect(bad.status == 78 && bad.errors.contains("without a host"), "\(bad.errors)")
            #expect(try cache(forebay, "ls", "--kind", "layer").status == 78)
            #expect(try cache(forebay, "evict").status == 78)
            // Bug: of what no option comes near it said nothing but that it is unknown.
            let unknown = try cache(forebay, "evict", "--help-me")
            #expect(
                unknown.status == 78 && unknown.errors.contains("see 'forebay cache evict --help'"),
                "\(unknown.errors)"
            )
            // The directory is in use, and nobody answers.
            try FileManager.default.removeItem(atPath: forebay.cacheDirectory + "/admin.sock")
            let held = try cache(forebay, "ls")
            #expect(held.status == 69 && held.errors.contains("admin.sock"), "\(held.errors)")
            #expect(held.errors.contains("\(try #require(forebay.processIdentifier))"), "\(held.errors)")
            try forebay.stop()
            try forebay.wipeCache()
            let none = try cache(forebay, "ls")
            #expect(none.status == 69 && none.errors.contains("no cache"), "\(none.errors)")
        }
    }

    /// Bug: work on a stopped server's directory that a signal ended had status 0, as if it were done.
    @Test func workThatASignalEndsHasNotSucceeded() throws {
        try withForebay { forebay in
            let repository = Repository(forebay, "team/app")
            for seed in 0..<1_000 { try repository.push(blob: noise(100, seed: UInt64(seed))) }
            #expect(try forebay.stop() == 0)
            let logs = try TemporaryDirectory()
            let log = logs.path + "/log"
            // A reader that holds the command up.
            #expect(mkfifo(log + ".out", 0o600) == 0)
            let reader = open(log + ".out", O_RDONLY | O_NONBLOCK)
            defer { close(reader) }
            let command = try Command(
                [Settings.binary, "cache", "ls", "--json", "--cache-dir", forebay.cacheDirectory],
                log: log
            )
            var byte: UInt8 = 0
            try poll(for: "the first line") { read(reader, &byte, 1) == 1 ? () : nil }
            command.signal(SIGTERM)
            try poll(for: "the signal to be heard") { isCaught(SIGTERM, by: command.processIdentifier) ? nil : () }
            var rest = [UInt8](repeating: 0, count: 65_536)
            try poll(for: "the end") {
                while read(reader, &rest, rest.count) > 0 {}
                return command.isRunning ? nil : ()
            }
            let status = try poll(for: "its status") { command.endedStatus() }
            let errors = try String(contentsOfFile: command.errorsPath, encoding: .utf8)
            #expect(status == 1 && errors.contains("stopped by SIGTERM"), "\(status) \(errors)")
        }
    }

    /// Bug: a command waited for a stopped server without a word.
    @Test func aServerThatDoesNotAnswerIsToldOf() throws {
        try withForebay { forebay in
            try Repository(forebay, "team/app").pushImage(tag: "v1", layerSize: 1_000)
            let server = try #require(forebay.processIdentifier)
            let logs = try TemporaryDirectory()
            Glibc.kill(server, SIGSTOP)
            defer { Glibc.kill(server, SIGCONT) }
            let command = try Command(
                [Settings.binary, "cache", "ls", "--cache-dir", forebay.cacheDirectory],
                log: logs.path + "/log"
            )
            try poll(for: "a word about it") { text(of: command.errorsPath).contains("has not answered") ? () : nil }
            Glibc.kill(server, SIGCONT)
            let result = try command.wait(seconds: 30)
            #expect(result.status == 0 && result.output.contains("team/app:v1"), "\(result)")
        }
    }

    /// Bug: a command that a signal ended while a server worked for it ended by the signal itself, without a word.
    @Test(arguments: [SIGINT, SIGTERM])
    func workOfAServerThatASignalEndsHasNotSucceeded(signal: Int32) throws {
        let origin = try S3Origin(server: S3Server.required())
        try withForebay(origin) { forebay in
            try Repository(forebay, "team/app").pushImage(tag: "v1", layerSize: 3_000_000)
            try forebay.restart(wipingCache: true)
            origin.relay.on(.operation(.get, "/blobs/"), .all, .response(.stall(after: 1_000)))
            defer { origin.relay.clear() }
            let logs = try TemporaryDirectory()
            let command = try Command(
                [Settings.binary, "cache", "prewarm", "team/app:v1", "--cache-dir", forebay.cacheDirectory],
                log: logs.path + "/log"
            )
            try poll(for: "the fetch to begin") { origin.relay.count(.operation(.get, "/blobs/")) > 0 ? () : nil }
            command.signal(signal)
            let status = try poll(for: "the end") { command.endedStatus() }
            let errors = try String(contentsOfFile: command.errorsPath, encoding: .utf8)
            #expect(status == 1 && errors.contains("the work is not finished"), "\(status) \(errors)")
        }
    }

    private func isCaught(_ signal: Int32, by process: Int32) -> Bool {
        let status = (try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)) ?? ""  // It has ended.
        let mask = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }?.split(separator: "\t").last
        return (mask.flatMap { UInt64($0, radix: 16) } ?? 0) & 1 << UInt64(signal - 1) != 0
    }

    /// The socket of a server that was killed is still there.
    @Test func aKilledServersCacheCanBeWorkedOn() throws {
        try withForebay { forebay in
            try Repository(forebay, "team/app").pushImage(tag: "v1")
            forebay.kill()
            #expect(access(forebay.cacheDirectory + "/admin.sock", F_OK) == 0)
            #expect(try cache(forebay, "ls").output.contains("team/app:v1"))
            try forebay.start()
            #expect(try cache(forebay, "ls").output.contains("team/app:v1"))
        }
    }

    @Test func theSocketIsTheOwnersAlone() throws {
        try withForebay { forebay in
            var status = stat()
            #expect(stat(forebay.cacheDirectory + "/admin.sock", &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o600)
            // Nothing of it is reachable over the network.
            let answer = try forebay.endpoint.request("POST", "/cache/ls")
            #expect(answer.status == 404)
        }
    }
}
