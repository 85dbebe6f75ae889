import DiskTier
import Hashing
import OCI
import System
import TestDoubles
import Testing

/// A walk over everything puts together what it notes.
@Suite struct VerifiedNoteTests {
    let folder = TemporaryFolder()

    /// The number of the last commit, after an orderly stop.
    private var lastTransaction: Int {
        get throws {
            let mark = try #require(try LocalFileSystem().contents(at: folder.path + "/clean"))
            let line = String(decoding: mark, as: UTF8.self).prefix { $0 != "\n" }
            return try #require(Int(line.split(separator: " ")[3]))
        }
    }

    private func verified(_ tier: DiskTier) throws -> Int {
        var (count, cursor): (Int, InventoryCursor?) = (0, nil)
        repeat {
            let page = try tier.inventory(of: .blob, after: cursor)
            count += page.entries.count { $0.isVerified }
            cursor = page.next
        } while cursor != nil
        return count
    }

    /// Every eighth lies in a file.
    private func content(_ number: Int) -> [UInt8] {
        Array("\(number)".utf8) + pattern(number % 8 == 0 ? 17_000 : 100)
    }

    private func takeMoreBlocks(_ digests: [Digest]) throws {
        let files = LocalFileSystem()
        for number in stride(from: 0, to: digests.count, by: 8) {
            try files.allocate(files.open(path(folder, digests[number]), .readWrite), size: 200_000)
        }
    }

    private func fill(_ count: Int) throws -> [Digest] {
        var digests: [Digest] = []
        try withCrashing(DiskTier(folder.path)) { tier in
            for number in 0..<count {
                digests.append(try tier.store(content(number)))
            }
        }
        return digests
    }

    /// Bug: each blob had a synced commit of its own, which took a million of them a quarter of an hour.
    @Test func blobsShareACommit() throws {
        let count = try fill(600).count
        do {
            let tier = try DiskTier(folder.path)
            #expect(try verified(tier) == 0)
            #expect(try tier.verifyAll().blobs == count)
            #expect(try verified(tier) == count)
            tier.close()
        }
        let after = try lastTransaction
        do {
            // What else a run commits.
            let tier = try DiskTier(folder.path)
            try tier.verifyAll()
            tier.close()
        }
        let others = try lastTransaction - after
        // The crash, and the run that verified.
        #expect(after - 600 < 100 + 2 * others, "\(after), \(others)")
    }

    @Test func whatIsVerifiedOneByOneIsNotedInTheEnd() throws {
        let digests = try fill(300)
        let tier = try DiskTier(folder.path)
        defer { tier.stop() }
        do {
            let verification = tier.verification()
            for digest in digests { #expect(try verification.verify(digest) == .verified) }
            #expect(try verified(tier) >= 256)
            #expect(try verification.verify(Digest(of: [1])) == .unknown)
        }
        #expect(try verified(tier) == 300)
    }

    @Test(arguments: [1, 300])
    func whatWasVerifiedBeforeTheEndStaysVerified(_ stop: Int) throws {
        _ = try fill(400)
        let tier = try DiskTier(folder.path)
        defer { tier.stop() }
        try tier.verifyAll { $0.blobs < stop }
        #expect(try verified(tier) == stop)
    }

    /// What went or came again before the note was written is not what was hashed.
    @Test func aNoteIsOfTheRecordThatWasHashed() throws {
        let digests = try fill(40)
        let (gone, replaced) = (digests[0..<8], stride(from: 8, to: 40, by: 8).map { $0 })
        try takeMoreBlocks(digests)
        let tier = try DiskTier(folder.path)
        defer { tier.stop() }
        tier.waitUntilSettled()
        try tier.verifyAll { progress in
            guard progress.blobs == 40 else { return true }
            for digest in gone { _ = try? tier.remove(digest) }
            for number in replaced {
                _ = try? tier.remove(digests[number])
                _ = try? tier.store(content(number))
            }
            return true
        }
        #expect(try verified(tier) == 32)
        #expect(try tier.inventoryTotals().fileBytes == folder.allocatedFileBytes())
        for digest in gone { #expect(try tier.size(of: digest) == nil) }
        for number in replaced { #expect(try tier.contents(digests[number]) == content(number)) }
    }

    /// Two who hash the same file at the same time count its blocks once.
    @Test func blocksCountOnceHoweverManyNoteThem() throws {
        let digests = try fill(40)
        try takeMoreBlocks(digests)
        let tier = try DiskTier(folder.path)
        defer { tier.stop() }
        tier.waitUntilSettled()
        try tier.verifyAll { progress in
            guard progress.blobs == 40 else { return true }
            for digest in digests { _ = try? tier.lookup(digest) }
            return true
        }
        #expect(try tier.inventoryTotals().fileBytes == folder.allocatedFileBytes())
        #expect(try verified(tier) == 40)
    }
}

extension TemporaryFolder {
    /// The blocks of a tier's blobs in files.
    fileprivate func allocatedFileBytes() throws -> Int64 {
        let files = LocalFileSystem()
        return try files.entries(of: path + "/blobs/sha256").reduce(0) { sum, folder in
            sum + (try Self.allocatedBytes(below: path + "/blobs/sha256/\(folder.name)"))
        }
    }
}
