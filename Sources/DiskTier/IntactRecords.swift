internal import Hashing
internal import OCI
internal import Threading

/// Which records that hold their content themselves were found to hold what their digest says, as far as this run has looked.
///
/// A page of the index may be damaged while nobody runs, and nothing but a hash tells. To hash each time would cost a hit as much as all the rest.
/// A word for each of so many numbers: records that share one are hashed each time they take turns, no worse.
final class IntactRecords: Sendable {
    /// 2 MiB when all of it is in use.
    private static let slots = 1 << 18

    private let numbers = AtomicArray(count: slots)

    func contains(_ number: UInt64) -> Bool { numbers.loadRelaxed(slot(number)) == number }

    func insert(_ number: UInt64) { numbers.storeRelaxed(number, at: slot(number)) }

    private func slot(_ number: UInt64) -> Int { Int(number & UInt64(Self.slots - 1)) }
}

extension DiskTier {
    /// Whether a record holds its content. What this run has entered is as it was given; the rest is hashed when it is first asked for.
    func isIntact(_ digest: Digest, _ number: UInt64, _ content: Span<UInt8>) -> Bool {
        if CacheIndex.run(of: number) == run.number || intactRecords.contains(number) { return true }
        guard Digest(of: content, digest.algorithm) == digest else { return false }
        intactRecords.insert(number)
        return true
    }
}
