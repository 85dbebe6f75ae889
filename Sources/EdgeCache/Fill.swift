internal import OCI
internal import Registry
internal import System
internal import Threading

/// A blob on its way from the origin into the disk tier: one for each digest, shared by every client that asks meanwhile.
///
/// It belongs to the cache. Clients come and go; the transfer runs at the origin's pace to its end.
final class Fill: Sendable {
    enum Failure {
        /// The origin failed, or what it sent is not the blob.
        case origin(EdgeError)
        /// The local disk failed: the blob can still be streamed past it.
        case storage
    }

    enum Phase {
        /// Nothing is known yet.
        case starting
        /// Bytes go to this file; `State.available` of them can be read.
        case streaming(File)
        /// All bytes are there and have the digest.
        case verified(File)
        case verifiedInMemory([UInt8])
        case unknownBlob
        /// The tier had the blob after all.
        case onDisk
        case failed(Failure)
    }

    struct State {
        var phase = Phase.starting
        /// The blob's size in bytes, once the origin has told it.
        var size: Int64?
        /// How many bytes from the start can be read.
        var available: Int64 = 0
    }

    let digest: Digest
    private let state = Monitor(State())

    init(_ digest: Digest) {
        self.digest = digest
    }

    func update(_ body: (inout State) -> Void) {
        state.update { body(&$0) }
    }

    /// The blob's size, once it is known, and how much of it can be read.
    var progress: (size: Int64?, available: Int64) { state.withLock { ($0.size, $0.available) } }

    /// What became of it, in a word.
    var outcome: FillOutcome {
        state.withLock { state in
            switch state.phase {
            case .verified, .verifiedInMemory, .onDisk: .complete
            case .unknownBlob: .unknown
            case .failed(.storage): .notStored
            case .failed(.origin(.origin(.damaged))): .damaged
            case .failed(.origin), .starting, .streaming: .failed
            }
        }
    }

    /// It is over, and a new one may fare better.
    var hasEndedInVain: Bool {
        state.withLock { state in
            switch state.phase {
            case .unknownBlob, .failed: true
            case .starting, .streaming, .verified, .verifiedInMemory, .onDisk: false
            }
        }
    }

    /// What a new client can be answered with, as soon as that is known.
    enum Opening: Sendable {
        case unknownBlob
        case onDisk
        case bytes([UInt8])
        case streaming(size: Int64)
        /// Too large for the tier, or the disk failed before the first byte.
        case notStored(size: Int64)
        case failed(EdgeError)
    }

    func waitForOpening() -> Opening {
        let opening: Opening? = state.wait { state in
            switch state.phase {
            case .starting: nil
            case .unknownBlob: .unknownBlob
            case .onDisk: .onDisk
            case .verifiedInMemory(let bytes): .bytes(bytes)
            case .streaming, .verified: .streaming(size: state.size ?? 0)
            case .failed(.storage): .notStored(size: state.size ?? 0)
            case .failed(.origin(let error)): .failed(error)
            }
        }
        guard let opening else { preconditionFailure("waiting without a deadline ended") }
        return opening
    }

    /// What a reader at some offset finds.
    enum Readable: Sendable {
        case bytes(in: File, count: Int64)
        case failed(EdgeError)
        case storageFailed
    }

    /// Waits until there is something to read at `offset`. The last byte counts only once the content is verified.
    func waitForBytes(at offset: Int64) -> Readable {
        let readable: Readable? = state.wait { state in
            let size = state.size ?? 0
            switch state.phase {
            case .streaming(let file):
                let end = min(state.available, size - 1)
                return end > offset ? .bytes(in: file, count: end - offset) : nil
            case .verified(let file):
                return .bytes(in: file, count: size - offset)
            case .failed(.origin(let error)):
                return .failed(error)
            case .failed(.storage):
                return .storageFailed
            case .starting, .unknownBlob, .onDisk, .verifiedInMemory:
                preconditionFailure("a reader came before the fill was open")
            }
        }
        guard let readable else { preconditionFailure("waiting without a deadline ended") }
        return readable
    }
}

/// Reads along with a fill; when the local disk fails under it, goes on straight from the origin.
///
/// Sendable because one request reads at a time, from its own thread.
final class FillReader: BlobStream, @unchecked Sendable {
    private let fill: Fill
    private let fileSystem: any FileSystem
    private let passThrough: (_ from: Int64) -> any BlobStream
    private var first: Int64?
    private var fallback: (any BlobStream)?

    init(_ fill: Fill, fileSystem: any FileSystem, passThrough: @escaping @Sendable (_ from: Int64) -> any BlobStream) {
        self.fill = fill
        self.fileSystem = fileSystem
        self.passThrough = passThrough
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        if let fallback { return try fallback.read(at: offset, into: &buffer) }
        switch fill.waitForBytes(at: offset) {
        case .failed(let error):
            throw error
        case .bytes(let file, let count):
            let wanted = Int(min(count, Int64(buffer.freeCapacity)))
            do throws(FileError) {
                if try fileSystem.read(file, at: offset, count: wanted, into: &buffer) > 0 { return }
            } catch {
                // The bytes still exist at the origin.
            }
        case .storageFailed:
            break
        }
        let stream = passThrough(offset)
        fallback = stream
        try stream.read(at: offset, into: &buffer)
    }
}
