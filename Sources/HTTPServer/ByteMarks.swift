// Looks at eight bytes in one step. Nearly all that comes is harmless, and is looked through once.

extension UnsafeRawBufferPointer {
    /// Whether `marks` finds something.
    func hasMark(_ marks: (UInt64) -> UInt64) -> Bool {
        var offset = 0
        while offset + 8 <= count {
            if marks(loadUnaligned(fromByteOffset: offset, as: UInt64.self)) != 0 { return true }
            offset += 8
        }
        // Filled up with what is never looked for.
        var last = UInt64(repeating: UInt8(ascii: "x"))
        while offset < count {
            last = last << 8 | UInt64(self[offset])
            offset += 1
        }
        return marks(last) != 0
    }

    /// Tells them from nearly all others. Who wants to can find others with the same mark.
    var mark: UInt64 {
        var mark = UInt64(count)
        var offset = 0
        while offset + 8 <= count {
            mark = mark.mixed(with: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            offset += 8
        }
        for byte in self[offset...] { mark = mark.mixed(with: UInt64(byte)) }
        return mark
    }
}

extension UInt64 {
    fileprivate init(repeating byte: UInt8) { self = 0x0101_0101_0101_0101 &* UInt64(byte) }

    fileprivate func mixed(with word: UInt64) -> UInt64 {
        let product = (self ^ word) &* 0x9E37_79B9_7F4A_7C15
        return product ^ product >> 32
    }

    /// Not zero when one of its bytes is less than `limit`, which is 128 at most.
    private func marks(below limit: UInt8) -> UInt64 {
        (self &- UInt64(repeating: limit)) & ~self & UInt64(repeating: 128)
    }

    /// Not zero when one of its bytes is `character`.
    func marks(_ character: Unicode.Scalar) -> UInt64 {
        (self ^ UInt64(repeating: UInt8(ascii: character))).marks(below: 1)
    }

    /// Not zero when one of its bytes is a control character.
    var controls: UInt64 { marks(below: 32) | marks("\u{7F}") }
}
