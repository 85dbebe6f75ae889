internal import OCI
internal import Synchronization
internal import Threading

/// Which files are being read, so that eviction leaves them alone: a file that is unlinked while it is open keeps its blocks.
///
/// Counted for each of so many hashes, without a lock. Files that share a count keep each other a little longer.
final class Readers: Sendable {
    private static let stripeCount = 1 << 14

    private let counts = AtomicArray(count: stripeCount)
    /// Blocks of files that lost their names while they were being read.
    private let lingering = Mutex<[Int: Int64]>([:])
    private let hasLingering = Atomic(false)
    private let ledger: Ledger

    init(_ ledger: Ledger) {
        self.ledger = ledger
    }

    /// One reader, for as long as the value lives.
    final class Lease: Sendable {
        private let readers: Readers
        private let stripe: Int

        fileprivate init(_ readers: Readers, _ stripe: Int) {
            self.readers = readers
            self.stripe = stripe
            readers.counts.add(1, at: stripe)
        }

        deinit { readers.end(stripe) }
    }

    private func stripe(_ hash: UInt64) -> Int { Int(hash & UInt64(Self.stripeCount - 1)) }

    /// Taken before the file is opened: whoever unlinks it sees this reader, or the reader finds no file.
    func begin(_ hash: UInt64) -> Lease { Lease(self, stripe(hash)) }

    func isRead(_ hash: UInt64) -> Bool { counts.load(stripe(hash)) > 0 }

    /// The file has lost its name. Its blocks are free when nobody reads it; until then the books count them.
    func release(_ bytes: Int64, _ hash: UInt64) {
        guard bytes > 0 else { return }
        let stripe = stripe(hash)
        ledger.update { entries in
            entries.committedBytes -= bytes
            entries.lingeringBytes += bytes
        }
        lingering.withLock { $0[stripe, default: 0] += bytes }
        hasLingering.store(true, ordering: .sequentiallyConsistent)
        settle(stripe)
    }

    private func end(_ stripe: Int) {
        let left = counts.add(.max, at: stripe)
        // One of the two sees the other: this reader the blocks that wait for it, or the one who left them that it is gone.
        if left == 0, hasLingering.load(ordering: .sequentiallyConsistent) { settle(stripe) }
    }

    private func settle(_ stripe: Int) {
        let freed = lingering.withLock { lingering in
            guard counts.load(stripe) == 0 else { return Int64(0) }
            let bytes = lingering.removeValue(forKey: stripe) ?? 0
            if lingering.isEmpty { hasLingering.store(false, ordering: .sequentiallyConsistent) }
            return bytes
        }
        if freed > 0 { ledger.update { $0.lingeringBytes -= freed } }
    }
}

/// Blocks of a file that has no name and never was in the index. The books count them for as long as the value lives.
final class LingeringBlocks: Sendable {
    private let bytes: Int64
    private let ledger: Ledger

    /// - Parameter bytes: reserved until now.
    init(_ bytes: Int64, in ledger: Ledger) {
        (self.bytes, self.ledger) = (bytes, ledger)
        ledger.update { entries in
            entries.reservedBytes -= bytes
            entries.lingeringBytes += bytes
        }
    }

    deinit { ledger.update { $0.lingeringBytes -= bytes } }
}
