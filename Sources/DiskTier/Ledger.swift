internal import Synchronization

/// Who may use how many bytes of the disk. Space is entered here before a byte is written.
final class Ledger: Sendable {
    struct Entries {
        /// Allocated blocks of the files in the index.
        var committedBytes: Int64 = 0
        /// Promised to fills and spools.
        var reservedBytes: Int64 = 0
        /// Of the reserved ones, those of unfinished uploads.
        var uploadBytes: Int64 = 0
        /// Of the reserved ones, those that are not on the volume yet: what is free there is theirs.
        var pendingBytes: Int64 = 0
        /// The index's own file.
        var indexBytes: Int64 = 0
        /// The folders' own blocks.
        var folderBytes: Int64 = 0
        /// Files without a name that are still being read.
        var lingeringBytes: Int64 = 0
        /// Damaged files that were put aside.
        var quarantinedBytes: Int64 = 0
        /// Files that should be gone and could not be removed.
        var strandedBytes: Int64 = 0
        /// What an earlier run may have left, until it is counted.
        var unknownBytes: Int64 = 0
        /// What the tier may grow to before the volume has no more than its floor left. What is unknown takes its room there already.
        var volumeLimitBytes = Int64.max

        var usedBytes: Int64 {
            knownBytes + unknownBytes
        }

        var knownBytes: Int64 {
            committedBytes + reservedBytes + indexBytes + folderBytes + lingeringBytes + quarantinedBytes
                + strandedBytes
        }

        var landedBytes: Int64 { knownBytes - pendingBytes }
    }

    static let blockBytes: Int64 = 4096
    /// More files that cannot be removed are counted until the next start only.
    private static let maximumStranded = 10_000

    let ceilingBytes: Int64
    /// Kept free below the ceiling: evicting writes to the index, which may grow for it, by more when a slow reader holds its old pages.
    let slackBytes: Int64
    private let entries = Mutex(Entries())
    private let stranded = Mutex<[String: Int64]>([:])

    init(ceilingBytes: Int64) {
        self.ceilingBytes = ceilingBytes
        slackBytes = min(max(ceilingBytes / 128, 512 << 10), 4 << 20)
    }

    var current: Entries { entries.withLock { $0 } }

    /// By how much these bytes do not fit, below the ceiling or on the volume; zero or less when they do.
    func missing(for bytes: Int64) -> Int64 { entries.withLock { missing(for: bytes, $0) } }

    private func missing(for bytes: Int64, _ entries: Entries) -> Int64 {
        bytes + max(entries.usedBytes + slackBytes - ceilingBytes, entries.knownBytes - entries.volumeLimitBytes)
    }

    func update(_ body: (inout Entries) -> Void) { entries.withLock { body(&$0) } }

    /// Takes the bytes if they fit.
    func reserve(_ bytes: Int64) -> Bool {
        entries.withLock { entries in
            guard missing(for: bytes, entries) <= 0 else { return false }
            entries.reservedBytes += bytes
            entries.pendingBytes += bytes
            return true
        }
    }

    /// Takes the bytes out of what uploads may hold together; false when they would hold more.
    func admitUpload(_ bytes: Int64, limitBytes: Int64) -> Bool {
        entries.withLock { entries in
            guard entries.uploadBytes + bytes <= limitBytes else { return false }
            entries.uploadBytes += bytes
            return true
        }
    }

    /// Whole blocks, as files take them.
    static func blocks(_ bytes: Int64) -> Int64 { (bytes + blockBytes - 1) / blockBytes * blockBytes }
}

// MARK: - What could not be removed

extension Ledger {
    func strand(_ path: String, _ bytes: Int64) {
        let added = stranded.withLock { stranded in
            guard stranded[path] == nil else { return false }
            if stranded.count < Self.maximumStranded { stranded[path] = bytes }
            return true
        }
        if added { update { $0.strandedBytes += bytes } }
    }

    var hasStranded: Bool { stranded.withLock { !$0.isEmpty } }

