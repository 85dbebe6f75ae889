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
        /// The disk or the index failed. The same again within a minute is not told again.
        case failed(DiskTierError)
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
            case .failed(let error):
                "the cache cannot be used as it should: \(error)\(error.remedy.map { "; \($0)" } ?? "")"
            case .scrubbed(let done):
                "scrubbed \(done.blobs) blobs, \(done.bytes) bytes: \(done.damaged) damaged, \(done.missing) missing, \(done.unread) unread"
            }
        }

        /// It needs somebody's attention.
        public var isProblem: Bool {
            switch self {
            case .damaged, .missing, .rebuilt, .failed: true
            case .removedOrphans, .adopted, .scrubbed: false
            }
        }
    }

    /// Tells of a failure, each kind at most once a minute: a full disk fails at every turn.
    func note(_ error: DiskTierError) {
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
