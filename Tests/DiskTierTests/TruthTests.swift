import DiskTier
import Glibc
import Hashing
import OCI
import Synchronization
import System
import TestDoubles
import Testing
import Threading

/// Collects what a tier reports.
final class Reports: Sendable {
    private let events = Monitor<[DiskTier.Event]>([])

    var report: @Sendable (DiskTier.Event) -> Void {
        { [self] event in events.update { $0.append(event) } }
    }

    var all: [DiskTier.Event] { events.withLock { $0 } }

    /// Waits for one of them.
    func wait(_ matches: @Sendable (DiskTier.Event) -> Bool) -> DiskTier.Event? {
        events.wait(until: .after(.seconds(60))) { events in events.first(where: matches) }
    }
}

func overwrite(_ path: String, at offset: Int64 = 500, _ bytes: [UInt8] = [0, 1, 2]) throws {
    try LocalFileSystem().write(bytes.span, to: LocalFileSystem().open(path, .readWrite), at: offset)
}

@Suite struct TruthTests {
    let folder = TemporaryFolder()
    let files = LocalFileSystem()

    private func configuration(_ adjust: (inout DiskTier.Configuration) -> Void = { _ in }) -> DiskTier.Configuration {
        var configuration = DiskTier.Configuration(directory: folder.path, ceilingBytes: 64 << 20)
        adjust(&configuration)
        return configuration
    }

    private var quarantine: [String] {
        get throws { try files.entries(of: folder.path + "/quarantine").map(\.name).sorted() }
    }

    /// The size is right, the run is clean, and only the file's change time tells.
    @Test(arguments: [false, true])
    func anOverwrittenFileIsNeverServed(restarted: Bool) throws {
        let content = pattern(100_000)
        let digest = Digest(of: content)
        var tier: DiskTier? = try DiskTier(folder.path)
        try tier?.store(content)
        if restarted {
            tier?.close()
            tier = nil
        }
        let path = path(folder, digest)
        let modified = try #require(try files.status(at: path)).modifiedNanoseconds
        try overwrite(path)
        // As somebody does who wants it to look untouched.
        try files.setModified(files.open(path, .readWrite), nanoseconds: modified)
        if restarted { tier = try DiskTier(folder.path) }
        let used = try #require(tier)
        #expect(try used.contents(digest) == nil)
        #expect(used.statistics.damagedBlobs == 1)
        #expect(try quarantine == ["sha256-\(digest.hex)"])
        #expect(used.statistics.quarantinedBytes > 0)
        try used.store(content)
        #expect(try used.contents(digest) == content)
        used.close()
    }

