internal import Glibc

/// A generator that gives the same numbers for the same seed everywhere (SplitMix64).
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) {
        state = seed
        state = next()
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        return mixed(state)
    }

    mutating func fraction() -> Double { Double(next() >> 11) / Double(1 << 53) }

    mutating func below(_ count: Int) -> Int { Int(fraction() * Double(count)) }
}

func mixed(_ number: UInt64) -> UInt64 {
    var word = number
    word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
    return word ^ word >> 31
}

/// Draws ranks from 0 on, each with a probability of 1 / (rank + 1) ^ skew.
struct Zipf: Sendable {
    private var sums: [Double] = []

    init(_ count: Int, skew: Double) {
        var sum = 0.0
        for rank in 1...count {
            sum += 1 / pow(Double(rank), skew)
            sums.append(sum)
        }
    }

    func draw(_ random: inout SeededGenerator) -> Int {
        let wanted = random.fraction() * sums[sums.count - 1]
        var (low, high) = (0, sums.count - 1)
        while low < high {
            let middle = (low + high) / 2
            if sums[middle] < wanted { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Sizes of blobs as registries have them: two thirds are below 1 MB, and the fifth above 10 MB has 95% of the bytes.
enum BlobSize {
    /// Shares of the blobs, and the sizes in bytes that they stay below; between two of them the logarithm is even.
    private static let quantiles: [(share: Double, bytes: Double)] = [
        (0, 32), (0.25, 1100), (0.5, 11e3), (0.66, 1e6), (0.805, 10e6), (0.9, 35e6), (0.99, 118e6), (1, 690e6),
    ]

    static func draw(_ random: inout SeededGenerator) -> Int64 {
        let share = random.fraction()
        let upper = quantiles.indices.dropFirst().first { quantiles[$0].share >= share } ?? quantiles.count - 1
        let (low, high) = (quantiles[upper - 1], quantiles[upper])
        let part = (share - low.share) / (high.share - low.share)
        return Int64(exp(log(low.bytes) + part * (log(high.bytes) - log(low.bytes))))
    }
}
