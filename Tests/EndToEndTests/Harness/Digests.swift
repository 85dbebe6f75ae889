import Foundation
import Glibc
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

/// Whether the bytes are the same. Unlike `==` inside an expectation, a difference between megabytes is not spelled out.
func same(_ a: [UInt8], _ b: [UInt8]) -> Bool { a.count == b.count && memcmp(a, b, a.count) == 0 }

/// Bytes that gzip cannot compress, the same for the same seed: one block of noise again and again, each time with another number in front.
func noise(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    var block = (0..<8_192).map { _ in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state &* 0x2545_F491_4F6C_DD1D
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    while bytes.count < count {
        block[0] &+= 1
        block.withUnsafeBytes { bytes += $0.prefix(count - bytes.count) }
    }
    return bytes
}
