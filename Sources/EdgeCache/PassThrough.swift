internal import Hashing
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import Synchronization
internal import System
internal import Threading

/// Streams a blob from the origin to one client without keeping it, for what does not fit on disk.
///
/// A read from the start fetches the whole blob and verifies it, holding the end back until the digest is known. A read from further on
/// (a range) fetches just the rest; its length is checked, its digest cannot be.
///
/// Sendable because everything shared with the fetching thread is in `channel`; the rest belongs to the one reading thread.
final class PassThrough: BlobStream, @unchecked Sendable {
    /// What the origin may be ahead of the client. Memory: as much for each client.
    private static let channelBytes = 128 << 10

    private let fills: Fills
    private let digest: Digest
    private let size: Int64
    /// The client has, or reads, the blob from its start.
    private let isWhole: Bool?
    private var channel: ByteChannel?

    /// - Parameter isWhole: the client has all bytes before the first read from elsewhere; they are fetched again to verify the whole, and
    ///   not given out. `nil`: if it begins at the start.
    init(_ fills: Fills, _ digest: Digest, size: Int64, isWhole: Bool? = nil) {
        self.fills = fills
        self.digest = digest
        self.size = size
        self.isWhole = isWhole
    }

    deinit { channel?.abandon() }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        if channel == nil { channel = start(at: offset) }
        try channel?.read(into: &buffer)
    }

    private func start(at offset: Int64) -> ByteChannel {
        let channel = ByteChannel(limitBytes: Self.channelBytes)
        let (fills, digest, size) = (fills, digest, size)
        let whole = isWhole ?? (offset == 0)
        spawnThread(name: "pass-through") {
            do throws(EdgeError) {
                try Self.fetch(
                    fills,
                    digest,
                    range: whole ? 0..<size : offset..<size,
                    skip: whole ? offset : 0,
                    verifies: whole,
                    into: channel
                )
                channel.finish(nil)
            } catch {
                channel.finish(error)
            }
        }
        return channel
    }

    private static func fetch(
        _ fills: Fills,
        _ digest: Digest,
        range: Range<Int64>,
        skip: Int64,
        verifies: Bool,
        into channel: ByteChannel
    ) throws(EdgeError) {
        var hash = ContentHash(digest.algorithm)
        var held: [UInt8] = []
        var toSkip = skip
        do throws(RegistryError) {
            try fills.registry.streamBlob(digest, range: verifies ? nil : range) { piece in
                fills.counters.originBytes.wrappingAdd(Int64(piece.count), ordering: .relaxed)
                if verifies { hash.update(piece) }
                let skipped = min(toSkip, Int64(piece.count))
                toSkip -= skipped
                guard skipped < piece.count else { return }
                // One piece is always held back, so the end only follows a good digest.
                if !held.isEmpty, !channel.send(held) { throw ClientGone() }
                held = [UInt8](piece.extracting(droppingFirst: Int(skipped)))
            }
        } catch {
            throw .origin(error)
        }
        if verifies, hash.digest() != digest {
            let key = fills.registry.layout.blob(digest)
            let error = EdgeError.origin(.damaged(key: key, expected: digest, actual: hash.digest()))
            fills.counters.damaged.wrappingAdd(1, ordering: .relaxed)
            fills.log.error("the origin's content is damaged", metadata: ["digest": "\(digest)", "error": "\(error)"])
            throw error
        }
        if !held.isEmpty { _ = channel.send(held) }
    }

    private struct ClientGone: Error {}
}

/// A bounded pipe of byte pieces from one thread to another.
final class ByteChannel: Sendable {
    private struct State {
        var pieces: [[UInt8]] = []
        /// Bytes of the first piece that were read already.
        var consumed = 0
        var bytes = 0
        var isFinished = false
        var isAbandoned = false
        var failure: EdgeError?
    }

    private let limitBytes: Int
    private let state = Monitor(State())

    init(limitBytes: Int) {
        self.limitBytes = limitBytes
    }

    /// Waits for room; false when the reader is gone.
    func send(_ piece: [UInt8]) -> Bool {
        let sent: Bool? = state.wait { state in
            if state.isAbandoned { return false }
            guard state.bytes == 0 || state.bytes + piece.count <= limitBytes else { return nil }
            state.pieces.append(piece)
            state.bytes += piece.count
            return true
        }
        state.update { _ in }
        return sent ?? false
    }

    func finish(_ failure: EdgeError?) {
        state.update { state in
            state.isFinished = true
            state.failure = failure
        }
    }

    func abandon() {
        state.update { $0.isAbandoned = true }
    }

    /// Waits for a piece and appends what fits of it.
    func read(into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        let next: (piece: [UInt8], from: Int)? = try state.wait { state throws(EdgeError) in
            if let piece = state.pieces.first { return (piece, state.consumed) }
            if let failure = state.failure { throw failure }
            // The length was checked by the transfer, so a reader never gets here for more than it was promised.
            if state.isFinished { throw .busy("the origin sent fewer bytes than announced") }
            return nil
        }
        guard let next else { preconditionFailure("waiting without a deadline ended") }
        let count = buffer.append(fitting: next.piece.span.extracting(droppingFirst: next.from))
        state.update { state in
            state.bytes -= count
            state.consumed += count
            if state.consumed == next.piece.count {
                state.pieces.removeFirst()
                state.consumed = 0
            }
        }
    }
}
