import DiskTier
import Glibc
import Hashing
import OCI
import System
import TestDoubles
import Testing

/// Something else in the place of a file, as an operator's hand or another program may leave it.
enum Replacement: CaseIterable {
    case pipe, link, directory, socket

    /// Takes the place of what is at the path; a link leads to the very same bytes.
    func take(_ path: String) throws {
        let files = LocalFileSystem()
        switch self {
        case .pipe:
            try files.remove(path)
            try #require(mkfifo(path, 0o600) == 0)
        case .link:
            try files.rename(path, to: path + ".elsewhere")
            try #require(symlink(path + ".elsewhere", path) == 0)
        case .directory:
            try files.remove(path)
            try files.createDirectory(path + "/sub")
        case .socket:
            try files.remove(path)
            try #require(mknod(path, S_IFSOCK | 0o600, 0) == 0)
        }
    }
}

/// Opening a pipe waits for its other end: such a reader used to hang, and an event loop with it.
@Suite(.timeLimit(.minutes(20))) struct ReplacedFileTests {
    private let folder = TemporaryFolder()

    @Test(arguments: Replacement.allCases)
    func whatIsNoFileIsDamageAndPutAside(_ replacement: Replacement) throws {
        let content = pattern(100_000)
        let digest = Digest(of: content)
        do {
            let tier = try DiskTier(folder.path)
            try tier.store(content)
            try replacement.take(path(folder, digest))
            #expect(!tier.hit(digest, inline: { _, _ in }, file: { _, _ in }), "what must not wait does not")
            #expect(try tier.contents(digest) == nil)
            #expect(tier.statistics.damagedBlobs == 1)
            #expect(try tier.inventoryTotals().fileBytes == 0)
            #expect(try LocalFileSystem().entries(of: folder.path + "/quarantine").count == 1)
            try tier.store(content)
            #expect(try tier.contents(digest) == content, "and its place is free")
            tier.close()
        }
        let next = try DiskTier(folder.path)
        #expect(next.statistics.quarantinedBytes == 0)
        #expect(try next.contents(digest) == content)
        next.close()
    }

    @Test(arguments: Replacement.allCases)
    func verifyFindsIt(_ replacement: Replacement) throws {
        let tier = try DiskTier(folder.path)
        let digest = try tier.store(pattern(100_000))
        try replacement.take(path(folder, digest))
        #expect(try tier.verify(digest) == .damaged)
        #expect(try tier.verify(digest) == .unknown)
        tier.close()
    }

    /// A directory cannot be unlinked, and what cannot be removed holds up eviction.
    @Test(arguments: Replacement.allCases)
    func evictionIsNotHeldUp(_ replacement: Replacement) throws {
        let tier = try DiskTier(folder.path, ceilingBytes: 4 << 20)
        let first = try tier.store(pattern(500_000))
        try replacement.take(path(folder, first))
        for seed in 1..<20 {
            let content = pattern(500_000, seed: seed)
            #expect(try tier.contents(tier.store(content)) == content)
        }
        #expect(try tier.size(of: first) == nil)
        #expect(tier.statistics.usedBytes <= 4 << 20)
        tier.close()
    }

    /// Half a fill of an earlier run, and the note of what has landed of it.
    @Test(arguments: Replacement.allCases, ["", ".parts"])
    func aStartIsNotHeldUp(_ replacement: Replacement, _ suffix: String) throws {
        let digest = Digest(of: [1])
        let note = "forebay-fill 2\ndigest \(digest)\nsize 1000000\n\n"
        try LocalFileSystem().createDirectory(folder.path + "/incoming")
        try folder.write(pattern(100_000), to: "incoming/left")
        try folder.write(Array(note.utf8), to: "incoming/left.parts")
        try replacement.take(folder.path + "/incoming/left" + suffix)
        let tier = try DiskTier(folder.path)
        let left = try? tier.resumeFill(digest)
        #expect(left == nil)
        #expect(tier.statistics.reservedBytes == 0)
        tier.close()
    }

    @Test(arguments: Replacement.allCases)
    func anUploadsFileIsAsGoodAsGone(_ replacement: Replacement) throws {
        let tier = try DiskTier(folder.path)
        do {
            let file = try tier.newUploadFile("a", tier.reserve(100_000))
            try file.watch.write(pattern(100_000).span, at: 0)
        }
        try replacement.take(tier.uploadDirectory + "/a")
        let reservation = try tier.reservationOfUploadFile("a", isSmall: false)
        #expect(try tier.reopenUploadFile("a", size: 0, reservation) == nil)
        tier.removeUploadFile("a", reservation)
        #expect(try LocalFileSystem().status(at: tier.uploadDirectory + "/a") == nil)
        tier.close()
    }
}
