/// Appends to a watched file in large aligned pieces: small unaligned writes are what costs on the way to disk. The kernel begins to write
/// each out at once, so that little is left to do for the sync at the end.
public struct FileWriter: ~Copyable {
    public let watch: WriteWatch
    private var buffer: [UInt8]
    private let capacity: Int
    /// Everything before this offset was handed to the file system.
    public private(set) var written: Int64

    /// Continues at `offset`. Memory: `capacity` bytes, taken when the first byte arrives.
    public init(_ watch: WriteWatch, at offset: Int64 = 0, capacity: Int = 1 << 20) {
        self.watch = watch
        self.capacity = capacity
        buffer = []
        written = offset
    }

    /// Appended bytes that the file system does not have yet.
    public var unwritten: [UInt8] { buffer }

    /// Where the next byte goes.
    public var offset: Int64 { written + Int64(buffer.count) }

    public mutating func append(_ bytes: Span<UInt8>) throws(FileError) {
        var rest = bytes
        while !rest.isEmpty {
            let room = capacity - Int((written + Int64(buffer.count)) % Int64(capacity))
            let piece = rest.extracting(first: min(room, rest.count))
            rest = rest.extracting(droppingFirst: piece.count)
            if buffer.isEmpty, piece.count == capacity {
                try write(piece)
                written += Int64(piece.count)
                continue
            }
            if buffer.isEmpty { buffer.reserveCapacity(capacity) }
            buffer.append(piece)
            if piece.count == room { try flush() }
        }
    }

    /// Hands all appended bytes to the file system.
    public mutating func flush() throws(FileError) {
        guard !buffer.isEmpty else { return }
        try write(buffer.span)
        written += Int64(buffer.count)
        buffer.removeAll(keepingCapacity: true)
    }

    private func write(_ bytes: Span<UInt8>) throws(FileError) {
        try watch.write(bytes, at: written)
        watch.fileSystem.advise(.willBeSynced, on: written..<written + Int64(bytes.count), of: watch.file)
    }
}
