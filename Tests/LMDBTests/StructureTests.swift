import LMDB
import System
import TestDoubles
import Testing
import Threading

/// LMDB follows its pages blindly: what is damaged has to be found before.
@Suite struct StructureTests {
    let folder = TemporaryFolder()
    let files = LocalFileSystem()
    private static let pageBytes: Int64 = 4096

    private var path: String { folder.path + "/data.mdb" }

    private func open() throws -> Environment {
        try Environment(
            path: folder.path,
            mapBytes: 64 << 20,
            tables: ["a", "b"],
            sealedBytes: ["b": 16],
            durability: .disposable
        )
    }

    /// Trees of some levels, values in pages of their own, and many free pages.
    private func fill(_ random: inout SeededRandom, transactions: Int = 40) throws {
        let environment = try open()
        let (a, b) = (environment.table("a"), environment.table("b"))
        for _ in 0..<transactions {
            var keys: [(key: [UInt8], length: Int)] = []
            for _ in 0..<60 {
                let key = (0..<Int.random(in: 1...60, using: &random)).map { _ in
                    UInt8.random(in: 0...9, using: &random)
                }
                let length = Bool.random(using: &random) ? 40 : Int.random(in: 0...9000, using: &random)
                keys.append((key, length))
            }
            try environment.write { transaction throws(LMDBError) in
                for (number, entry) in keys.enumerated() {
                    let table = number % 2 == 0 ? a : b
                    if number % 5 == 4 {
                        var victim: [UInt8]?
                        try transaction.forEach(table, from: entry.key) { key, _ in
                            victim = [UInt8](key)
                            return false
                        }
                        if let victim { try transaction.delete(table, victim) }
                    } else {
                        try transaction.put(table, entry.key, [UInt8](repeating: entry.key[0], count: entry.length))
                    }
                }
            }
        }
    }

    private func isWhole() throws -> Bool { try Environment.checkStructure(path: folder.path) }

    private func isDamaged() throws -> Bool {
        do {
            #expect(try isWhole())
            return false
        } catch let error as LMDBError {
            #expect(error.isDamage && error.description.contains("data.mdb"), "\(error)")
            return true
        }
    }

    @Test(arguments: [1, 2, 3, 4])
    func whatLMDBMadeIsWhole(_ seed: UInt64) throws {
        #expect(try isWhole(), "nothing is there yet")
        var random = SeededRandom(seed)
        for _ in 0..<3 {
            try fill(&random)
            #expect(try isWhole(), "seed \(seed)")
        }
    }

    @Test func aLookThatTakesTooLongIsLeft() throws {
        var random = SeededRandom(1)
        try fill(&random)
        #expect(try !Environment.checkStructure(path: folder.path, until: .after(.zero)))
    }

    enum Damage: CaseIterable {
        case zeros, noise, noisyHeader, anotherPage, aBitOfTheHeader, aNode, theEnd
    }

