/// Where randomness comes from. Tests pass a seeded one.
public protocol RandomSource: Sendable {
    func next() -> UInt64
}

/// The kernel's generator (`getrandom(2)`).
public struct SystemRandom: RandomSource {
    public init() {}

    public func next() -> UInt64 {
        var generator = SystemRandomNumberGenerator()
        return generator.next()
    }
}

extension RandomSource {
    /// 32 lower-case hexadecimal digits: 128 bits, enough that nobody guesses or repeats one.
    public func token() -> String {
        let digits = Array("0123456789abcdef".utf8)
        let text = [next(), next()].flatMap { word in
            stride(from: 60, through: 0, by: -4).map { digits[Int(word >> UInt64($0) & 15)] }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
