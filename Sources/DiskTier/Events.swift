public import OCI
internal import Synchronization
internal import System

extension DiskTier {
    /// What an operator should hear of.
    public enum Event: Sendable, CustomStringConvertible {
        /// Content was not what its name says. `kept` is where the damaged file lies now; `nil` when it was removed.
        case damaged(Digest, kept: String?)
        /// The index knew a file that is not there.
        case missing(Digest)
        /// Files that no index entry led to are gone: so many, so many bytes.
        case removedOrphans(count: Int, bytes: Int64)
        /// Files that an index before this one knew were taken over; each is hashed before it is served.
        case adopted(count: Int, bytes: Int64)
        /// The index could not be used and was begun anew, as the configuration allows.
        case rebuilt(reason: String)
        /// What other processes write to files under way may stay unnoticed.
        case unobserved(directory: String)
        /// The disk or the index failed. The same again within a minute is not told again.
        case failed(DiskTierError)
        /// More is held than there may be, and nothing is left that may go.
        case overCeiling(Excess)
        /// Pins hold more than they may under this ceiling.
        case pinsBeyondShare(bytes: Int64, limitBytes: Int64)
        /// The index's file took far more than it may under this ceiling.
        case shrankIndex(from: Int64, to: Int64)
        /// It takes so many, and still does: there is no room for a smaller copy.
        case keptLargeIndex(bytes: Int64, missingBytes: Int64)
        /// All content was hashed.
        case scrubbed(VerificationProgress)

        public var description: String {
            switch self {
            case .damaged(let digest, let kept?):
                "damaged content: \(digest) is in quarantine at \(kept) and will be fetched again"
            case .damaged(let digest, nil): "damaged content: \(digest) was removed and will be fetched again"
            case .missing(let digest): "the file of \(digest) is gone: it will be fetched again"
            case .removedOrphans(let count, let bytes): "removed \(count) files unknown to the index, \(bytes) bytes"
            case .adopted(let count, let bytes):
                "took over \(count) files, \(bytes) bytes, which are verified on first use"
            case .rebuilt(let reason): "began a new cache index: \(reason)"
            case .unobserved(let directory):
                """
                the kernel does not tell who opens files in \(directory) (inotify): what another process writes to one while it is fetched or \
                pushed is noticed by its times alone, and may be missed; raise fs.inotify.max_user_instances and max_user_watches
                """
            case .failed(let error):
                "the cache cannot be used as it should: \(error)\(error.remedy.map { "; \($0)" } ?? "")"
            case .overCeiling(let excess): "\(excess)"
            case .pinsBeyondShare(let bytes, let limit):
                "pins hold \(bytes) bytes of the \(limit) that they may, which eviction cannot take: unpin something or raise cache-size"
            case .shrankIndex(let old, let new):
                "the cache index took \(old) bytes, more than its share of cache-size, and takes \(new) now"
            case .keptLargeIndex(let bytes, let missing):
                """
                the cache index takes \(bytes) bytes, more than its share of cache-size, and its smaller copy needs \(missing) bytes more for \
                a moment: free space on its file system, unpin something, or raise cache-size
                """
            case .scrubbed(let done):
                "scrubbed \(done.blobs) blobs, \(done.bytes) bytes: \(done.damaged) damaged, \(done.missing) missing, \(done.unread) unread"
            }
        }

        /// It needs somebody's attention.
        public var isProblem: Bool {
            switch self {
            case .damaged, .missing, .rebuilt, .unobserved, .failed, .overCeiling, .pinsBeyondShare, .keptLargeIndex:
                true
            case .removedOrphans, .adopted, .shrankIndex, .scrubbed: false
            }
        }
    }

    /// What the tier takes above its ceiling, in bytes, and what holds it.
    public struct Excess: Sendable, CustomStringConvertible {
        public let usedBytes: Int64
        public let ceilingBytes: Int64
        public let indexBytes: Int64
        public let folderBytes: Int64
        public let uploadBytes: Int64
        public let fillBytes: Int64
        /// Of files that are pinned or being read.
        public let fileBytes: Int64

        init(_ entries: Ledger.Entries, ceilingBytes: Int64) {
            self.ceilingBytes = ceilingBytes
            usedBytes = entries.usedBytes
            indexBytes = entries.indexBytes
            folderBytes = entries.folderBytes
            uploadBytes = entries.uploadBytes
            fillBytes = entries.reservedBytes - entries.uploadBytes
            fileBytes = entries.committedBytes + entries.lingeringBytes
        }

        public var description: String {
            """
            the cache takes \(usedBytes) bytes, \(usedBytes - ceilingBytes) more than cache-size, and nothing is left that may go: \
            unfinished uploads \(uploadBytes), fills \(fillBytes), index \(indexBytes), folders \(folderBytes), pinned or read files \
            \(fileBytes); finish or cancel uploads, unpin, or raise cache-size
            """
        }
    }

    /// Tells it once.
    func noteUnobserved() {
        guard !hasToldUnobserved.exchange(true, ordering: .relaxed) else { return }
        report(.unobserved(directory: configuration.directory))
    }

    /// Tells of a failure, each kind at most once a minute: a full disk fails at every turn.
    public func note(_ error: DiskTierError) {
        guard let kind = error.noticeKind, notices.allows(kind, at: time.monotonicNanoseconds()) else { return }
        report(.failed(error))
    }
}

/// Keeps the same news from being told again and again.
final class Notices: Sendable {
    private static let intervalNanoseconds: UInt64 = 60_000_000_000

    private let toldAt = Mutex<[String: UInt64]>([:])

    func allows(_ kind: String, at now: UInt64) -> Bool {
        toldAt.withLock { toldAt in
            if let last = toldAt[kind], now < last + Self.intervalNanoseconds { return false }
            toldAt[kind] = now
            return true
        }
    }
}
