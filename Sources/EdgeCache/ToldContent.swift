internal import OCI
internal import Synchronization
internal import System

/// What clients were told is here, so that they may leave it out of what they push: the hashes of the names. Those are spread over shards, since
/// each hit of a HEAD is noted, and none should wait for another.
final class ToldContent: Sendable {
    /// Two generations of hashes. The older one goes when the younger one is full or has lasted its time.
    private struct Generations {
        var young: Set<Int> = []
        var old: Set<Int> = []
        /// When the younger one began.
        var begun: UInt64 = 0

        mutating func turn(at now: UInt64, after nanoseconds: UInt64, limit: Int) {
            // Another thread may have looked at the clock later, and come first.
            let age = now > begun ? now - begun : 0
            guard age >= nanoseconds || young.count >= limit else { return }
            self = Generations(old: age < 2 * nanoseconds ? young : [], begun: now)
        }
    }

    private final class Shard: Sendable {
        let generations = Mutex(Generations())
    }

    private static let hashesInAShard = 1 << 10

    private let shards: [Shard]
    /// Of the younger generation of a shard.
    private let limit: Int
    private let nanoseconds: UInt64
    private let time: any TimeSource

    init(_ configuration: EdgeCache.Configuration, time: any TimeSource) {
        let count = max(1, configuration.toldLimit / Self.hashesInAShard)
        shards = (0..<count).map { _ in Shard() }
        limit = max(1, configuration.toldLimit / count / 2)
        nanoseconds = UInt64(max(0, configuration.toldTTL.components.seconds)) * 1_000_000_000
        self.time = time
    }

    /// - Parameter name: the repository of a manifest; blobs belong to none.
    func insert(_ digest: Digest, in name: RepositoryName? = nil) {
        withGenerations(digest, name) { _ = $0.young.insert($1) }
    }

    func contains(_ digest: Digest, in name: RepositoryName? = nil) -> Bool {
        withGenerations(digest, name) { $0.young.contains($1) || $0.old.contains($1) }
    }

    private func withGenerations<Result>(
        _ digest: Digest,
        _ name: RepositoryName?,
        _ body: (inout Generations, _ hash: Int) -> sending Result
    ) -> sending Result {
        let (hash, now) = (hash(digest, name), time.monotonicNanoseconds())
        return shards[Int(UInt(bitPattern: hash) % UInt(shards.count))].generations.withLock { generations in
            generations.turn(at: now, after: nanoseconds, limit: limit)
            return body(&generations, hash)
        }
    }

    private func hash(_ digest: Digest, _ name: RepositoryName?) -> Int {
        var hasher = Hasher()
        hasher.combine(digest)
        hasher.combine(name)
        return hasher.finalize()
    }
}
