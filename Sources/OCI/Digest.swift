/// A digest algorithm that the image specification registers (image-spec, descriptor.md, "Registered Algorithms").
public enum DigestAlgorithm: String, Sendable, Hashable, CaseIterable {
    case sha256
    case sha512

    /// Length of the raw hash in bytes.
    public var byteCount: Int { self == .sha256 ? 32 : 64 }
}

/// The hash of some content, the name under which it is stored: `sha256:` or `sha512:` and lower-case hexadecimal digits.
///
/// Held inline, so that the hot path never allocates for one. (image-spec, descriptor.md, "Digests")
public struct Digest: Sendable, Hashable, CustomStringConvertible {
    public let algorithm: DigestAlgorithm
    private let words: SIMD8<UInt64>

    /// - Parameter bytes: the raw hash; its length must be the algorithm's.
    public init(_ algorithm: DigestAlgorithm, bytes: some Collection<UInt8>) {
        precondition(bytes.count == algorithm.byteCount, "a \(algorithm) hash has \(algorithm.byteCount) bytes")
        self.algorithm = algorithm
        var words = SIMD8<UInt64>()
        for (index, byte) in bytes.enumerated() {
            words[index / 8] |= UInt64(byte) << UInt64(56 - index % 8 * 8)
        }
        self.words = words
    }

    /// Reads `algorithm:hex`; everything else is a ``NameError``.
    public init(_ text: some StringProtocol) throws(NameError) {
        guard let colon = text.utf8.firstIndex(of: UInt8(ascii: ":")) else { throw NameError(.digest, String(text)) }
        try self.init(algorithm: text[..<colon], hex: text[text.utf8.index(after: colon)...])
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
        let invalid = NameError(.digest, "\(name):\(hex)")
        guard let algorithm = DigestAlgorithm(rawValue: String(name)), hex.utf8.count == algorithm.byteCount * 2 else {
            throw invalid
        }
        var words = SIMD8<UInt64>()
        for (index, character) in hex.utf8.enumerated() {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            default: throw invalid
            }
            words[index / 16] |= UInt64(digit) << UInt64(60 - index % 16 * 4)
        }
        self.algorithm = algorithm
        self.words = words
    }

    /// The raw hash.
    public var bytes: [UInt8] {
        (0..<algorithm.byteCount).map { UInt8(truncatingIfNeeded: words[$0 / 8] >> UInt64(56 - $0 % 8 * 8)) }
    }

    /// 64 or 128 lower-case hexadecimal digits.
    public var hex: String {
        let digits: InlineArray<16, UInt8> = [
            0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66,
        ]
        return unsafe String(unsafeUninitializedCapacity: algorithm.byteCount * 2) { buffer in
            for index in 0..<algorithm.byteCount * 2 {
                unsafe buffer[index] = digits[Int(words[index / 16] >> UInt64(60 - index % 16 * 4) & 15)]
            }
            return algorithm.byteCount * 2
        }
    }

    public var description: String { "\(algorithm.rawValue):\(hex)" }
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
