internal import Hashing
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import Synchronization
internal import System

/// Fetches what a passage gives out, and verifies it where that is a whole blob. One thread has it.
final class PassageTransfer {
    private static let blockBytes = 32 << 10

    private struct Deserted: Error {}
    private struct Changed: Error {}

    private let passage: Passage
    private let fills: Fills
    private var hash: ContentHash
    /// One block is always held back, so the end only follows a good digest.
    private var block: [UInt8] = []
    /// The next byte from the origin.
    private var position: Int64
    private var hasChanged = false

    init(_ passage: Passage, _ fills: Fills) {
        self.passage = passage
        self.fills = fills
        hash = ContentHash(passage.digest.algorithm)
        position = passage.range.lowerBound
    }

    func run() throws(EdgeError) {
        while true {
            let before = position
            do throws(RegistryError) {
                try fetchRest()
                break
            } catch {
                if hasChanged { throw .originChanged(passage.digest) }
                let hasProgressed = position - before >= PartTransfer.progressBytes
                guard error.isRetryable, hasProgressed, position < passage.range.upperBound, !passage.isDeserted else {
                    throw .origin(error)
                }
                fills.log.info(
                    "taking up a broken transfer",
                    metadata: ["digest": "\(passage.digest)", "offset": "\(position)", "error": "\(error)"]
                )
            }
        }
        if passage.isWhole { try verify() }
        if !block.isEmpty { _ = passage.send(block) }
    }

    private func fetchRest() throws(RegistryError) {
        try fills.registry.streamBlob(
            passage.digest,
            range: passage.isWhole && position == 0 ? nil : position..<passage.range.upperBound,
            isCancelled: { [passage] in passage.isDeserted },
            begin: begin,
            receive: receive
        )
    }

    private func begin(_ info: ObjectInfo) throws(Changed) {
        hasChanged = !passage.begin(ObjectVersion(info))
        if hasChanged { throw Changed() }
    }

    private func receive(_ piece: Span<UInt8>) throws(Deserted) {
        fills.counters.originBytes.wrappingAdd(Int64(piece.count), ordering: .relaxed)
        position += Int64(piece.count)
        if passage.isWhole { hash.update(piece) }
        if block.count + piece.count > Self.blockBytes, !block.isEmpty {
            guard passage.send(block) else { throw Deserted() }
            block.removeAll()
        }
        block.append(piece)
    }

    private func verify() throws(EdgeError) {
        let (digest, actual) = (passage.digest, hash.digest())
        guard actual != digest else { return fills.damages.remove(digest) }
        let key = fills.registry.layout.blob(digest)
        let error = EdgeError.origin(.damaged(key: key, expected: digest, actual: actual))
        fills.damages.doubt(digest, etag: passage.object?.etag)
        fills.counters.damaged.wrappingAdd(1, ordering: .relaxed)
        fills.log.error("the origin's content is damaged", metadata: ["digest": "\(digest)", "error": "\(error)"])
        throw error
    }
}