    /// What passes the look is read and written to with LMDB itself, which would end this process.
    @Test(arguments: Damage.allCases)
    func damageToAnyPageIsFoundOrHarmless(_ damage: Damage) throws {
        var random = SeededRandom(7)
        try fill(&random, transactions: 2)
        let file = try #require(try files.contents(at: path, .readOwn))
        // Behind its pages there is nothing yet.
        let last = try #require(file.lastIndex { $0 != 0 })
        let pages = last / Int(Self.pageBytes) + 1
        let whole = Array(file.prefix(pages * Int(Self.pageBytes)))
        var found = 0
        for page in 0..<pages {
            let start = page * Int(Self.pageBytes)
            var bytes = whole
            let noise = (0..<4096).map { _ in UInt8.random(in: 0...255, using: &random) }
            switch damage {
            case .zeros: bytes.replaceSubrange(start..<start + 4096, with: [UInt8](repeating: 0, count: 4096))
            case .noise: bytes.replaceSubrange(start..<start + 4096, with: noise)
            case .noisyHeader: bytes.replaceSubrange(start..<start + 16, with: noise[..<16])
            case .anotherPage:
                let other = (page + 1) % pages * Int(Self.pageBytes)
                bytes.replaceSubrange(start..<start + 4096, with: whole[other..<other + 4096])
            case .aBitOfTheHeader: bytes[start + Int(noise[0]) % 16] ^= 1 << (noise[1] % 8)
            case .aNode: for at in noise[..<3] { bytes[start + 16 + Int(at)] = noise[Int(at)] }
            case .theEnd: bytes.removeSubrange((start + 1 + Int(noise[0]))...)
            }
            try write(bytes)
            if try isDamaged() { found += 1 } else { try use() }
        }
        // Much of such an environment is values, which may be anything here.
        #expect(found > pages / 50, "\(found) of \(pages)")
        if damage == .theEnd { #expect(found == pages) }
    }

    private func write(_ bytes: [UInt8]) throws {
        try files.remove(path)
        try files.remove(folder.path + "/lock.mdb")
        try folder.write(bytes, to: "data.mdb")
    }

    private func use() throws {
        let environment = try open()
        let tables = [environment.table("a"), environment.table("b")]
        try environment.write { transaction throws(LMDBError) in
            for table in tables {
                var keys: [[UInt8]] = []
                try transaction.forEach(table) { key, _ in
                    keys.append([UInt8](key))
                    return true
                }
                for key in keys { try transaction.delete(table, key) }
                for key in keys { try transaction.put(table, key, [UInt8](repeating: 1, count: 3000)) }
            }
        }
    }

    // MARK: - Values

    private static let short = Array("what is sealed as a whole".utf8)
    private static let long =
        Array("what begins so, and proves itself further on: ".utf8) + [UInt8](repeating: 7, count: 100)

    /// - Parameters:
    ///   - table: of `b`, only the first 16 bytes are sealed.
    ///   - place: of a flipped bit.
    @Test(arguments: [
        ("a", short, 3, false), ("a", short, short.count + 2, false), ("b", long, 0, false), ("b", long, 60, true),
    ])
    func aValueIsNotTakenForAnother(_ table: String, _ value: [UInt8], _ place: Int, isFine: Bool) throws {
        do {
            let environment = try open()
            try environment.write { transaction throws(LMDBError) in
                try transaction.put(environment.table(table), [1], value)
                try transaction.put(environment.table(table), [2], [])
            }
            try environment.read { transaction throws(LMDBError) in
                try transaction.checkValues(environment.table(table))
            }
        }
        var bytes = try #require(try files.contents(at: path))
        let copies = bytes.indices.dropLast(value.count).filter { bytes[$0...].starts(with: value) }
        #expect(!copies.isEmpty)
        for copy in copies { bytes[copy + place] ^= 16 }
        try write(bytes)
        #expect(try isWhole(), "nothing is wrong with the pages")
        let environment = try open()
        let (damaged, key) = (environment.table(table), [1] as [UInt8])
        var (copied, borrowed, other, lengths) = ([UInt8]?.none, Bool?.none, [UInt8]?.none, [Int]())
        try environment.read { transaction throws(LMDBError) in
            copied = try transaction.get(damaged, key)
            borrowed = try transaction.withValue(damaged, key.span) { _ in true }
            other = try transaction.get(damaged, [2])
            try transaction.forEach(damaged) { _, value in
                lengths.append(value.count)
                return true
            }
        }
        #expect((copied != nil) == isFine && (borrowed == true) == isFine)
        #expect(other == [])
        #expect(lengths == [isFine ? value.count : 0, 0])
        var problem: LMDBError?
        do throws(LMDBError) {
            try environment.read { transaction throws(LMDBError) in try transaction.checkValues(damaged) }
        } catch {
            problem = error
        }
        #expect((problem?.isDamage ?? false) == !isFine)
        #expect(environment.hasMetDamage == !isFine)
    }
}
