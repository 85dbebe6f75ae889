internal import Synchronization

/// Who may use how many bytes of the disk. Space is entered here before a byte is written.
final class Ledger: Sendable {
    struct Entries {
        /// Allocated blocks of the files in the index.
        var committedBytes: Int64 = 0
        /// Promised to fills and spools.
        var reservedBytes: Int64 = 0
        /// The index's own file.
        var indexBytes: Int64 = 0

        var usedBytes: Int64 { committedBytes + reservedBytes + indexBytes }
    }

    static let blockBytes: Int64 = 4096

    let ceilingBytes: Int64
    private let entries = Mutex(Entries())

    init(ceilingBytes: Int64) {
        self.ceilingBytes = ceilingBytes
    }

    var current: Entries { entries.withLock { $0 } }

    func update(_ body: (inout Entries) -> Void) { entries.withLock { body(&$0) } }

    /// Takes the bytes if they fit below the ceiling.
    func reserve(_ bytes: Int64) -> Bool {
        entries.withLock { entries in
            guard entries.usedBytes + bytes <= ceilingBytes else { return false }
            entries.reservedBytes += bytes
            return true
        }
    }

    /// Whole blocks, as files take them.
    static func blocks(_ bytes: Int64) -> Int64 { (bytes + blockBytes - 1) / blockBytes * blockBytes }
}

/// Room for bytes that are about to be written; given back when the value goes.
public final class Reservation: Sendable {
    private let tier: DiskTier
    private let bytes = Mutex<Int64>(0)

    init(_ tier: DiskTier) {
        self.tier = tier
    }

    /// Bytes that are entered as reserved already.
    init(_ tier: DiskTier, adopting reserved: Int64) {
        self.tier = tier
        bytes.withLock { $0 = reserved }
    }

    deinit { release() }

    /// Gives back all but `kept` bytes, which stay reserved without it.
    func handOver(_ kept: Int64) {
        let held = bytes.withLock { bytes in
            defer { bytes = 0 }
            return bytes
        }
        tier.ledger.update { $0.reservedBytes -= held - kept }
    }

    /// Reserves more, evicting if needed.
    public func grow(by more: Int64) throws(DiskTierError) {
        guard more > 0 else { return }
        let blocks = Ledger.blocks(more)
        try tier.makeRoom(blocks, beside: bytes.withLock { $0 })
        bytes.withLock { $0 += blocks }
    }

    /// Gives everything back.
    func release() { handOver(0) }
}
