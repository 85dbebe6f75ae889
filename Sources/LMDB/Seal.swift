internal import CLMDB

/// What each value ends with, so that another one cannot be taken for it: LMDB gives back whatever its file holds. A damaged disk and a slip of
/// the hand are told; it does not withstand who looks for other bytes with the same seal.
///
/// It is written down on disks: another way to make it is another format.
enum Seal {
    static let bytes = 4

    /// - Parameter limit: of the value, in bytes; the rest is not sealed.
    static func make(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, limit: Int) -> UInt32 {
        var sum = UInt64(key.count) << 48 ^ UInt64(value.count)
        add(key, to: &sum)
        add(UnsafeRawBufferPointer(rebasing: value.prefix(limit)), to: &sum)
        return UInt32(truncatingIfNeeded: sum ^ sum >> 32)
    }

    /// The value without its seal; `nil` when that is broken.
    static func open(_ value: MDB_val, _ key: MDB_val, limit: Int) -> UnsafeBufferPointer<UInt8>? {
        let whole = UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)
        guard whole.count >= bytes else { return nil }
        let content = UnsafeRawBufferPointer(rebasing: whole.dropLast(bytes))
        let seal = UInt32(littleEndian: whole.loadUnaligned(fromByteOffset: content.count, as: UInt32.self))
        guard make(UnsafeRawBufferPointer(start: key.mv_data, count: key.mv_size), content, limit: limit) == seal else {
            return nil
        }
        return content.assumingMemoryBound(to: UInt8.self)
    }

    private static func add(_ bytes: UnsafeRawBufferPointer, to sum: inout UInt64) {
        let words = bytes.count / 8
        for word in 0..<words {
            mix(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: word * 8, as: UInt64.self)), into: &sum)
        }
        var rest: UInt64 = 0
        for byte in bytes[(words * 8)...] { rest = rest << 8 | UInt64(byte) }
        mix(rest, into: &sum)
    }

    /// Another word gives another sum, whatever the sum was before.
    private static func mix(_ word: UInt64, into sum: inout UInt64) {
        sum = (sum ^ word) &* 0x9E37_79B9_7F4A_7C15
        sum ^= sum >> 32
    }
}
