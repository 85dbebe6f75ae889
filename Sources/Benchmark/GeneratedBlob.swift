internal import Hashing
public import HTTPClient
internal import OCI

/// Bytes that a seed and a number tell, at any offset: nothing is kept, and nothing can be compressed.
///
/// They are the outputs of SplitMix64, little-endian, from a key of the blob's own. That costs a third of hashing them, so that generating
/// or comparing is not what a registry is waited for.
public struct GeneratedBlob: BodySource {
    public let length: Int64
    private let key: UInt64

    /// - Parameters:
    ///   - seed: of the run.
    ///   - number: of the blob; another number gives unrelated bytes.
    ///   - length: in bytes.
    public init(seed: UInt64, number: UInt64, length: Int64) {
        precondition(length >= 0)
        self.length = length
        key = mix(mix(seed) &+ number &* golden)
    }

    /// `nil` when `goOn`, which hears of the bytes of each piece, returns false.
    func digest(goOn: (Int) -> Bool) -> Digest? {
        var hash = ContentHash(.sha256)
        var offset: Int64 = 0
        while offset < length {
            let count = Int(min(length - offset, 256 << 10))
            let piece = [UInt8](capacity: count) { buffer in _ = read(at: offset, into: &buffer) }
            hash.update(piece.span)
            offset += Int64(count)
            guard goOn(count) else { return nil }
        }
        return hash.digest()
    }

    public func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) -> Int {
        let count = Int(min(Int64(buffer.freeCapacity), length - offset))
        unsafe buffer.withUnsafeMutableBufferPointer { memory, initialized in
            let target = unsafe UnsafeMutableRawBufferPointer(
                rebasing: UnsafeMutableRawBufferPointer(memory)[initialized..<initialized + count]
            )
            words(at: offset, count: count) { position, word in
                unsafe target.storeBytes(of: word.littleEndian, toByteOffset: position, as: UInt64.self)
            } byte: { position, byte in
                unsafe target[position] = byte
            }
            initialized += count
        }
        return count
    }

    /// Whether `piece` is what stands at `offset`.
    public func matches(_ piece: Span<UInt8>, at offset: Int64) -> Bool {
        guard offset >= 0, Int64(piece.count) <= length - offset else { return false }
        var difference: UInt64 = 0
        unsafe piece.withUnsafeBytes { bytes in
            words(at: offset, count: bytes.count) { position, word in
                let found = unsafe bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                difference |= found ^ word.littleEndian
            } byte: { position, byte in
                difference |= UInt64(unsafe bytes[position] ^ byte)
            }
        }
        return difference == 0
    }

    /// Hands over the bytes of a range by whole words where it can.
    @inline(__always)
    private func words(
        at offset: Int64,
        count: Int,
        word: (Int, UInt64) -> Void,
        byte: (Int, UInt8) -> Void
    ) {
        var position = 0
        var index = UInt64(offset)
        func single() {
            byte(position, UInt8(truncatingIfNeeded: value(index / 8) >> (index % 8 * 8)))
            position += 1
            index += 1
        }
        while position < count, index % 8 != 0 { single() }
        while count - position >= 8 {
            word(position, value(index / 8))
            position += 8
            index += 8
        }
        while position < count { single() }
    }

    @inline(__always)
    private func value(_ index: UInt64) -> UInt64 { mix(key &+ (index &+ 1) &* golden) }
}

/// The same generator for choices, such as which range to read.
struct SplitMix64: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = mix(seed) }

    mutating func next() -> UInt64 {
        state &+= golden
        return mix(state)
    }
}

private let golden: UInt64 = 0x9E37_79B9_7F4A_7C15

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
@inline(__always)
private func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
}
