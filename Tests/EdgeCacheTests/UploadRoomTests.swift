import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import Registry
import System
import TestDoubles
import Testing

/// What upload sessions keep on the disk is reserved first, whatever it is; where there is no room they end with the process.
@Suite struct UploadRoomTests {
    private static let content = pattern(700_000)

    private func store() -> MemoryStore {
        MemoryStore(
            multipart: MultipartTraits(
                thresholdBytes: 128 << 10,
                partBytes: 64 << 10,
                partsInFlight: 3,
                movesCheaply: false
            )
        )
    }

    /// A tier in which a part has room, and no file of unknown length.
    private func tightEdge(_ adjust: (inout EdgeCache.Configuration) -> Void = { _ in }) throws -> Edge {
        try Edge(store: store(), ceilingBytes: 1_200_000, adjust)
    }

    private func patch(_ edge: Edge, _ id: String, _ range: Range<Int>, length: Int64? = nil) throws {
        let chunk = try edge.cache.openChunk(library, id, length: length)
        for start in stride(from: range.lowerBound, to: range.upperBound, by: 10_000) {
            chunk.append(Array(Self.content[start..<min(start + 10_000, range.upperBound)]).span)
        }
        _ = try chunk.keep()
    }

    private func close(_ edge: Edge, _ id: String, from start: Int, to end: Int = 700_000) throws {
        let digest = Digest(of: Array(Self.content[..<end]))
        let chunk = try edge.cache.openChunk(library, id, length: Int64(end - start), closing: digest)
        chunk.append(Array(Self.content[start..<end]).span)
        try chunk.finish(as: digest)
        #expect(try edge.registry.blobSize(digest) == Int64(end))
    }

    /// Takes all the room that there is.
    private func fill(_ tier: DiskTier) -> Reservation {
        let room = tier.newReservation()
        for step: Int64 in [64 << 10, 4 << 10] {
            while (try? room.grow(by: step)) != nil {}
        }
        return room
    }

    /// Sessions in memory, in files and past the disk, over kills: before each call the books have what `du` says.
    @Test func whatIsOnDiskIsInTheBooks() throws {
        var (folder, sessions) = (TemporaryFolder(), [String: Int]())
        let (time, store) = (ManualTime(), store())
        for _ in 0..<4 {
            let files = FaultyFileSystem()
            let edge = try Edge(store: store, folder: folder, time: time, ceilingBytes: 2_500_000, fileSystem: files)
            let (tier, path) = (edge.tier, edge.tier.uploadDirectory)
            tier.waitUntilSettled()
            files.beforeCalls { operation, name in
                let before = tier.statistics.reservedBytes
                let bytes = (try? TemporaryFolder.allocatedBytes(below: path)) ?? .max
                let after = tier.statistics
                #expect(bytes <= max(before, after.reservedBytes), "before \(operation) of \(name)")
                #expect(after.usedBytes <= after.ceilingBytes)
            }
            for size in [10_000, 16_000, 90_000, 250_000, 700_000] {
                // One of them announces what it sends.
                guard let id = try? edge.cache.beginUpload(library).id else { continue }
                let length = size == 90_000 ? Int64(size) : nil
                sessions[id] = (try? patch(edge, id, 0..<size, length: length)) == nil ? 0 : size
            }
            files.beforeCalls { _, _ in }
            let copy = TemporaryFolder()
            try folder.copy(to: copy.path)
            folder = copy
        }
        let edge = try Edge(store: store, folder: folder, time: time, ceilingBytes: 2_500_000)
        var survivors = 0
        for (id, size) in sessions {
            guard let status = try? edge.cache.uploadStatus(library, id) else { continue }
            survivors += 1
            #expect(status.offset == size)
            try close(edge, id, from: size, to: size)
        }
        #expect(survivors >= 8, "all that are small, at least")
        #expect(edge.tier.statistics.reservedBytes == 0)
    }