    var strandedPaths: [String] { stranded.withLock { Array($0.keys) } }

    func unstrand(_ path: String) {
        let bytes = stranded.withLock { $0.removeValue(forKey: path) } ?? 0
        update { $0.strandedBytes -= bytes }
    }
}

/// Room for bytes that are about to be written; given back when the value goes.
public final class Reservation: Sendable {
    private let tier: DiskTier
    /// Of an unfinished upload: what all of them may hold together, with it.
    private let uploadLimitBytes: Int64?
    /// How many they are, and how many of them are not on the volume yet.
    private let bytes = Mutex<(held: Int64, pending: Int64)>((0, 0))

    init(_ tier: DiskTier, uploadLimitBytes: Int64? = nil) {
        self.tier = tier
        self.uploadLimitBytes = uploadLimitBytes
    }

    /// Bytes that are entered as reserved already.
    init(_ tier: DiskTier, adopting reserved: Int64) {
        self.tier = tier
        uploadLimitBytes = nil
        bytes.withLock { $0.held = reserved }
    }

    deinit { release() }

    /// Gives back all but `kept` bytes, which stay reserved without it.
    func handOver(_ kept: Int64) {
        take { entries, held in entries.reservedBytes -= held - kept }
    }

    /// They are a file's of the index from now on, which takes so many.
    func commit(_ allocated: Int64) {
        take { entries, held in
            entries.reservedBytes -= held
            entries.committedBytes += allocated
        }
    }

    private func take(_ body: (inout Ledger.Entries, _ held: Int64) -> Void) {
        let bytes = bytes.withLock { bytes in
            defer { bytes = (0, 0) }
            return bytes
        }
        tier.ledger.update { entries in
            entries.pendingBytes -= bytes.pending
            if uploadLimitBytes != nil { entries.uploadBytes -= bytes.held }
            body(&entries, bytes.held)
        }
    }

    /// In bytes.
    public var held: Int64 { bytes.withLock { $0.held } }

    /// Reserves more, evicting if needed.
    public func grow(by more: Int64) throws(DiskTierError) {
        guard more > 0 else { return }
        // Somebody may announce any number of bytes.
        guard more <= tier.ledger.ceilingBytes else {
            throw .neverFits(bytes: more, ceilingBytes: tier.ledger.ceilingBytes)
        }
        let blocks = Ledger.blocks(more)
        if let limit = uploadLimitBytes, !tier.ledger.admitUpload(blocks, limitBytes: limit) {
            throw .uploadsBeyondShare(bytes: blocks, limitBytes: limit)
        }
        do throws(DiskTierError) {
            try tier.makeRoom(blocks, beside: held)
        } catch {
            if uploadLimitBytes != nil { tier.ledger.update { $0.uploadBytes -= blocks } }
            throw error
        }
        bytes.withLock { bytes in
            bytes.held += blocks
            bytes.pending += blocks
        }
    }

    /// Gives back all but `kept` bytes.
    func shrink(to kept: Int64) { change { $0 = (min($0.held, kept), min($0.pending, kept)) } }

    /// So many of the bytes are on the volume now.
    func hasLanded(_ landed: Int64) { change { $0.pending = min($0.pending, max(0, $0.held - landed)) } }

    private func change(_ body: (inout (held: Int64, pending: Int64)) -> Void) {
        let (old, new) = bytes.withLock { bytes in
            let old = bytes
            body(&bytes)
            return (old, bytes)
        }
        tier.ledger.update { entries in
            entries.reservedBytes += new.held - old.held
            if uploadLimitBytes != nil { entries.uploadBytes += new.held - old.held }
            entries.pendingBytes += new.pending - old.pending
        }
    }

    /// Takes bytes that an earlier run has left: they are unknown no more.
    func enter(_ more: Int64) {
        change { $0.held += more }
        tier.ledger.update { $0.unknownBytes = max(0, $0.unknownBytes - more) }
    }

    /// Gives everything back.
    public func release() { handOver(0) }
}
