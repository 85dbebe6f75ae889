import DiskTier
import Glibc
import Hashing
import OCI
import Synchronization
import System
import TestDoubles
import Testing
import Threading

extension DiskTier {
    /// Without a read, which would make eviction spare it.
    func has(_ content: [UInt8]) throws -> Bool { try size(of: Digest(of: content)) != nil }

    convenience init(_ path: String, ceilingBytes: Int64, _ change: (inout Configuration) -> Void) throws {
        var configuration = Configuration(directory: path, ceilingBytes: ceilingBytes)
        change(&configuration)
        try self.init(configuration)
    }
}

@Suite struct EvictionTests {
    let folder = TemporaryFolder()
    let name = try! RepositoryName("library/debian")  // A literal that parses.

    /// A reservation below the ceiling evicts nothing; what runs in the background goes on to the low watermark.
    @Test func worksDownToTheLowWatermarkInTheBackground() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 32 << 20) { configuration in
            configuration.highWatermarkPercent = 80
            configuration.lowWatermarkPercent = 50
        }
        defer { tier.stop() }
        tier.waitUntilSettled()
        for seed in 0..<24 { try tier.store(pattern(1 << 20, seed: seed)) }
        #expect(tier.statistics.evictedBlobs == 0)
        for seed in 24..<26 { try tier.store(pattern(1 << 20, seed: seed)) }
        // The last one may come when the others have made room already.
        let limit = (32 << 20) / 2 + (2 << 20)
        waitUntil { tier.statistics.usedBytes <= limit }
        #expect(tier.statistics.usedBytes > (32 << 20) / 4, "no more than it should")
        #expect(try folder.allocatedBytes() <= limit)
    }

    @Test func closingEndsTheBackground() throws {
        do {
            let tier = try DiskTier(folder.path, ceilingBytes: 16 << 20) { configuration in
                configuration.highWatermarkPercent = 20
                configuration.lowWatermarkPercent = 1
            }
            for seed in 0..<8 { try tier.store(pattern(1 << 20, seed: seed)) }
            tier.close()
        }
        // The directory is free: no thread holds the tier any more.
        let tier = try DiskTier(folder.path)
        #expect(!tier.statistics.wasUnclean)
        tier.close()
    }

    @Test(arguments: EvictionPolicyName.allCases)
    func whatIsBeingReadStays(_ policy: EvictionPolicyName) throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20) { $0.evictionPolicy = policy }
        defer { tier.stop() }
        let read = pattern(500_000, seed: -1)
        try tier.store(read)
        guard case .file(let file, _)? = try tier.lookup(Digest(of: read)) else {
            Issue.record("it was just stored")
            return
        }
        for seed in 0..<60 {
            try tier.store(pattern(300_000, seed: seed))
            #expect(tier.statistics.usedBytes <= 8 << 20)
        }
        #expect(tier.statistics.evictedBlobs > 20)
        #expect(try tier.has(read))
        #expect(try LocalFileSystem().read(file, at: 0, count: 500_000) == read)
    }

    /// Blocks of a file that was deleted under its reader are taken until the reader is through.
    @Test func theBooksCountWhatIsReadWithoutAName() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
        defer { tier.stop() }
        let content = pattern(4 << 20, seed: -1)
        try tier.store(content)
        let before = tier.statistics.usedBytes
        do {
            let found = try tier.lookup(Digest(of: content))
            try tier.remove(Digest(of: content))
            #expect(try !tier.has(content))
            #expect(tier.statistics.usedBytes >= before)
            #expect(tier.statistics.lingeringBytes >= 4 << 20)
            #expect(throws: DiskTierError.self) { try tier.reserve(5 << 20) }
            withExtendedLifetime(found) {}
        }
        #expect(tier.statistics.lingeringBytes == 0)
        #expect(tier.statistics.usedBytes < before - (3 << 20))
        _ = try tier.reserve(5 << 20)
    }

    /// A fill's readers go on reading its file after it has become part of the tier.
    @Test func whoReadsAlongWithAFillKeepsItsFile() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20)
        defer { tier.stop() }
        let content = pattern(500_000, seed: -1)
        let incoming = try tier.newFile(tier.reserve(Int64(content.count)))
        let reader = incoming.file
        try incoming.watch.write(content.span, at: 0)
        _ = try incoming.commit(as: Digest(of: content), size: Int64(content.count), since: tier.stamp())
        for seed in 0..<60 { try tier.store(pattern(300_000, seed: seed)) }
        #expect(try tier.has(content))
        withExtendedLifetime(reader) {}
    }

    /// Bug: the folders' own blocks were in no books, up to 1 MiB of a ceiling of 16.
    @Test func foldersCount() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 16 << 20) { $0.highWatermarkPercent = 99 }
        defer { tier.stop() }
        tier.waitUntilSettled()
        for seed in 0..<600 {
            try tier.store(pattern(20_000 + seed, seed: seed))
            if seed % 100 == 99 { #expect(try folder.allocatedBytes() <= tier.statistics.usedBytes) }
        }
        #expect(try LocalFileSystem().entries(of: folder.path + "/blobs/sha256").count > 200)
        #expect(try folder.allocatedBytes() <= 16 << 20)
    }

    enum End: CaseIterable { case deleted, failed, lateFailure, dropped, left }

    /// Bug: what a delete or a failure took away while somebody read along with the fill was in no books.
    @Test(arguments: End.allCases)
    func whatNobodyKeepsCountsUntilItsLastReaderIsThrough(_ end: End) throws {
        let files = FaultyFileSystem()
        let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20, files: files)
        defer { tier.stop() }
        let (content, stamp) = (pattern(4 << 20), tier.stamp())
        let (digest, size) = (Digest(of: content), Int64(content.count))
        let before = tier.statistics.usedBytes
        var reader: File?
        try {
            let incoming = try tier.newFile(tier.reserve(size + 1_000_000), noteRoom: 1_000_000)
            reader = incoming.file
            try incoming.watch.write(content.span, at: 0)
            switch end {
            case .deleted:
                try tier.remove(digest)
                #expect(try !incoming.commit(as: digest, size: size, since: stamp))
            case .failed:
                files.failCall(1, code: EIO, of: ["rename"])
                #expect(throws: DiskTierError.self) { try incoming.commit(as: digest, size: size, since: stamp) }
            case .lateFailure:
                files.failCall(1, code: EIO, of: ["fsync"])
                #expect(throws: DiskTierError.self) { try incoming.commit(as: digest, size: size, since: stamp) }
            case .dropped: break
            case .left:
                let block = FillNote.Block(range: 0..<FillNote.unitBytes, checksum: 1)
                try incoming.note(FillNote(digest: digest, size: size, etag: nil, landed: [block]))
                try incoming.leave(digest, size: size, end: size, knowing: { _ in true }, since: stamp)
            }
        }()
        if end == .left { try tier.remove(digest) }
        #expect(try folder.allocatedBytes() < 1 << 20)
        #expect(tier.statistics.usedBytes >= before + size)
        #expect(throws: DiskTierError.self) { try tier.reserve(4 << 20) }
        withExtendedLifetime(reader) {}
        reader = nil
        #expect(tier.statistics.usedBytes < before + 100_000)
        _ = try tier.reserve(4 << 20)
    }

    /// Bug: on file systems that give a file more blocks than were written to it (XFS), the index took more than the books said.
    @Test func allBlocksOfTheIndexCount() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 64 << 20)
        defer { tier.stop() }
        let before = tier.statistics.indexBytes
        let file = try LocalFileSystem().open(folder.path + "/index/data.mdb", .readWrite)
        try LocalFileSystem().allocate(file, size: 8 << 20)
        try tier.store(pattern(1000))
        #expect(tier.statistics.indexBytes > before + 7 << 20)
    }

    /// Bug: beyond its share, twenty went whatever their size, and with large manifests nearly all there was.
    @Test func theIndexGivesUpNoMoreThanItMust() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 64 << 20) { $0.inlineLimitBytes = 1 << 20 }
        defer { tier.stop() }
        tier.waitUntilSettled()
        let contents = (0..<40).map { pattern(1_000_000, seed: $0) }
        for content in contents {
            try tier.store(content)
            #expect(try tier.has(content))
        }
        let kept = try contents.count { try tier.has($0) }
        let configuration = DiskTier.Configuration(directory: folder.path, ceilingBytes: 64 << 20)
        let most = Int(configuration.indexShareBytes / 1_000_000)
        #expect(kept > most * 3 / 4 && kept <= most + 1, "\(kept) of at most \(most)")
    }

    private func manifest(config: [UInt8]) -> [UInt8] {
        Array(
            """
            {"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":\
            "application/vnd.oci.image.config.v1+json","digest":"\(Digest(of: config))","size":\(config.count)},"layers":[]}
            """.utf8
        )
    }

    private func keep(_ tier: DiskTier, _ manifest: [UInt8]) throws {
        _ = try tier.record(
            manifest: Digest(of: manifest),
            repository: name,
            mediaType: .imageManifest,
            bytes: manifest,
            since: tier.stamp()
        )
    }

    /// In a file or in the index, before its manifest (a push) or after it (a pull).
    @Test(arguments: [30_000, 3000], [true, false])
    func manifestsAndConfigsStayLongerThanLayers(_ size: Int, _ isPushed: Bool) throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 6 << 20)
        defer { tier.stop() }
        let config = pattern(size, seed: -1)
        let manifest = manifest(config: config)
        if isPushed { try tier.store(config) }
        try keep(tier, manifest)
        if !isPushed { try tier.store(config) }
        for seed in 0..<60 {
            try tier.store(pattern(300_000, seed: seed))
            for number in 0..<2 { try tier.store(pattern(15_000, seed: 1000 + seed * 2 + number)) }
        }
        #expect(try !tier.has(pattern(300_000, seed: 0)))
        #expect(try !tier.has(pattern(15_000, seed: 1000)))
        #expect(try tier.has(config))
        #expect(try tier.manifest(repository: name, digest: Digest(of: manifest)) != nil)
        // Without its manifest it is a blob like others.
        try tier.forget(manifest: Digest(of: manifest), repository: name)
        for seed in 100..<160 {
            try tier.store(pattern(300_000, seed: seed))
            for number in 0..<2 { try tier.store(pattern(15_000, seed: 1000 + seed * 2 + number)) }
        }
        #expect(try !tier.has(config))
    }

    @Test func configsGoWhenNothingElseIsLeft() throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        defer { tier.stop() }
        for seed in 0..<20 {
            let config = pattern(200_000, seed: seed)
            try keep(tier, manifest(config: config))
            try tier.store(config)
        }
        #expect(tier.statistics.usedBytes <= 4 << 20)
        #expect(try tier.has(pattern(200_000, seed: 19)))
        _ = try tier.reserve(3 << 20)
    }

    @Test func aNewPolicyTakesOverTheQueue() throws {
        for (number, policy) in (EvictionPolicyName.allCases + [.lru]).enumerated() {
            let tier = try DiskTier(folder.path, ceilingBytes: 8 << 20) { $0.evictionPolicy = policy }
            let last = pattern(300_000, seed: number * 100 + 39)
            for seed in 0..<40 {
                try tier.store(pattern(300_000, seed: number * 100 + seed))
                #expect(tier.statistics.usedBytes <= 8 << 20)
            }
            #expect(try tier.has(last))
            tier.close()
        }
    }

    /// With the least recently read first, what stays tells the order: it is the same after a restart.
    @Test func aRestartKeepsTheOrder() throws {
        func open() throws -> DiskTier {
            try DiskTier(folder.path, ceilingBytes: 16 << 20) { $0.evictionPolicy = .lru }
        }
        do {
            let tier = try open()
            for seed in 0..<20 { try tier.store(pattern(500_000, seed: seed)) }
            tier.close()
        }
        let tier = try open()
        defer { tier.stop() }
        var evicted: [Int] = []
        for round in 0..<16 {
            try tier.store(pattern(500_000, seed: 100 + round))
            // The youngest first: what goes while this looks is older.
            let gone = Array(try (0..<20).reversed().filter { try !tier.has(pattern(500_000, seed: $0)) }.reversed())
            #expect(gone == Array(0..<gone.count), "the oldest go first")
            evicted = gone
        }
        #expect(!evicted.isEmpty && evicted.count < 20)
    }
}

/// Polls; the test's time limit is the harness's.
func waitUntil(_ condition: () -> Bool) {
    let deadline = Deadline.after(.seconds(20))
    while !condition(), !deadline.hasPassed { pauseThread(.milliseconds(5)) }
    #expect(condition())
}
