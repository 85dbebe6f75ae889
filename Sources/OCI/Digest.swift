/// A digest algorithm that the image specification registers (image-spec, descriptor.md, "Registered Algorithms").
public enum DigestAlgorithm: String, Sendable, Hashable, CaseIterable {
    case sha256
    case sha512

    /// Length of the raw hash in bytes.
    public var byteCount: Int { self == .sha256 ? 32 : 64 }

    fileprivate init?(_ name: Span<UInt8>) {
        if equals(name, "sha256") {
            self = .sha256
        } else if equals(name, "sha512") {
            self = .sha512
        } else {
            return nil
        }
    }
}

/// The hash of some content, the name under which it is stored: `sha256:` or `sha512:` and lower-case hexadecimal digits.
///
/// Held inline, so that the hot path never allocates for one. (image-spec, descriptor.md, "Digests")
public struct Digest: Sendable, Hashable, CustomStringConvertible {
    public let algorithm: DigestAlgorithm
    private let words: SIMD8<UInt64>

    /// - Parameter bytes: the raw hash; its length must be the algorithm's.
    public init(_ algorithm: DigestAlgorithm, bytes: Span<UInt8>) {
        precondition(bytes.count == algorithm.byteCount, "a \(algorithm) hash has \(algorithm.byteCount) bytes")
        self.algorithm = algorithm
        var words = SIMD8<UInt64>()
        for index in bytes.indices { words[index / 8] = words[index / 8] << 8 | UInt64(bytes[index]) }
        self.words = words
    }

    /// Reads `algorithm:hex`; everything else is a ``NameError``.
    public init(_ text: some StringProtocol) throws(NameError) {
        let text = String(text)
        try self.init(text.utf8.span)
    }

    /// Reads `algorithm:hex` in UTF-8, without an allocation.
    public init(_ text: Span<UInt8>) throws(NameError) {
        guard text.count > 7, text[6] == UInt8(ascii: ":"), let algorithm = DigestAlgorithm(text.extracting(0..<6))
        else {
            throw NameError(.digest, text)
        }
        try self.init(algorithm, hex: text.extracting(7..<text.count), of: text)
    }

    /// Reads a hash as the seed's callers may give it: `sha256:` may be missing.
    public init(prefixOptional text: some StringProtocol) throws(NameError) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            try self.init(text)
        } else {
            try self.init(algorithm: "sha256", hex: text)
        }
    }

    public init(algorithm name: some StringProtocol, hex: some StringProtocol) throws(NameError) {
        try self.init("\(name):\(hex)")
    }

    private init(_ algorithm: DigestAlgorithm, hex: Span<UInt8>, of text: Span<UInt8>) throws(NameError) {
        guard hex.count == algorithm.byteCount * 2 else { throw NameError(.digest, text) }
        // Not a vector yet: each word that is put into one costs the way through memory.
        var words = InlineArray<8, UInt64>(repeating: 0)
        var isHex = true
        for word in 0..<algorithm.byteCount / 8 {
            var value: UInt64 = 0
            for index in word * 16..<word * 16 + 16 {
                // In bounds by the count above.
                let character = unsafe hex[unchecked: index]
                let (isDigit, isLetter) = (character &- UInt8(ascii: "0") < 10, character &- UInt8(ascii: "a") < 6)
                // Without a branch: no processor guesses which of the two it is.
                value = value << 4 | UInt64((character & 15) &+ (character >> 6) &* 9)
                isHex = (isDigit || isLetter) && isHex
            }
            words[word] = value
        }
        guard isHex else { throw NameError(.digest, text) }
        self.algorithm = algorithm
        self.words = SIMD8(words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
    }

    /// Calls `body` with the raw hash, which is on the stack.
    public func withBytes<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var bytes = InlineArray<64, UInt8>(repeating: 0)
        for word in 0..<algorithm.byteCount / 8 {
            let value = words[word]
            for index in 0..<8 { bytes[word * 8 + index] = UInt8(truncatingIfNeeded: value >> UInt64(56 - index * 8)) }
        }
        return try body(bytes.span.extracting(0..<algorithm.byteCount))
    }

    /// The raw hash.
    public var bytes: [UInt8] {
        (0..<algorithm.byteCount).map { UInt8(truncatingIfNeeded: words[$0 / 8] >> UInt64(56 - $0 % 8 * 8)) }
    }

    /// 64 or 128 lower-case hexadecimal digits.
    public var hex: String { text(after: "") }

    public var description: String { text(after: algorithm == .sha256 ? "sha256:" : "sha512:") }

    private func text(after prefix: StaticString) -> String {
        let digits: InlineArray<16, UInt8> = [
            0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66,
        ]
        let start = prefix.utf8CodeUnitCount
        let count = start + algorithm.byteCount * 2
        return unsafe String(unsafeUninitializedCapacity: count) { buffer in
            for index in 0..<start { unsafe buffer[index] = prefix.utf8Start[index] }
            for word in 0..<algorithm.byteCount / 8 {
                var rest = words[word]
                for index in start + word * 16..<start + word * 16 + 16 {
                    unsafe buffer[index] = digits[Int(rest >> 60)]
                    rest <<= 4
                }
            }
            return count
        }
    }
}

extension Digest: Comparable {
    public static func < (a: Digest, b: Digest) -> Bool { a.description < b.description }
}

extension Digest: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        do {
            try self.init(container.decode(String.self))
        } catch let error as NameError {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: error.description)
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
