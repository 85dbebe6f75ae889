import ObjectStorage
import Synchronization
import Testing
import Threading

let concurrencyCases = [
    ConformanceCase("of writers that want to be first, one is") { test in
        guard test.hasConditions else { return }
        try test.store.probe(at: test.key("probe"))
        let winners = try concurrently(8) { index in
            try test.put("a", "writer \(index)", .ifAbsent) == .conditionFailed ? nil : index
        }
        #expect(winners.count == 1)
        #expect(try test.bytes("a") == Array("writer \(winners.first ?? -1)".utf8))
    },
    ConformanceCase("compare and swap loses no update") { test in
        guard test.hasConditions else { return }
        try test.store.probe(at: test.key("probe"))
        try test.put("counter", "0")
        let swaps = try concurrently(6) { _ in
            var done = 0
            for _ in 0..<8 where try increment(test) { done += 1 }
            return done
        }
        let total = swaps.reduce(0, +)
        #expect(total >= 1)
        #expect(try test.bytes("counter").map { String(decoding: $0, as: UTF8.self) } == "\(total)")
    },
    ConformanceCase("a reader sees one version of an object") { test in
        let versions = (0..<4).map { [UInt8](repeating: UInt8($0), count: 200_000 + $0 * 10_000) }
        try test.store.put(test.key("a"), .bytes(versions[0]))
        _ = try concurrently(4) { index in
            for round in 0..<12 {
                if index < 2 {
                    try test.store.put(test.key("a"), .bytes(versions[(round + index) % 4]))
                } else {
                    let bytes = try #require(try test.bytes("a"))
                    #expect(versions.contains(bytes))
                }
            }
            return index
        }
    },
    ConformanceCase("writers and deleters of one directory do not disturb each other") { test in
        _ = try concurrently(4) { index in
            for round in 0..<25 {
                try test.put("d/e/f\(index)", "\(round)")
                #expect(try test.bytes("d/e/f\(index)") == Array("\(round)".utf8))
                try test.store.delete(test.key("d/e/f\(index)"))
            }
            return index
        }
        #expect(try allKeys(test) == [])
    },
]

/// True when this thread's increment went through. An answer other than yes or no counts as not known, and is settled by looking.
private func increment(_ test: TestStore) throws -> Bool {
    let key = try test.key("counter")
    guard let (info, bytes) = try test.store.contents(of: key, limitBytes: 100), let etag = info.etag,
        let value = Int(String(decoding: bytes, as: UTF8.self))
    else { return false }
    return try test.put("counter", "\(value + 1)", .ifMatch(etag)) != .conditionFailed
}

/// Runs `body` on as many threads and returns what they make; rethrows the first error.
func concurrently<Value: Sendable>(
    _ count: Int,
    _ body: @escaping @Sendable (Int) throws -> Value?
) throws -> [Value] {
    let results = Monitor<[Result<Value?, any Error>]>([])
    for index in 0..<count {
        spawnThread(name: "test-\(index)") {
            let result = Result { try body(index) }
            results.update { $0.append(result) }
        }
    }
    let all = results.wait { $0.count == count ? $0 : nil } ?? []
    return try all.compactMap { try $0.get() }
}
