import DiskTier
import Hashing
import OCI
import System
import TestDoubles
import Testing

/// What is noted of a fill, and found by the next process.
@Suite struct FillNoteTests {
    private static let unit = FillNote.unitBytes
    private let folder = TemporaryFolder()
    private let digest = Digest(of: [1, 2, 3])

    private func open() throws -> DiskTier {
        try DiskTier(DiskTier.Configuration(directory: folder.path + "/cache", ceilingBytes: 64 << 20))
    }

    private func block(_ start: Int64, _ end: Int64, _ checksum: UInt64) -> FillNote.Block {
        FillNote.Block(range: start..<end, checksum: checksum)
    }

    private func note(_ blocks: [FillNote.Block], etag: String? = "\"e t a g\"") -> FillNote {
        FillNote(digest: digest, size: 8 * Self.unit, etag: etag, landed: blocks)
    }

    /// What a process that was killed leaves of a fill with these notes, one written after the other.
    private func ruin(_ notes: [FillNote]) throws -> TemporaryFolder {
        let tier = try open()
        let file = try tier.newFile(tier.reserve(8 * Self.unit))
        try file.watch.write(([1, 2, 3] as [UInt8]).span, at: 0)
        for note in notes { try file.note(note) }
        let copy = TemporaryFolder()
        try folder.copy(to: copy.path)
        withExtendedLifetime(file) { tier.close() }
        return copy
    }

    private func found(in folder: TemporaryFolder) throws -> FillNote? {
        let tier = try DiskTier(DiskTier.Configuration(directory: folder.path + "/cache", ceilingBytes: 64 << 20))
        defer { tier.close() }
        guard case .noted(let note)? = try tier.resumeFill(digest)?.knowledge else { return nil }
        return note
    }

    private func noteFile(_ folder: TemporaryFolder) throws -> File {
        let names = try LocalFileSystem().entries(of: folder.path + "/cache/incoming").map(\.name)
        let name = try #require(names.first { $0.hasSuffix(".parts") })
        return try LocalFileSystem().open(folder.path + "/cache/incoming/" + name, .readWrite)
    }

    @Test(arguments: ["\"e t a g\"", nil, "x", "xy", "xyz0123456789", String(repeating: "long", count: 50)])
    func whatWasNotedIsFound(_ etag: String?) throws {
        let unit = Self.unit
        let first = [block(4 * unit, 5 * unit, 7), block(0, unit, .max)]
        let second = [block(unit, unit + 100, 1), block(unit + 100, 2 * unit, 0)]
        let found = try found(in: ruin([note(first, etag: etag), note(second, etag: etag)]))
        #expect(found == note([first[1], second[0], second[1], first[0]], etag: etag))
    }

    /// Bug: sums of it overflowed, which ended the process at each request for that blob.
    @Test(arguments: [Int64.max, Int64.max - 1, Int64(1) << 62])
    func aNoteOfABlobThatCannotBeIsNone(_ size: Int64) throws {
        let note = FillNote(digest: digest, size: size, etag: nil, landed: [block(0, Self.unit, 1)])
        #expect(try found(in: ruin([note])) == nil)
    }

    @Test func theLaterNoteOfABlockCounts() throws {
        let unit = Self.unit
        let blocks = [
            block(0, unit, 1), block(unit, unit + 10, 2), block(unit + 10, 2 * unit, 3), block(0, unit, 4),
            block(unit, unit + 20, 5),
        ]
        #expect(try found(in: ruin([note(blocks)])) == note([blocks[3], blocks[4]]))
    }

    @Test func whatCannotBeABlockIsLeftOut() throws {
        let unit = Self.unit
        let good = block(2 * unit, 3 * unit, 9)
        let folder = try ruin([
            note([block(unit / 2, unit + 1, 1), block(7 * unit, 8 * unit + 1, 2), block(5, 5, 3), good])
        ])
        let (files, file) = (LocalFileSystem(), try noteFile(folder))
        let size = try files.status(of: file).size
        // A power cut left nothing of some records, and a part of the last.
        try files.write([UInt8](repeating: 0, count: 48).span, to: file, at: size)
        try files.write([UInt8](repeating: 255, count: 24).span, to: file, at: size + 48)
        try files.write([UInt8](repeating: 1, count: 13).span, to: file, at: size + 72)
        #expect(try found(in: folder) == note([good]))
    }

    @Test func aNoteOfAnotherVersionIsDroppedQuietly() throws {
        let folder = try ruin([note([block(0, 3, 1)])])
        let file = try noteFile(folder)
        let older = Array("digest \(digest)\nsize 100\npart 0 3 \(digest)\n\n".utf8)
        try LocalFileSystem().truncate(file, to: 0)
        try LocalFileSystem().write(older.span, to: file, at: 0)
        #expect(try found(in: folder) == nil)
        #expect(try LocalFileSystem().entries(of: folder.path + "/cache/incoming").isEmpty)
    }

    /// The next process adds to the note that it found.
    @Test func aNoteGoesOnAfterARestart() throws {
        let unit = Self.unit
        let folder = try ruin([note([block(0, unit, 1)])])
        let file = try noteFile(folder)
        try LocalFileSystem().write(([1, 2, 3] as [UInt8]).span, to: file, at: LocalFileSystem().status(of: file).size)
        let copy = TemporaryFolder()
        do {
            let tier = try DiskTier(DiskTier.Configuration(directory: folder.path + "/cache", ceilingBytes: 64 << 20))
            let left = try #require(try tier.resumeFill(digest))
            try left.file.note(note([block(unit, 2 * unit, 2)]))
            try folder.copy(to: copy.path)
            withExtendedLifetime(left) { tier.close() }
        }
        #expect(try found(in: copy) == note([block(0, unit, 1), block(unit, 2 * unit, 2)]))
    }

    /// What this process knows is handed back as it is, for as long as the file is there.
    @Test func whatIsLeftIsHandedBack() throws {
        let tier = try open()
        let stamp = tier.stamp()
        let file = try tier.newFile(tier.reserve(8 * Self.unit))
        try file.watch.write(([1, 2, 3] as [UInt8]).span, at: 0)
        try file.leave(digest, size: 8 * Self.unit, end: 3, knowing: { _ in "all of it" }, since: stamp)
        let left = try #require(try tier.resumeFill(digest))
        guard case .own(let knowledge as String) = left.knowledge else {
            Issue.record("nothing is known")
            return
        }
        #expect(knowledge == "all of it")
        #expect(try tier.resumeFill(digest) == nil)
        try left.file.leave(digest, size: 8 * Self.unit, end: 3, knowing: { _ in "again" }, since: stamp)
        try tier.remove(digest)
        #expect(try tier.resumeFill(digest) == nil)
        #expect(tier.statistics.reservedBytes == 0)
    }

    @Test func whatWasDeletedSinceIsNotLeft() throws {
        let tier = try open()
        let stamp = tier.stamp()
        let file = try tier.newFile(tier.reserve(8 * Self.unit))
        try tier.remove(digest)
        try file.leave(digest, size: 8 * Self.unit, end: 3, knowing: { _ in "all of it" }, since: stamp)
        #expect(try tier.resumeFill(digest) == nil)
    }
}
