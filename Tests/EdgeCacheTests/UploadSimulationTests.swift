import DiskTier
import EdgeCache
import Hashing
import OCI
import ObjectStorage
import Registry
import System
import TestDoubles
import Testing
import Threading

/// Clients that upload as no client should, over an origin that fails now and then and forgets, on a disk that may be full, with kills.
@Suite struct UploadSimulationTests {
    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func nothingAcknowledgedIsLostAndNothingWrongIsSeen(_ seed: UInt64) throws {
        let run = try UploadRun(seed)
        for step in 0..<60 { try run.act("seed \(seed), step \(step)") }
        try run.conclude("seed \(seed)")
    }

    /// They share their sessions, and go on from wherever another has come to.
    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func severalClientsShareTheirSessions(_ seed: UInt64) throws {
        let run = try UploadRun(seed)
        let ids = try (0..<2).map { _ in try run.edge.cache.beginUpload(library).id }
        let cache = Shared(run.edge)
        let done = Monitor(0)
        for number in 0..<4 as Range<UInt64> {
            spawnThread(name: "client") {
                var random = SeededRandom(seed * 100 + number)
                for _ in 0..<60 { cache.act(ids[Int.random(in: 0..<2, using: &random)], &random) }
                done.update { $0 += 1 }
            }
        }
        _ = done.wait { $0 == 4 ? true : nil }
        run.calm()
        for id in ids where (try? run.edge.cache.uploadStatus(library, id)) != nil {
            let size = Int(try run.edge.cache.uploadStatus(library, id).offset)
            try put(run.edge, id, size..<size, as: Digest(of: Array(content[..<size])))
            #expect(try run.edge.read(Digest(of: Array(content[..<size]))) == Array(content[..<size]), "seed \(seed)")
        }
        try run.conclude("seed \(seed)")
    }
}

/// What all clients send, from its start on.
private let content = noise(900_000, seed: 5)

private func put(_ edge: Edge, _ id: String, _ range: Range<Int>, as digest: Digest) throws {
    let chunk = try edge.cache.openChunk(library, id, length: Int64(range.count), closing: digest)
    append(range, to: chunk)
    try chunk.finish(as: digest)
}

private func append(_ range: Range<Int>, to chunk: UploadChunk) {
    for start in stride(from: range.lowerBound, to: range.upperBound, by: 30_000) {
        chunk.append(Array(content[start..<min(start + 30_000, range.upperBound)]).span)
    }
}

/// Sendable because a cache is for many threads.
private final class Shared: @unchecked Sendable {
    private let edge: Edge

    init(_ edge: Edge) { self.edge = edge }

    func act(_ id: String, _ random: inout SeededRandom) {
        // Another client may have been faster, or the origin fails: told, and no more.
        guard let start = try? Int(edge.cache.uploadStatus(library, id).offset) else { return }
        let end = min(content.count, start + Int.random(in: 0...150_000, using: &random))
        switch Int.random(in: 0..<10, using: &random) {
        case 0:
            try? put(edge, id, start..<start, as: Digest(of: [UInt8(start % 256)]))
        case 1 where end == content.count:
            try? put(edge, id, start..<end, as: Digest(of: content))
        case 2:
            guard let chunk = try? edge.cache.openChunk(library, id) else { return }
            append(start..<end, to: chunk)
            chunk.abandon()
        default:
            let range = ContentRange("\(start)-\(end - 1)")
            let length = Int64(end - start)
            guard end > start, let chunk = try? edge.cache.openChunk(library, id, range: range, length: length) else {
                return
            }
            append(start..<end, to: chunk)
            _ = try? chunk.keep()
        }
    }
}

/// One client after the other, with what it knows.
private final class UploadRun {
    private static let algorithms = DigestAlgorithm.allCases

