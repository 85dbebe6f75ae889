import DiskTier
import Glibc
import Hashing
import OCI
import Synchronization
import System
import TestDoubles
import Testing

/// What an earlier run left under another ceiling is made to fit by itself, and what must stay is told.
@Suite struct LoweredCeilingTests {
    let folder = TemporaryFolder()

    private func open(
        _ ceilingBytes: Int64,
        files: any FileSystem = LocalFileSystem(),
        _ reports: Reports = Reports(),
        _ change: (inout DiskTier.Configuration) -> Void = { _ in }
    ) throws -> DiskTier {
        var configuration = DiskTier.Configuration(directory: folder.path, ceilingBytes: ceilingBytes)
        change(&configuration)
        return try DiskTier(configuration, fileSystem: files, report: reports.report)
    }

    /// A fill that nobody goes on with.
    private func leaveFill(_ tier: DiskTier, _ content: [UInt8]) throws {
        let (digest, size) = (Digest(of: content), Int64(content.count))
        let file = try tier.newFile(tier.reserve(size + 1_000_000), noteRoom: 1_000_000)
        try file.watch.write(content.span, at: 0)
        let block = FillNote.Block(range: 0..<FillNote.unitBytes, checksum: 1)
        try file.note(FillNote(digest: digest, size: 2 * size, etag: nil, landed: [block]))
        try file.leave(digest, size: 2 * size, end: size, knowing: { _ in true }, since: tier.stamp())
    }

    /// Bug: in the background whole files went, and the fill that nobody wanted stayed.
    @Test func aLeftFillGoesBeforeFilesInTheBackground() throws {
        let tier = try open(32 << 20) { ($0.highWatermarkPercent, $0.lowWatermarkPercent) = (80, 60) }
        defer { tier.stop() }
        tier.waitUntilSettled()
        try leaveFill(tier, pattern(12 << 20, seed: -1))
        for seed in 0..<15 { try tier.store(pattern(1 << 20, seed: seed)) }
        waitUntil { tier.statistics.reservedBytes == 0 }
        #expect(tier.statistics.evictedBlobs == 0)
        #expect(try tier.has(pattern(1 << 20)))
    }

    /// Bug: it stayed above the ceiling until somebody asked for room.
    @Test(arguments: [true, false])
    func aLeftFillGoesUnderALowerCeiling(isClean: Bool) throws {
        try {
            let tier = try open(64 << 20)
            try leaveFill(tier, pattern(30 << 20, seed: -1))
            try tier.store(pattern(1 << 20))
            if isClean { tier.close() } else { tier.stop() }
        }()
        let tier = try open(8 << 20)
        defer { tier.stop() }
        waitUntil { tier.statistics.usedBytes <= 8 << 20 }
        #expect(try folder.allocatedBytes() <= 8 << 20)
        #expect(try tier.has(pattern(1 << 20)), "no more than it should")
    }

    /// Bug: what was unpinned stayed above the ceiling until somebody asked for room, or for a minute.
    @Test func whatIsUnpinnedGoesUnderALowerCeiling() throws {
        try {
            let tier = try open(64 << 20)
            let items = try (0..<20).map { PinnedItem(.blob(try tier.store(pattern(1 << 20, seed: $0)))) }
            try tier.pin("x", items)
            tier.close()
        }()
        let reports = Reports()
        let tier = try open(8 << 20, reports)
        defer { tier.stop() }
        // By then eviction has found nothing that may go.
        _ = reports.wait { if case .overCeiling = $0 { true } else { false } }
        #expect(tier.statistics.usedBytes > 20 << 20)
        try tier.unpin("x")
        waitUntil { tier.statistics.usedBytes <= 8 << 20 }
    }

