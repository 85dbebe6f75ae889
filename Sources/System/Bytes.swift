extension [UInt8] {
    public mutating func append(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBufferPointer { append(contentsOf: $0) }
    }

    public init(_ bytes: Span<UInt8>) {
        self = bytes.withUnsafeBufferPointer { Array($0) }
    }
}

extension OutputSpan<UInt8> {
    /// Appends as much of `bytes` as fits; returns how many that is.
    @discardableResult
    public mutating func append(fitting bytes: Span<UInt8>) -> Int {
        let count = Swift.min(freeCapacity, bytes.count)
        withUnsafeMutableBufferPointer { memory, initialized in
            bytes.withUnsafeBufferPointer { source in
                guard let from = source.baseAddress, count > 0 else { return }
                (memory.baseAddress! + initialized).initialize(from: from, count: count)
            }
            initialized += count
        }
        return count
    }
}