    private(set) var edge: Edge
    private var random: SeededRandom
    private let isTight: Bool
    /// Sessions that go past the disk: what the origin loses of them is lost.
    private var fragile: Set<String> = []
    private let adjust: (inout EdgeCache.Configuration) -> Void
    private let faults: Monitor<(random: SeededRandom, areOn: Bool)>
    /// Blobs at the origin that proved right.
    private var verified: Set<String> = []
    /// How many bytes of each session were acknowledged, of ``content``.
    private var sessions: [String: Int] = [:]

    init(_ seed: UInt64) throws {
        var random = SeededRandom(seed)
        let movesCheaply = Bool.random(using: &random)
        let sendsUnnamed: Bool? = [nil, false, true][Int.random(in: 0..<3, using: &random)]
        isTight = seed.isMultiple(of: 3)
        adjust = { $0.sendsUnnamedParts = sendsUnnamed }
        let store = MemoryStore(
            multipart: MultipartTraits(
                thresholdBytes: 128 << 10,
                partBytes: 64 << 10,
                partsInFlight: 3,
                movesCheaply: movesCheaply
            )
        )
        edge = try Edge(store: store, ceilingBytes: isTight ? 900_000 : 256 << 20, adjust)
        self.random = random
        faults = Monitor((SeededRandom(seed + 1_000), true))
        store.intercept { [faults] _, call throws(StoreError) in
            let (fails, waits) = faults.withLock { faults in
                let draw = faults.areOn ? Int.random(in: 0..<40, using: &faults.random) : 99
                return (draw == 0, draw < 4)
            }
            if fails { throw MemoryStore.unreachable(call) }
            if waits { pauseThread(.milliseconds(1)) }
        }
    }

    func calm() { faults.update { $0.areOn = false } }

    func act(_ place: String) throws {
        guard let id = sessions.keys.sorted().randomElement(using: &random), sessions.count > 1 || draw(4) > 0 else {
            sessions[try edge.cache.beginUpload(library, algorithm: algorithm()).id] = 0
            return
        }
        let start = sessions[id] ?? 0
        let end = min(content.count, start + [0, 1, 70_000, 300_000][draw(4)])
        switch draw(16) {
        case 0: try edge.cache.cancelUpload(library, id); sessions[id] = nil
        case 1: edge = try edge.killed(ceilingBytes: isTight ? 900_000 : 256 << 20, adjust)
        case 2: try forget()
        case 3: try refuse(id, start, end)
        case 4, 5, 6: close(id, start..<end, as: Digest(of: Array(content[..<end]), algorithm()))
        case 7, 8: close(id, start..<end, as: Digest(of: [1, 2, 3], algorithm()))
        case 9: abandon(id, start..<end)
        case 10: pushWhole(end)
        case 11: _ = try? edge.cache.deleteBlob(Digest(of: Array(content[..<end])))
        default: patch(id, start..<end)
        }
        try look(place)
    }

    private func draw(_ count: Int) -> Int { Int.random(in: 0..<count, using: &random) }
    private func algorithm() -> DigestAlgorithm { Self.algorithms[draw(8) == 0 ? 1 : 0] }

    /// Somebody else's rules end uploads at the origin.
    private func forget() throws {
        for upload in edge.store.uploads where draw(2) == 0 { try? edge.store.abortUpload(upload) }
    }

    /// A chunk that is not where it should be, or not as long as it says.
    private func refuse(_ id: String, _ start: Int, _ end: Int) throws {
        fragile.insert(id)
        for range in ["\(start + 1)-\(end + 1)", "\(start)-\(Int64.max - 1)", "\(start)-\(start + 5_000_000)"] {
            // Refused at once, or at its end.
            guard let chunk = try? edge.cache.openChunk(library, id, range: ContentRange(range)) else { continue }
            append(start..<end, to: chunk)
            #expect(throws: EdgeError.self) { try chunk.keep() }
        }
    }

