import EdgeCache
import Glibc
import Hashing
import OCI
import ObjectStorage
import System
import TestDoubles
import Testing
import Threading

/// A repeatable sequence of numbers (SplitMix64).
struct Seeded: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

let mebibyte = 1 << 20

/// Parts of a mebibyte, few at once.
func smallParts(_ configuration: inout EdgeCache.Configuration) {
    configuration.fillPartBytes = Int64(mebibyte)
    configuration.fillPartsInFlight = 4
}

/// Content that differs everywhere, made fast.
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var random = Seeded(state: seed)
    var words = [UInt64](repeating: 0, count: count / 8 + 1)
    for index in words.indices { words[index] = random.next() }
    return words.withUnsafeBytes { Array($0.prefix(count)) }
}

extension MemoryStore {
    /// From this byte on of each object, the origin stands still until the gate opens.
    func hold(from offset: Int, at gate: Gate) {
        interceptPieces { _, place in if place >= offset { gate.pass() } }
    }

    /// From this byte on of each object, the origin is away.
    func fail(from offset: Int) {
        interceptPieces { call, place throws(StoreError) in if place >= offset { throw Self.unreachable(call) } }
    }
}

extension Edge {
    /// Some bytes of a blob, as a ranged request gets them.
    func read(_ digest: Digest, _ range: Range<Int>, step: Int = 100_000) throws -> [UInt8]? {
        guard let content = try cache.blob(digest, near: Int64(range.lowerBound)) else { return nil }
        return try bytes(range, of: content, step: step)
    }
}

func bytes(_ range: Range<Int>, of content: BlobContent, step: Int = 100_000) throws -> [UInt8] {
    guard case .stream(let stream, _) = content else {
        return Array(try contents(content, from: Int64(range.lowerBound)).prefix(range.count))
    }
    var bytes: [UInt8] = []
    while bytes.count < range.count {
        let wanted = min(step, range.count - bytes.count)
        bytes += try [UInt8](capacity: wanted) { (buffer: inout OutputSpan<UInt8>) throws(EdgeError) in
            try stream.read(at: Int64(range.lowerBound + bytes.count), into: &buffer)
        }
    }
    return bytes
}