    /// Bug: who needed room first waited until all that was above the ceiling had gone.
    @Test func nobodyWaitsForAllThatIsAboveTheCeiling() throws {
        try {
            let tier = try open(64 << 20)
            for seed in 0..<20 { try tier.store(pattern(1 << 20, seed: seed)) }
            tier.close()
        }()
        let (files, gate) = (FaultyFileSystem(), Gate())
        files.beforeCalls { operation, path in
            if operation == "unlink", path.contains("/blobs/") { gate.pass() }
        }
        let tier = try open(8 << 20, files: files) { $0.excessPatience = .zero }
        defer { tier.stop() }
        gate.waitForArrivals()
        let failure = #expect(throws: DiskTierError.self) { try tier.reserve(1 << 20) }
        #expect(failure?.isNoSpace == true)
        gate.open()
        waitUntil { tier.statistics.usedBytes <= 7 << 20 }
        try tier.store(pattern(1 << 20, seed: 50))
    }

    @Test func filesGoUnderAHigherFloor() throws {
        try {
            let tier = try open(64 << 20)
            for seed in 0..<20 { try tier.store(pattern(1 << 20, seed: seed)) }
            tier.close()
        }()
        let (files, path) = (FaultyFileSystem(), folder.path)
        let volume: Int64 = 30 << 20
        files.leave { volume - ((try? TemporaryFolder.allocatedBytes(below: path)) ?? 0) }
        let tier = try open(64 << 20, files: files) { $0.minimumFreeBytes = 20 << 20 }
        defer { tier.stop() }
        waitUntil { ((try? folder.allocatedBytes()) ?? .max) <= 10 << 20 }
        #expect(try folder.allocatedBytes() > 5 << 20, "no more than it should")
    }

    @Test func damagedFilesGoUnderALowerCeiling() throws {
        let contents = (0..<3).map { pattern(300_000, seed: $0) }
        try {
            let tier = try open(64 << 20)
            for content in contents {
                let digest = try tier.store(content)
                try overwrite(path(folder, digest))
                #expect(try tier.verify(digest) == .damaged)
            }
            tier.close()
        }()
        let tier = try open(8 << 20)
        defer { tier.close() }
        #expect(try LocalFileSystem().entries(of: folder.path + "/quarantine").count == 1)
        #expect(tier.statistics.quarantinedBytes <= 8 << 20 / 20)
    }

    // MARK: - What lies in the index

    private static let smallCount = 1200

    /// `pattern` repeats after 256 seeds.
    private func small(_ number: Int) -> [UInt8] { Array("\(number)".utf8) + pattern(8000) }

    /// 10 MiB of small blobs, the first of which is pinned.
    private func fillIndex() throws {
        let tier = try open(100 << 20)
        for seed in 0..<Self.smallCount { try tier.store(small(seed)) }
        try tier.pin("x", [PinnedItem(.blob(Digest(of: small(0))))])
        #expect(tier.statistics.indexBytes > 9 << 20)
        tier.close()
    }

    /// Bug: nothing ever left the index under a lower ceiling. It took twice the ceiling, and nothing else was kept any more.
    @Test func anIndexIsMadeSmallerUnderALowerCeiling() throws {
        try fillIndex()
        let reports = Reports()
        do {
            let tier = try open(8 << 20, reports)
            #expect(!tier.statistics.wasUnclean)
            _ = reports.wait { if case .shrankIndex(let old, let new) = $0 { old > 4 * new } else { false } }
            #expect(tier.statistics.indexBytes < 3 << 20)
            waitUntil { tier.statistics.usedBytes <= 8 << 20 }
            #expect(try folder.allocatedBytes() <= 8 << 20)
            #expect(try tier.contents(Digest(of: small(0))) == small(0), "pinned")
            #expect(try !tier.has(small(1)), "the oldest go")
            let last = small(Self.smallCount - 1)
            #expect(try tier.contents(Digest(of: last)) == last)
            // It goes on as an index that has always been this one.
            for seed in 0..<20 {
                try tier.store(pattern(200_000, seed: seed))
                try tier.store(small(5000 + seed))
            }
            #expect(try tier.contents(Digest(of: small(5019))) == small(5019))
            try tier.verifyAll()
            #expect(tier.statistics.damagedBlobs == 0)
            tier.close()
        }
        let tier = try open(8 << 20, reports)
        #expect(!tier.statistics.wasUnclean)
        #expect(try tier.contents(Digest(of: small(5019))) == small(5019))
        #expect(reports.all.count { if case .shrankIndex = $0 { true } else { false } } == 1)
        tier.close()
    }

