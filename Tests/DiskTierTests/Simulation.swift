import DiskTier
import Glibc
import Hashing
import OCI
import System
import TestDoubles
import Testing

/// A tier that lives through fills, deletes, evictions, damage, failing calls, kills and power cuts, drawn from a seed, beside a model that
/// knows what may be answered.
final class Simulation {
    private struct Content {
        let bytes: [UInt8]
        let digest: Digest
        /// The last that was acknowledged for it was a delete.
        var isDeleted = false
    }

    private struct OpenFill {
        let content: Int
        let stamp: DiskTier.Stamp
        let file: IncomingFile
        var isDeletedSince = false
    }

    enum End: CaseIterable {
        case close, kill, powerCut
    }

    private static let ceilingBytes: Int64 = 3 << 20
    private static let sizes = [100, 5000, 16 << 10, 20_000, 70_000, 200_000, 450_000]

    private let folder = TemporaryFolder()
    private let shadow = TemporaryFolder()
    private let faults = FaultyFileSystem()
    private let disk: PowerCutFileSystem
    private let files = LocalFileSystem()
    private var random: SeededRandom
    private var contents: [Content]
    private var tier: DiskTier?
    private var fills: [OpenFill] = []
    private var resurrected: Int?
    private var log: [String] = []
    private let seed: UInt64

    struct Violation: Error, CustomStringConvertible {
        let description: String
    }

    init(seed: UInt64) throws {
        self.seed = seed
        random = SeededRandom(seed)
        disk = PowerCutFileSystem(faults, shadow: shadow.path)
        contents = (0..<24).map { number in
            let bytes = pattern(Self.sizes[number % Self.sizes.count] + number, seed: number)
            return Content(bytes: bytes, digest: Digest(of: bytes, number % 5 == 4 ? .sha512 : .sha256))
        }
        try open()
    }

    deinit { tier?.close() }

    func run(steps: Int) throws {
        for _ in 0..<steps {
            try step()
            try checkInvariants()
        }
        try restart(.close)
        try checkInvariants()
    }

    // MARK: - Steps

    private func step() throws {
        // Now and then a call fails in the middle of whatever comes.
        let isFaulty = draw(12) == 0
        if isFaulty { faults.failCall(1 + draw(12), code: [EIO, ENOSPC, EROFS][draw(3)]) }
        defer { if isFaulty { faults.failCall(.max) } }
        switch draw(100) {
        case ..<25: store(draw(contents.count))
        case ..<35: beginFill(draw(contents.count))
        case ..<48: if !fills.isEmpty { endFill(draw(fills.count)) }
        case ..<73: try look(draw(contents.count), mayFail: isFaulty)
        case ..<83: delete(draw(contents.count))
        case ..<89: try damage(draw(contents.count))
        case ..<92: verify()
        default:
            // Opening is another test's.
            faults.failCall(.max)
            try restart(End.allCases[draw(3)])
        }
    }

    private func store(_ number: Int) {
        say("store \(number)")
        guard let tier else { return }
        let (content, stamp) = (contents[number], tier.stamp())
        do throws(DiskTierError) {
            if content.bytes.count <= tier.inlineLimitBytes {
                if try tier.insertInline(content.digest, content.bytes, since: stamp) { acknowledge(number) }
                return
            }
            let file = try tier.newFile(tier.reserve(Int64(content.bytes.count)))
            try write(content.bytes, to: file)
            if try file.commit(as: content.digest, size: Int64(content.bytes.count), since: stamp) {
                acknowledge(number)
            }
        } catch {
            say("  \(error)")
        }
    }

    private func write(_ bytes: [UInt8], to file: IncomingFile) throws(DiskTierError) {
        do throws(FileError) {
            try file.watch.change { () throws(FileError) in try disk.allocate(file.file, size: Int64(bytes.count)) }
            try file.watch.write(bytes.span, at: 0)
        } catch {
            throw .file(error)
        }
    }

    private func beginFill(_ number: Int) {
        guard let tier, fills.count < 4, contents[number].bytes.count > tier.inlineLimitBytes else { return }
        say("begin a fill of \(number)")
        do throws(DiskTierError) {
            let file = try tier.newFile(tier.reserve(Int64(contents[number].bytes.count)))
            fills.append(OpenFill(content: number, stamp: tier.stamp(), file: file))
        } catch {
            say("  \(error)")
        }
    }

    private func endFill(_ place: Int) {
        let fill = fills.remove(at: place)
        let content = contents[fill.content]
        say("end the fill of \(fill.content)")
        do throws(DiskTierError) {
            if draw(4) == 0 { return }
            try write(content.bytes, to: fill.file)
            let isKept = try fill.file.commit(as: content.digest, size: Int64(content.bytes.count), since: fill.stamp)
            if isKept, fill.isDeletedSince { resurrected = fill.content }
            if isKept { acknowledge(fill.content) }
        } catch {
            say("  \(error)")
        }
    }