    /// Bug: a flipped bit in the index was served; after a clean stop nothing hashed what lies there.
    @Test func whatLiesInADamagedIndexIsNeverServed() throws {
        let (content, manifest) = (pattern(5_000), Array(#"{"schemaVersion":2,"annotations":{"a":"b"}}"#.utf8))
        let (digest, name) = (Digest(of: manifest), try RepositoryName("library/x"))
        let blob = Digest(of: content)
        try withExtendedLifetime(DiskTier(folder.path)) { tier in
            try tier.store(content)
            _ = try tier.record(
                tag: Tag("t"),
                repository: name,
                digest: digest,
                mediaType: .imageManifest,
                bytes: manifest,
                etag: nil,
                checkedAt: WallTime(seconds: 1),
                since: tier.stamp()
            )
            tier.close()
        }
        let path = folder.path + "/index/data.mdb"
        let index = try files.read(files.open(path, .read), at: 0, count: 1 << 20)
        for part in [Array(content[100..<164]), Array(manifest[10..<30])] {
            for start in index.indices.dropLast(part.count) where index[start] == part[0] {
                guard index[start..<start + part.count].elementsEqual(part) else { continue }
                try overwrite(path, at: Int64(start) + 7, [part[7] ^ 4])
            }
        }
        let tier = try DiskTier(folder.path)
        #expect(!tier.hit(blob, inline: { _, _ in }, file: { _, _ in }))
        #expect(!tier.hit(repository: name, digest: digest) { _, _, _ in })
        #expect(!tier.hit(repository: name, tag: try Tag("t"), isFresh: { _ in true }) { _, _, _, _ in })
        #expect(try tier.contents(blob) == nil)
        #expect(try tier.tag(repository: name, tag: Tag("t"))?.manifest == nil)
        #expect(try tier.manifest(repository: name, digest: digest) == nil)
        #expect(tier.statistics.damagedBlobs == 2)
        try tier.store(content)
        var served: [UInt8] = []
        let isThere = tier.hit(blob, inline: { _, bytes in served = [UInt8](bytes) }, file: { _, _ in })
        #expect(isThere && served == content)
        tier.close()
    }

    /// A copy of the directory has other inodes and change times: hashed once, and then trusted.
    @Test func aTouchedFileIsHashedOnceAndKept() throws {
        let tier = try DiskTier(folder.path)
        let digest = try tier.store(pattern(100_000))
        let path = path(folder, digest)
        try files.setModified(files.open(path, .readWrite), nanoseconds: 5)
        #expect(try tier.contents(digest) == pattern(100_000))
        #expect(try quarantine == [])
        #expect(tier.statistics.damagedBlobs == 0)
        tier.close()
    }

    @Test func contentInTheIndexIsHashedAfterAnUncleanStop() throws {
        try withCrashing(DiskTier(folder.path)) { tier in try tier.store(pattern(5000)) }
        let index = folder.path + "/index/data.mdb"
        let bytes = try #require(try files.contents(at: index))
        let start = try #require(position(of: pattern(5000), in: bytes))
        try overwrite(index, at: Int64(start + 100))
        let tier = try DiskTier(folder.path)
        #expect(try tier.contents(Digest(of: pattern(5000))) == nil)
        #expect(tier.statistics.damagedBlobs == 1)
        tier.close()
    }

    private func position(of needle: [UInt8], in bytes: [UInt8]) -> Int? {
        (0..<bytes.count - needle.count).first { bytes[$0...].starts(with: needle.prefix(64)) }
    }

    /// The index is the one of before: what it knows and what lies there must not make an answer that is wrong, nor break the ceiling.
    @Test func aLostLastCommitIsSeen() throws {
        let (old, new, gone) = (pattern(100_000, seed: 1), pattern(200_000, seed: 2), pattern(300_000, seed: 3))
        do {
            let tier = try DiskTier(folder.path)
            try tier.store(old)
            try tier.store(gone)
            tier.close()
        }
        let index = folder.path + "/index/data.mdb"
        let before = try #require(try files.contents(at: index))
        do {
            let tier = try DiskTier(folder.path)
            #expect(!tier.statistics.wasUnclean)
            try tier.store(new)
            try tier.remove(Digest(of: gone))
            tier.close()
        }
        try files.remove(index)
        try folder.write(before, to: "index/data.mdb")
        let tier = try DiskTier(folder.path)
        #expect(tier.statistics.wasUnclean, "although both stops were orderly")
        tier.waitUntilSettled()
        #expect(try tier.contents(Digest(of: old)) == old)
        #expect(try tier.contents(Digest(of: new)) == nil)
        #expect(try tier.contents(Digest(of: gone)) == nil)
        #expect(try files.status(at: path(folder, Digest(of: new))) == nil, "an orphan takes no room")
        tier.close()
    }

    @Test func orphansCountUntilTheyAreGone() throws {
        try withCrashing(DiskTier(folder.path)) { tier in try tier.store(pattern(100_000)) }
        let orphan = Digest(of: pattern(300_000, seed: 9))
        try files.createDirectory(folder.path + "/blobs/sha256/\(orphan.hex.prefix(2))")
        try folder.write(pattern(300_000, seed: 9), to: "blobs/sha256/\(orphan.hex.prefix(2))/\(orphan.hex)")
        let reports = Reports()
        let tier = try DiskTier(configuration(), report: reports.report)
        tier.waitUntilSettled()
        #expect(try files.status(at: path(folder, orphan)) == nil)
        guard case .removedOrphans(1, 300_000...)? = reports.all.first(where: { !$0.isProblem }) else {
            Issue.record("\(reports.all)")
            return
        }
        tier.close()
    }

    /// Bug: with a clock that was behind the files' times none of them was counted, and the ceiling was not kept.
    @Test(arguments: [false, true])
    func aClockThatIsBehindHidesNoFile(isRebuilt: Bool) throws {
        try withCrashing(DiskTier(folder.path)) { tier in try tier.store(pattern(100_000)) }
        if isRebuilt { try overwrite(folder.path + "/index/data.mdb", at: 0, [UInt8](repeating: 0xff, count: 8192)) }
        let orphan = Digest(of: pattern(300_000, seed: 9))
        try files.createDirectory(folder.path + "/blobs/sha256/\(orphan.hex.prefix(2))")
        try folder.write(pattern(300_000, seed: 9), to: "blobs/sha256/\(orphan.hex.prefix(2))/\(orphan.hex)")
        var rebuilding = configuration()
        rebuilding.rebuildsIndex = true
        let tier = try DiskTier(rebuilding, time: ManualTime(at: WallTime(seconds: 1_000_000)))
        tier.waitUntilSettled()
        #expect(try (files.status(at: path(folder, orphan)) != nil) == isRebuilt)
        #expect(try tier.contents(Digest(of: pattern(100_000))) == pattern(100_000))
        #expect(try folder.allocatedBytes() <= tier.statistics.usedBytes)
        tier.close()
    }

    /// Bug: one folder that could not be listed ended the look for orphans, and no later stop was a clean one.
    @Test func aFolderThatMayNotBeReadIsPassedBy() throws {
        try withCrashing(DiskTier(folder.path)) { tier in
            for seed in 0..<4 { try tier.store(pattern(100_000, seed: seed)) }
        }
        let root = folder.path + "/blobs/sha256"
        let names = try files.entries(of: root).map(\.name)
        for name in names { try folder.write(pattern(1000), to: "blobs/sha256/\(name)/orphan") }
        let faulty = FaultyFileSystem()
        faulty.beforeCalls { [forbidden = "\(root)/\(names[0])"] operation, path in
            faulty.failCall(operation == "readdir" && path == forbidden ? 1 : .max, code: EACCES)
        }
        do {
            let reports = Reports()
            let tier = try DiskTier(configuration(), fileSystem: faulty, report: reports.report)
            tier.waitUntilSettled()
            for name in names {
                #expect(try (files.status(at: "\(root)/\(name)/orphan") != nil) == (name == names[0]))
            }
            #expect(reports.all.count { $0.isProblem } == 1, "told once: \(reports.all)")
            tier.close()
        }
        let next = try DiskTier(configuration())
        #expect(!next.statistics.wasUnclean)
        next.close()
    }

    /// With a million blobs the count takes seconds: the first answers once waited for it, and then evicted all for what is unknown.
    @Test func theFirstAnswersAfterACrashDoNotWaitForTheCount() throws {
        try withCrashing(DiskTier(folder.path)) { tier in
            for seed in 0..<4 { try tier.store(pattern(100_000, seed: seed)) }
        }
        let disk = FaultyFileSystem()
        let gate = holdCount(disk)
        // Less is left on the volume than the ceiling would allow.
        disk.leave { 8 << 20 }
        let tier = try DiskTier(configuration { $0.minimumFreeBytes = 1 << 20 }, fileSystem: disk)
        #expect(tier.statistics.usedBytes == 64 << 20, "what may lie there counts")
        for seed in 0..<4 {
            #expect(try tier.contents(Digest(of: pattern(100_000, seed: seed))) == pattern(100_000, seed: seed))
        }
        gate.update { $0 = true }
        tier.waitUntilSettled()
        try tier.store(pattern(100_000, seed: 9))
        #expect(tier.statistics.evictedBlobs == 0)
        tier.close()
    }

    /// While nobody knows what lies there, room is made by evicting: never more than is needed, and no one waits for the count.
    @Test func reservationsAfterACrashDoNotWaitForTheCount() throws {
        try withCrashing(DiskTier(folder.path)) { tier in
            for seed in 0..<20 { try tier.store(pattern(1 << 20, seed: seed)) }
        }
        let disk = FaultyFileSystem()
        let gate = holdCount(disk)
        let tier = try DiskTier(configuration(), fileSystem: disk)
        try tier.store(pattern(1 << 20, seed: 50))
        #expect(1...3 ~= tier.statistics.evictedBlobs)
        #expect(tier.statistics.usedBytes <= 64 << 20)
        #expect(try tier.contents(Digest(of: pattern(1 << 20, seed: 50))) != nil)
        gate.update { $0 = true }
        tier.waitUntilSettled()
        #expect(tier.statistics.usedBytes < 32 << 20)
        tier.close()
    }

    @Test func whatIsUnknownIsNoMoreThanTheVolumeHas() throws {
        try withCrashing(DiskTier(folder.path)) { tier in
            for seed in 0..<4 { try tier.store(pattern(1 << 20, seed: seed)) }
        }
        let disk = FaultyFileSystem()
        let gate = holdCount(disk)
        let capacity = try files.space(at: folder.path).capacity
        disk.leave { capacity - (8 << 20) }
        let tier = try DiskTier(configuration(), fileSystem: disk)
        #expect(tier.statistics.usedBytes == 8 << 20)
        for seed in 10..<40 { try tier.store(pattern(1 << 20, seed: seed)) }
        #expect(tier.statistics.evictedBlobs == 0)
        gate.update { $0 = true }
        tier.close()
    }

    /// Until it is opened, orphans are not looked for.
    private func holdCount(_ disk: FaultyFileSystem) -> Monitor<Bool> {
        let gate = Monitor(false)
        disk.beforeCalls { operation, path in
            if operation == "readdir", path.contains("/blobs/") { _ = gate.wait { $0 ? true : nil } }
        }
        return gate
    }

    // MARK: - Large files

    /// The first client of a large file does not wait for its end, and gets none before it is right.
    @Test(arguments: [false, true])
    func aLargeFileIsVerifiedWhileItIsServed(damaged: Bool) throws {
        let content = pattern(3 << 20)
        let digest = Digest(of: content)
        try withCrashing(DiskTier(folder.path)) { tier in try tier.store(content) }
        if damaged { try overwrite(path(folder, digest), at: 2 << 20) }
        let tier = try DiskTier(configuration { $0.verifiedAtOnceBytes = 1 << 20 })
        guard case .checking(let check)? = try tier.lookup(digest) else {
            Issue.record("it is large")
            return
        }
        #expect(check.size == 3 << 20)
        #expect(try check.waitForBytes(at: 0) > 0)
        if damaged {
            #expect(throws: DiskTierError.self) { try check.waitUntilVerified() }
            #expect(throws: DiskTierError.self) { try check.waitForBytes(at: (3 << 20) - 1) }
            #expect(try tier.contents(digest) == nil)
            #expect(try quarantine.count == 1)
        } else {
            #expect(try check.waitForBytes(at: (3 << 20) - 1) == 1)
            guard case .file? = try tier.lookup(digest) else {
                Issue.record("once is enough")
                return
            }
        }
        tier.close()
    }

    // MARK: - Verify and scrub

    /// A tier with one large file; `meddle` is called as the second piece of that is about to be read.
    private func tier(with content: [UInt8], _ meddle: @escaping @Sendable (DiskTier) -> Void) throws -> DiskTier {
        let faulty = FaultyFileSystem()
        let tier = try DiskTier(folder.path, files: faulty)
        try tier.store(content)
        let reads = Mutex(0)
        faulty.beforeCalls { [weak tier] operation, _ in
            guard operation == "pread",
                reads.withLock({
                    $0 += 1; return $0
                }) == 2
            else { return }
            if let tier { meddle(tier) }
        }
        return tier
    }

    /// Bugs: what was overwritten behind the hash had proved right, and went to those who had waited for that; and again, when the time of
    /// modification was put back.
    @Test func aFileThatIsWrittenToWhileItIsHashedIsNotVerified() throws {
        let content = pattern(3 << 20)
        let digest = Digest(of: content)
        let path = path(folder, digest)
        let tier = try tier(with: content) { _ in
            try? overwriteLater(path)  // Then the check below fails.
        }
        // It keeps a verification of all from nothing.
        let progress = try tier.verifyAll()
        #expect(progress.unread == 1 && progress.damaged == 0)
        #expect(try tier.verify(digest) == .damaged)
        tier.close()
    }

    /// Its change time tells of that too.
    @Test func aFileThatIsDeletedWhileItIsHashedIsRight() throws {
        let content = pattern(3 << 20)
        let digest = Digest(of: content)
        let tier = try tier(with: content) { tier in
            try? tier.remove(digest)  // Then the last check fails.
        }
        #expect(try tier.verify(digest) == .verified)
        #expect(try tier.verify(digest) == .unknown)
        tier.close()
    }

    /// Bug: damage that is too large for the quarantine was removed, and to those who read it that looked like an eviction.
    @Test func whoReadsDamageThatIsRemovedIsTold() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        let digest = try tier.store(pattern(500_000))
        guard case .file(let file, let status)? = try tier.lookup(digest) else {
            Issue.record("it was just stored")
            return
        }
        try overwriteLater(path(folder, digest))
        #expect(try tier.contents(digest) == nil)
        #expect(try quarantine == [])
        #expect(try !status.stillDescribes(files.status(of: file)))
        tier.close()
    }

    @Test func verifyFindsWhatNobodyTouched() throws {
        let tier = try DiskTier(folder.path)
        let (good, bad, missing) = (pattern(100_000), pattern(100_000, seed: 1), pattern(100_000, seed: 2))
        for content in [good, bad, missing, pattern(10)] { try tier.store(content) }
        try overwrite(path(folder, Digest(of: bad)))
        try files.remove(path(folder, Digest(of: missing)))
        #expect(try tier.verify(Digest(of: good)) == .verified)
        #expect(try tier.verify(Digest(of: [99])) == .unknown)
        var steps = 0
        let done = try tier.verifyAll { state in
            steps += 1
            return state.blobs == steps
        }
        #expect(steps == 4)
        #expect(done.blobs == 4 && done.damaged == 1 && done.missing == 1)
        #expect(try tier.contents(Digest(of: good)) == good)
        #expect(try tier.contents(Digest(of: bad)) == nil)
        #expect(try tier.verifyAll().blobs == 2)
        #expect(tier.statistics.missingBlobs == 1 && tier.statistics.damagedBlobs == 1)
        tier.close()
    }

    @Test func verifyEndsWhenTold() throws {
        let tier = try DiskTier(folder.path)
        for seed in 0..<10 { try tier.store(pattern(20_000, seed: seed)) }
        #expect(try tier.verifyAll { $0.blobs < 3 }.blobs == 3)
        tier.close()
    }

    @Test func theScrubGoesRoundByItself() throws {
        let reports = Reports()
        let bad = pattern(100_000, seed: 1)
        do {
            let tier = try DiskTier(folder.path)
            try tier.store(pattern(100_000))
            try tier.store(bad)
            tier.close()
        }
        try overwrite(path(folder, Digest(of: bad)))
        let tier = try DiskTier(
            configuration {
                $0.scrubInterval = .milliseconds(1)
                $0.scrubBytesPerSecond = 1 << 40
            },
            report: reports.report
        )
        guard case .scrubbed(let done)? = reports.wait({ if case .scrubbed = $0 { true } else { false } }) else {
            Issue.record("\(reports.all)")
            return
        }
        #expect(done.blobs == 2 && done.damaged == 1)
        #expect(tier.statistics.scrubs >= 1)
        tier.close()
    }

    /// Bug: a file that could not be opened was no miss, but an error for ever; and one such file, or one moment without descriptors, ended
    /// the scrub until the next start.
    @Test(arguments: [EACCES, EPERM, EIO, EMFILE])
    func whatCannotBeOpenedKeepsTheOthersFromNothing(_ code: Int32) throws {
        try {
            let tier = try DiskTier(folder.path)
            for seed in 0..<3 { try tier.store(pattern(100_000, seed: seed)) }
            tier.close()
        }()
        let faulty = FaultyFileSystem()
        let reports = Reports()
        let tier = try DiskTier(
            configuration {
                $0.scrubInterval = .milliseconds(1)
                $0.scrubBytesPerSecond = 1 << 40
            },
            fileSystem: faulty,
            report: reports.report
        )
        faulty.failCall(1, code: code, of: ["open"])
        let done = try tier.verifyAll()
        let isTransient = code == EMFILE
        #expect(done.unread == (isTransient ? 1 : 0) || done.unread + done.damaged == 0, "the scrub had it")
        _ = reports.wait { if case .scrubbed(let done) = $0 { done.blobs == (isTransient ? 3 : 2) } else { false } }
        let size = try (0..<3).count { try tier.size(of: Digest(of: pattern(100_000, seed: $0))) != nil }
        #expect(size == (isTransient ? 3 : 2))
        tier.close()
    }

    @Test func theQuarantineIsBounded() throws {
        var counted: Int64 = 0
        do {
            let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
            for seed in 0..<10 {
                let digest = try tier.store(pattern(100_000, seed: seed))
                try overwrite(path(folder, digest))
                #expect(try tier.contents(digest) == nil)
            }
            // 5 % of 8 MiB.
            #expect(try quarantine.count == 4)
            let large = try tier.store(pattern(1_000_000))
            try overwrite(path(folder, large))
            #expect(try tier.contents(large) == nil)
            #expect(try quarantine.count == 4, "what does not fit is not kept")
            #expect(try folder.allocatedBytes() <= 8 << 20)
            counted = tier.statistics.quarantinedBytes
            #expect(counted > 0 && counted <= (8 << 20) / 20)
            tier.close()
        }
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
        #expect(tier.statistics.quarantinedBytes == counted, "it counts after a restart too")
        tier.close()
    }
}