    /// Bug: 500 sessions in memory took seven times the ceiling, and the books knew of none.
    @Test func manySmallSessionsHaveARecordAsLongAsThereIsRoom() throws {
        let edge = try tightEdge()
        let ids = try (0..<80).map { _ in
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<16_000)
            return id
        }
        #expect(try edge.folder.allocatedBytes() <= edge.tier.statistics.usedBytes)
        #expect(edge.tier.statistics.usedBytes <= 1_200_000)
        let later = try edge.killed(ceilingBytes: 1_200_000)
        let known = ids.filter { (try? later.cache.uploadStatus(library, $0)) != nil }
        #expect(known.count >= 8 && known.count < 80, "\(known.count)")
        for id in known { try close(later, id, from: 16_000, to: 20_000) }
        #expect(later.tier.statistics.reservedBytes == 0)
        // Those that were not written down go on as well, here.
        for id in ids { try close(edge, id, from: 16_000, to: 20_000) }
        #expect(edge.tier.statistics.reservedBytes == 0)
    }

    /// Bug: its last part was written without room. What was written before it would be a blob with a hole.
    @Test func aSessionWithoutRoomForItsRecordEndsWithTheProcess() throws {
        let edge = try tightEdge()
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<10_000)
        let early = try edge.killed(ceilingBytes: 1_200_000)
        #expect(try early.cache.uploadStatus(library, id).offset == 10_000)
        let rest = fill(edge.tier)
        try patch(edge, id, 10_000..<600_000)
        #expect(try edge.folder.allocatedBytes() <= edge.tier.statistics.usedBytes)
        for ceiling: Int64 in [1_200_000, 256 << 20] {
            let later = try edge.killed(ceilingBytes: ceiling)
            #expect(throws: EdgeError.self) { try later.cache.uploadStatus(library, id) }
        }
        // Also once there is room: nobody evicts for it at every chunk.
        rest.release()
        try patch(edge, id, 600_000..<650_000)
        let later = try edge.killed()
        #expect(throws: EdgeError.self) { try later.cache.uploadStatus(library, id) }
        try close(edge, id, from: 650_000)
        #expect(edge.tier.statistics.reservedBytes == 0)
    }

    /// Bug: each restart let in as many more as may go past the disk at once, while the ones before still had their parts.
    @Test func aSessionPastTheDiskKeepsItsPlaceOverRestarts() throws {
        let first = try tightEdge { $0.passingUploadLimit = 1 }
        let id = try first.cache.beginUpload(library).id
        try patch(first, id, 0..<400_000)
        let edge = try first.killed(ceilingBytes: 1_200_000) { $0.passingUploadLimit = 1 }
        let other = try edge.cache.beginUpload(library).id
        let error = #expect(throws: EdgeError.self) { try patch(edge, other, 0..<400_000) }
        guard case .tier(let reason)? = error, reason.isNoSpace else {
            Issue.record("\(String(describing: error))")
            return
        }
        try close(edge, id, from: 400_000)
        try patch(edge, other, 0..<400_000)
        // With none allowed, it is told at once.
        let closed = try edge.killed(ceilingBytes: 1_200_000) { $0.passingUploadLimit = 0 }
        #expect(throws: EdgeError.self) { try closed.cache.uploadStatus(library, other) }
        #expect(closed.tier.statistics.reservedBytes == 0)
    }

    /// Bug: a few pushes that were given up kept all others from a node with a full disk, for a day.
    @Test func anAbandonedSessionPastTheDiskMakesWay() throws {
        let edge = try tightEdge { $0.passingUploadLimit = 2 }
        let ids = try (0..<2).map { _ in
            edge.time.advance(.seconds(10))
            let id = try edge.cache.beginUpload(library).id
            try patch(edge, id, 0..<400_000)
            return id
        }
        edge.time.advance(.seconds(49))
        let other = try edge.cache.beginUpload(library).id
        #expect(throws: EdgeError.self) { try patch(edge, other, 0..<400_000) }
        edge.time.advance(.seconds(1))
        try patch(edge, other, 0..<400_000)
        #expect(throws: EdgeError.self, "unused for longest") { try edge.cache.uploadStatus(library, ids[0]) }
        try close(edge, ids[1], from: 400_000)
        try close(edge, other, from: 400_000)
        #expect(edge.tier.statistics.reservedBytes == 0)
        #expect(edge.store.uploads == [])
    }

    /// Bug: twenty pushes that were given up evicted everything, and kept all of the cache for a day.
    @Test func abandonedSessionsLeaveTheCacheItsHalf() throws {
        let edge = try Edge(store: store(), ceilingBytes: 16 << 20) { $0.passingUploadLimit = 2 }
        let hot = (0..<12).map { edge.seed(pattern(500_000, seed: 1000 + $0)) }
        for digest in hot + hot { _ = try edge.read(digest) }
        edge.cache.waitForFills()
        var refused = 0
        for _ in 0..<40 {
            let id = try edge.cache.beginUpload(library).id
            do { try patch(edge, id, 0..<600_000, length: 600_000) } catch { refused += 1 }
            #expect(edge.tier.statistics.uploadBytes <= 9 << 20, "with the records")
        }
        #expect(refused > 10, "past the disk, as many as may")
        let asked = edge.store.calls("GET")
        for digest in hot { _ = try edge.read(digest) }
        #expect(edge.store.calls("GET") == asked, "all of them are here")
        // A push goes past the disk as soon as one of those was not used for a minute.
        edge.time.advance(.seconds(61))
        let id = try edge.cache.beginUpload(library).id
        try patch(edge, id, 0..<600_000, length: 600_000)
        try close(edge, id, from: 600_000)
    }

    @Test func aRefusedSessionLeavesNothing() throws {
        let edge = try Edge { $0.uploadSessionLimit = 1 }
        let id = try edge.cache.beginUpload(library).id
        let reserved = edge.tier.statistics.reservedBytes
        #expect(throws: EdgeError.self) { try edge.cache.beginUpload(library) }
        #expect(edge.tier.statistics.reservedBytes == reserved && reserved > 0)
        try edge.cache.cancelUpload(library, id)
        #expect(edge.tier.statistics.reservedBytes == 0)
    }
}
