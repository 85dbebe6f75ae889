internal import OCI
internal import Synchronization
internal import System

/// What clients were told is here, so that they may leave it out of what they push: the hashes of the names, in two generations. The older one
/// goes when the younger one is full or has lasted its time.
final class ToldContent: Sendable {
    private struct Generations {
        var young: Set<Int> = []
        var old: Set<Int> = []
        /// When the younger one began.
        var begun: UInt64 = 0

        mutating func turn(at now: UInt64, after nanoseconds: UInt64, limit: Int) {
            let age = now - begun
            guard age >= nanoseconds || young.count >= limit else { return }
            self = Generations(old: age < 2 * nanoseconds ? young : [], begun: now)
        }
    }

    private let limit: Int
    private let nanoseconds: UInt64
    private let time: any TimeSource
    private let generations = Mutex(Generations())

    init(_ configuration: EdgeCache.Configuration, time: any TimeSource) {
        limit = max(1, configuration.toldLimit / 2)
        nanoseconds = UInt64(max(0, configuration.toldTTL.components.seconds)) * 1_000_000_000
        self.time = time
    }

    /// - Parameter name: the repository of a manifest; blobs belong to none.
    func insert(_ digest: Digest, in name: RepositoryName? = nil) {
        let (hash, now) = (hash(digest, name), time.monotonicNanoseconds())
        generations.withLock { generations in
            generations.turn(at: now, after: nanoseconds, limit: limit)
            generations.young.insert(hash)
        }
    }

    func contains(_ digest: Digest, in name: RepositoryName? = nil) -> Bool {
        let (hash, now) = (hash(digest, name), time.monotonicNanoseconds())
        return generations.withLock { generations in
            generations.turn(at: now, after: nanoseconds, limit: limit)
            return generations.young.contains(hash) || generations.old.contains(hash)
        }
    }

    private func hash(_ digest: Digest, _ name: RepositoryName?) -> Int {
        var hasher = Hasher()
        hasher.combine(digest)
        hasher.combine(name)
        return hasher.finalize()
    }
}
