import Foundation
import Hashing
import OCI

/// 64 hexadecimal digits.
func sha256Hex(_ bytes: [UInt8]) -> String { OCI.Digest(of: bytes, .sha256).hex }

/// `sha256:…`
func sha256(_ bytes: [UInt8]) -> String { OCI.Digest(of: bytes, .sha256).description }

/// `sha512:…`
func sha512(_ bytes: [UInt8]) -> String { OCI.Digest(of: bytes, .sha512).description }

/// The `sha256:…` of a file's bytes.
func sha256(ofFile path: String) throws -> String {
    let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
    var hash = ContentHash(.sha256)
    while let piece = try file.read(upToCount: 1 << 20), !piece.isEmpty { hash.update([UInt8](piece).span) }
    return hash.digest().description
}

/// Bytes that nothing compresses, the same for the same seed.
func noise(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        for index in 0..<count {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            buffer[index] = UInt8(truncatingIfNeeded: state >> 32)
        }
        filled = count
    }
}
