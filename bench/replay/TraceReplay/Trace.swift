internal import Glibc

/// Reads of blobs, in order.
public struct Trace: Sendable {
    public var name: String
    /// Which blob each read asks for.
    public var reads: [Int32] = []
    /// In bytes, of each blob.
    public var sizes: [Int64] = []

    public init(name: String, reads: [Int32] = [], sizes: [Int64] = []) {
        self.name = name
        self.reads = reads
        self.sizes = sizes
    }

    /// Bytes of all blobs that are asked for.
    public var footprintBytes: Int64 { Set(reads).reduce(0) { $0 + sizes[Int($1)] } }

    public struct InvalidLine: Error, CustomStringConvertible {
        public let number: Int
        public var description: String { "line \(number): write seconds,blob,bytes" }
    }

    /// Reads lines of `seconds,blob,bytes` and what else there is; the first line may name the columns.
    public init(name: String, csv text: String) throws(InvalidLine) {
        self.init(name: name)
        var blobs: [Substring: Int32] = [:]
        for (index, line) in text.split(separator: "\n").enumerated() {
            let fields = line.split(separator: ",", omittingEmptySubsequences: false)
            guard fields.count >= 3, let bytes = Int64(fields[2]), bytes >= 0 else {
                if index == 0 { continue }
                throw InvalidLine(number: index + 1)
            }
            let blob = blobs[fields[1]] ?? Int32(sizes.count)
            if blob == sizes.count {
                blobs[fields[1]] = blob
                sizes.append(bytes)
            }
            reads.append(blob)
        }
    }
}

/// What a cache made of a trace.
public struct Figures: Sendable, Equatable {
    public var reads = 0
    public var hits = 0
    public var bytes: Int64 = 0
    public var hitBytes: Int64 = 0

    public init() {}

    public var requestHitRatio: Double { Double(hits) / Double(max(1, reads)) }
    public var byteHitRatio: Double { Double(hitBytes) / Double(max(1, bytes)) }

    mutating func count(_ size: Int64, isHit: Bool) {
        reads += 1
        bytes += size
        guard isHit else { return }
        hits += 1
        hitBytes += size
    }
}

/// What a cache is to a replay.
public struct CacheShape: Sendable {
    /// Of files.
    public var capacityBytes: Int64
    /// Blobs up to this size lie in the index, which keeps them.
    public var inlineLimitBytes: Int64 = 16 << 10
    public var highWatermarkPercent: Int64 = 98
    public var lowWatermarkPercent: Int64 = 95

    public init(capacityBytes: Int64) {
        self.capacityBytes = capacityBytes
    }

    func blocks(_ bytes: Int64) -> Int64 { (bytes + 4095) / 4096 * 4096 }
}