    private func look(_ number: Int, mayFail: Bool) throws {
        say("look at \(number)")
        do {
            guard let bytes = try tier?.contents(contents[number].digest, files: disk) else { return }
            try expect(bytes == contents[number].bytes, "wrong bytes of \(number)")
            try expect(!contents[number].isDeleted, "\(number) came back")
        } catch let error as Violation {
            throw error
        } catch {
            say("  \(error)")
            if !mayFail { throw error }
        }
    }

    private func delete(_ number: Int) {
        say("delete \(number)")
        do throws(DiskTierError) {
            for place in fills.indices where fills[place].content == number { fills[place].isDeletedSince = true }
            try tier?.remove(contents[number].digest)
            contents[number].isDeleted = true
        } catch {
            say("  \(error)")
        }
    }

    /// Behind the tier's back.
    private func damage(_ number: Int) throws {
        let path = path(folder, contents[number].digest)
        guard let status = try files.status(at: path) else { return }
        say("damage \(number)")
        let file = try files.open(path, .readWrite)
        switch draw(4) {
        case 0: try files.truncate(file, to: Int64(draw(Int(status.size))))
        case 1: try files.remove(path)
        case 2: try files.truncate(file, to: status.size + 1)
        default: try files.write([~contents[number].bytes[50]].span, to: file, at: 50)
        }
    }

    private func verify() {
        say("verify")
        do throws(DiskTierError) {
            try tier?.verifyAll()
        } catch {
            say("  \(error)")
        }
    }

    private func acknowledge(_ number: Int) { contents[number].isDeleted = false }

    // MARK: - Restarts

    private func restart(_ end: End) throws {
        say("restart by \(end)")
        // What may be lost is not yet acknowledged: a fill that is under way.
        fills = []
        let evicted = tier?.statistics.evictedBlobs
        let present = try contents.indices.filter { number in
            try tier?.contents(contents[number].digest, files: files) == contents[number].bytes
        }
        if end == .close { tier?.close() } else { tier?.stop() }
        // In the background, between the look and the end.
        let hasEvicted = tier?.statistics.evictedBlobs != evicted
        tier = nil
        if end == .powerCut { try disk.cutPower(&random) }
        try open()
        tier?.waitUntilSettled()
        try expect(tier?.statistics.wasUnclean == (end != .close), "a stop by \(end) was taken for another")
        for number in present {
            let bytes = try tier?.contents(contents[number].digest, files: files)
            if bytes == nil, hasEvicted || tier?.statistics.evictedBlobs != 0 { continue }
            try expect(bytes == contents[number].bytes, "\(number) was there before the \(end)")
        }
    }

    private func open() throws {
        tier = try DiskTier(
            DiskTier.Configuration(directory: folder.path, ceilingBytes: Self.ceilingBytes),
            fileSystem: disk
        )
        tier?.waitUntilSettled()
    }

    // MARK: - Invariants

    private func checkInvariants() throws {
        guard let statistics = tier?.statistics else { return }
        try expect(resurrected == nil, "a fill from before a delete brought \(resurrected ?? 0) back")
        let allocated = try folder.allocatedBytes()
        try expect(statistics.usedBytes <= Self.ceilingBytes, "the books pass the ceiling")
        try expect(allocated <= Self.ceilingBytes, "\(allocated) bytes on the disk pass the ceiling")
        try expect(allocated <= statistics.usedBytes, "the books say less than there is: \(allocated), \(statistics)")
        if fills.isEmpty { try expect(statistics.reservedBytes == 0, "reservations leak") }
        let number = draw(contents.count)
        let bytes = try tier?.contents(contents[number].digest, files: files)
        try expect(bytes == nil || bytes == contents[number].bytes, "wrong bytes of \(number)")
        try expect(bytes == nil || !contents[number].isDeleted, "\(number) came back")
    }

    private func expect(_ holds: Bool, _ what: @autoclosure () -> String) throws {
        guard !holds else { return }
        let story = log.suffix(30).joined(separator: "\n")
        throw Violation(description: "FOREBAY_TEST_SEED=\(seed): \(what()), after\n\(story)")
    }

    private func draw(_ limit: Int) -> Int { Int.random(in: 0..<limit, using: &random) }
    private func say(_ text: String) { log.append(text) }
}

@Suite struct SimulationTests {
    /// `FOREBAY_TEST_SEED` repeats one seed, `FOREBAY_TEST_SEEDS` runs so many from there.
    static var seeds: [UInt64] {
        let environment = processEnvironment()
        let first = environment["FOREBAY_TEST_SEED"].flatMap(UInt64.init)
        let count = environment["FOREBAY_TEST_SEEDS"].flatMap(UInt64.init) ?? (first == nil ? 6 : 1)
        return Array((first ?? 1)..<(first ?? 1) + count)
    }

    @Test(arguments: seeds)
    func nothingWrongIsEverServed(seed: UInt64) throws {
        try Simulation(seed: seed).run(steps: 200)
    }
}
