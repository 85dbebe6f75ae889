internal import Hashing
internal import Threading

/// ETags that were seen to be the MD5 of what they stand for. No other content has the same, whatever a store makes of those of
/// encrypted objects, which a listing does not tell apart.
final class ContentHashes: Sendable {
    private struct MD5: Hashable {
        let high: UInt64
        let low: UInt64

        /// `nil` when it cannot be one.
        init?(_ etag: String) {
            guard etag.utf8.count == 32, let high = UInt64(etag.prefix(16), radix: 16),
                let low = UInt64(etag.suffix(16), radix: 16)
            else { return nil }
            (self.high, self.low) = (high, low)
        }
    }

    private let known = Monitor<Set<MD5>>([])
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    func note(_ etag: String?, of bytes: [UInt8]) {
        guard let etag, etag == hexadecimal(md5(bytes)), let hash = MD5(etag) else { return }
        known.withLock { known in
            // Whichever goes is found out again.
            if known.count >= limit, !known.contains(hash) { known.removeFirst() }
            known.insert(hash)
        }
    }

    func contains(_ etag: String) -> Bool {
        guard let hash = MD5(etag) else { return false }
        return known.withLock { $0.contains(hash) }
    }
}