    /// What it does not fit into is named, also when the index could not be made smaller.
    @Test func anIndexThatStaysTooLargeIsNamed() throws {
        try fillIndex()
        let (files, reports) = (FaultyFileSystem(), Reports())
        files.failCall(1, code: EIO, of: ["rename"])
        try {
            let tier = try open(8 << 20, files: files, reports)
            defer { tier.stop() }
            waitUntil { files.hasFailed }
            let told = reports.wait { if case .overCeiling = $0 { true } else { false } }
            guard case .overCeiling(let excess)? = told else { return }
            #expect(excess.indexBytes > 8 << 20 && excess.ceilingBytes == 8 << 20)
            #expect(!reports.all.contains { if case .shrankIndex = $0 { true } else { false } })
            let error = #expect(throws: DiskTierError.self) { try tier.store(pattern(1000, seed: 77)) }
            guard case .indexTooLarge? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(error?.isNoSpace == true)
            #expect(!(try LocalFileSystem().entries(of: folder.path + "/index")).contains { $0.name.hasSuffix(".new") })
        }()
        // What never fits, whatever the index does, is still told so.
        let tier = try open(8 << 20)
        defer { tier.stop() }
        waitUntil { tier.statistics.indexBytes < 3 << 20 }
        let error = #expect(throws: DiskTierError.self) { try tier.reserve(8 << 20) }
        guard case .neverFits? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    /// A copy that a kill cut short is cleared away, and none is begun that has no room.
    @Test func halfACopyOfTheIndexIsOfNoUse() throws {
        try fillIndex()
        try folder.write(pattern(100_000), to: "index/data.mdb.new")
        let files = FaultyFileSystem()
        files.leave { 1 << 20 }
        let reports = Reports()
        try {
            let tier = try open(20 << 20, files: files, reports)
            defer { tier.stop() }
            let told = reports.wait { if case .keptLargeIndex = $0 { true } else { false } }
            guard case .keptLargeIndex(_, let missing)? = told else { return }
            #expect(missing > 0 && told?.isProblem == true && "\(told!)".contains("\(missing) bytes more"))
            #expect(try LocalFileSystem().status(at: folder.path + "/index/data.mdb.new") == nil)
        }()
        let tier = try open(20 << 20)
        defer { tier.stop() }
        waitUntil { tier.statistics.indexBytes < 6 << 20 }
        #expect(try tier.contents(Digest(of: small(0))) == small(0))
    }

    /// Bug: the copy was not counted, and for a moment the ceiling did not hold.
    @Test func theCopyOfTheIndexHasItsRoomBelowTheCeiling() throws {
        try {
            let tier = try open(60 << 20)
            for seed in 0..<Self.smallCount { try tier.store(small(seed)) }
            for seed in 0..<40 { try tier.store(pattern(1 << 20, seed: seed)) }
            tier.close()
        }()
        let (files, reports, path) = (FaultyFileSystem(), Reports(), folder.path)
        let taken = Mutex<Int64?>(nil)
        files.beforeCalls { operation, _ in
            if operation == "rename" {
                taken.withLock { if $0 == nil { $0 = try? TemporaryFolder.allocatedBytes(below: path) } }
            }
        }
        let tier = try open(20 << 20, files: files, reports)
        defer { tier.stop() }
        _ = reports.wait { if case .shrankIndex = $0 { true } else { false } }
        let atItsEnd = try #require(taken.withLock { $0 })
        #expect(atItsEnd > 10 << 20 && atItsEnd <= 20 << 20)
        #expect(try tier.has(pattern(1 << 20, seed: 39)), "no more than it should")
    }

    private func keep(_ tier: DiskTier, _ manifest: [UInt8]) throws -> Bool {
        let name = try RepositoryName("library/debian")
        do throws(DiskTierError) {
            return try tier.record(
                manifest: Digest(of: manifest),
                repository: name,
                mediaType: .imageManifest,
                bytes: manifest,
                since: tier.stamp()
            )
        } catch {
            guard case .neverFits = error else { throw error }
            return false
        }
    }

    /// Bug: manifests of megabytes, which need pages in a row, made the index take nearly all of a small cache until a restart.
    @Test func largeManifestsLeaveRoomForBlobs() throws {
        let tier = try open(48 << 20)
        defer { tier.stop() }
        let sizes = [1000, 100_000, 700_000, 1_100_000, 4 << 20]
        for number in 0..<150 {
            let bytes = Array("\(number)".utf8) + pattern(sizes[number % sizes.count])
            #expect(try keep(tier, bytes) == (bytes.count < 48 << 20 / 40), "of \(bytes.count) bytes")
        }
        waitUntil { tier.statistics.indexBytes < 15 << 20 }
        #expect(try folder.allocatedBytes() <= 48 << 20)
        try tier.store(pattern(30 << 20))
    }

    // MARK: - What stays

    @Test func uploadsAboveTheCeilingAreTold() throws {
        try {
            let tier = try open(64 << 20)
            let room = tier.newUploadReservation()
            try room.grow(by: 12 << 20)
            _ = try tier.newUploadFile("a.data", room)
            tier.close()
        }()
        let reports = Reports()
        let tier = try open(8 << 20, reports)
        defer { tier.stop() }
        try tier.store(pattern(1 << 20))
        let room = try tier.reservationOfUploadFile("a.data", isSmall: false)
        tier.restoreCeiling()
        let told = reports.wait { if case .overCeiling = $0 { true } else { false } }
        guard case .overCeiling(let excess)? = told else {
            Issue.record("nothing was told")
            return
        }
        #expect(excess.uploadBytes >= 12 << 20 && excess.usedBytes > 12 << 20)
        #expect(told?.isProblem == true && "\(excess)".contains("cache-size"))
        #expect(try !tier.has(pattern(1 << 20)), "all that may go has gone")
        tier.removeUploadFile("a.data", room)
        #expect(tier.statistics.uploadBytes == 0)
        try tier.store(pattern(1 << 20))
    }

    @Test func pinsBeyondTheirShareAreTold() throws {
        try {
            let tier = try open(64 << 20)
            try tier.store(pattern(9 << 20))
            try tier.pin("x", [PinnedItem(.blob(Digest(of: pattern(9 << 20))))])
            tier.close()
        }()
        let reports = Reports()
        let tier = try open(10 << 20, reports)
        defer { tier.stop() }
        #expect(
            reports.all.contains {
                if case .pinsBeyondShare(bytes: 9_437_184, limitBytes: 8_388_608) = $0 { $0.isProblem } else { false }
            }
        )
        #expect(try tier.has(pattern(9 << 20)))
    }

    // MARK: - Uploads

    @Test func uploadsHaveAShareOfTheCeiling() throws {
        let tier = try open(16 << 20)
        defer { tier.stop() }
        let (first, second) = (tier.newUploadReservation(), tier.newUploadReservation())
        try first.grow(by: 5 << 20)
        let error = #expect(throws: DiskTierError.self) { try second.grow(by: 4 << 20) }
        guard case .uploadsBeyondShare(bytes: 4_194_304, let limit)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(limit <= 8 << 20 && limit > 7 << 20 && error?.isNoSpace == true)
        try second.grow(by: 2 << 20)
        #expect(tier.statistics.uploadBytes == 7 << 20)
        // Others have the rest.
        let other = try tier.reserve(8 << 20)
        // What finds no room does not count.
        #expect(throws: DiskTierError.self) { try second.grow(by: 900_000) }
        #expect(tier.statistics.uploadBytes == 7 << 20)
        first.release()
        #expect(tier.statistics.uploadBytes == 2 << 20)
        try second.grow(by: 4 << 20)
        second.release()
        #expect(tier.statistics.uploadBytes == 0)
        withExtendedLifetime(other) {}
    }
}