    private func patch(_ id: String, _ range: Range<Int>) {
        guard let chunk = try? edge.cache.openChunk(library, id, length: draw(2) == 0 ? Int64(range.count) : nil) else {
            return
        }
        append(range, to: chunk)
        if (try? chunk.keep()) != nil { sessions[id] = range.upperBound }
    }

    private func abandon(_ id: String, _ range: Range<Int>) {
        guard let chunk = try? edge.cache.openChunk(library, id) else { return }
        append(range, to: chunk)
        chunk.abandon()
    }

    private func close(_ id: String, _ range: Range<Int>, as digest: Digest) {
        do {
            try put(edge, id, range, as: digest)
            sessions[id] = nil
            #expect(digest == Digest(of: Array(content[..<range.upperBound]), digest.algorithm))
        } catch {
            // When only the origin failed, the bytes stay.
            let offset = (try? edge.cache.uploadStatus(library, id)).map { Int($0.offset) }
            if case .origin? = error as? EdgeError, offset == range.upperBound { sessions[id] = range.upperBound }
        }
    }

    private func pushWhole(_ size: Int) {
        let bytes = Array(content[..<size])
        let digest = Digest(of: draw(3) == 0 ? [9] : bytes)
        guard let chunk = try? edge.cache.openBlob(library, as: digest, length: draw(2) == 0 ? Int64(size) : nil) else {
            return
        }
        append(0..<size, to: chunk)
        try? chunk.finish(as: digest)
    }

    private func look(_ place: String) throws {
        for (id, size) in sessions {
            guard let status = try? edge.cache.uploadStatus(library, id) else {
                // What the disk had no room for is nowhere, once its origin has lost it.
                #expect(isTight || fragile.contains(id), "\(place): a session is lost")
                sessions[id] = nil
                continue
            }
            #expect(status.offset == size, "\(place)")
        }
        for key in edge.store.keys where key.hasPrefix("epoch/blobs/") && verified.insert(key).inserted {
            let hex = key.split(separator: "/").last.map(String.init) ?? ""
            let algorithm = key.contains("sha512") ? DigestAlgorithm.sha512 : .sha256
            #expect(Digest(of: edge.store[key] ?? [], algorithm).hex == hex, "\(place)")
        }
        let before = edge.tier.statistics.usedBytes
        let allocated = try edge.folder.allocatedBytes()
        let statistics = edge.tier.statistics
        #expect(allocated <= max(before, statistics.usedBytes), "\(place)")
        #expect(statistics.usedBytes <= statistics.ceilingBytes, "\(place)")
    }

    /// In good weather all that was acknowledged is finished by a PUT alone, and nothing stays behind.
    func conclude(_ place: String) throws {
        calm()
        for (id, size) in sessions {
            let bytes = Array(content[..<size])
            do {
                // What the origin has forgotten is found out by a first one.
                if (try? put(edge, id, size..<size, as: Digest(of: bytes))) == nil {
                    try put(edge, id, size..<size, as: Digest(of: bytes))
                }
                sessions[id] = nil
                #expect(try edge.read(Digest(of: bytes)) == bytes, "\(place)")
            } catch {
                #expect(isTight || fragile.contains(id), "\(place): \(error)")
            }
        }
        try look(place)
        let later = WallTime(seconds: SystemTime().wallTime().seconds + 60)
        _ = try edge.registry.removeAbandonedUploads(before: later, except: [])
        #expect(edge.store.uploads == [] && edge.store.keys.allSatisfy { $0.hasPrefix("epoch/blobs/") }, "\(place)")
        for id in sessions.keys { try? edge.cache.cancelUpload(library, id) }
        edge.cache.waitForFills()
        // A thread of the pool may be about to let the last file go.
        let deadline = Deadline.after(.seconds(20))
        while edge.tier.statistics.reservedBytes != 0, !deadline.hasPassed { pauseThread(.milliseconds(1)) }
        #expect(edge.tier.statistics.reservedBytes == 0, "\(place)")
    }
}
