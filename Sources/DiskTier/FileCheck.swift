internal import Hashing
internal import OCI
internal import Synchronization
public import System
internal import Threading

/// A file whose bytes are being hashed. Readers follow behind; the last byte is theirs once the whole has proved right.
public final class FileCheck: Sendable {
    /// The file as it was opened: one that was touched meanwhile is another.
    struct Key: Hashable {
        let digest: Digest
        let facts: BlobRecord.FileFacts

        init(_ digest: Digest, _ facts: BlobRecord.FileFacts) {
            self.digest = digest
            self.facts = facts
        }
    }

    enum Outcome: Sendable {
        case good
        case damaged
        /// The index has forgotten it meanwhile.
        case gone
        case failed(DiskTierError)
    }

    private struct State {
        /// Bytes from the start that were hashed.
        var hashed: Int64 = 0
        var outcome: Outcome?
    }

    private static let pieceBytes = 1 << 20

    public let file: File
    /// What it was when it was opened.
    public let status: FileStatus
    let digest: Digest
    private let state = Monitor(State())
    private let isUrgent = Atomic(false)
    private let isCancelled = Atomic(false)

    init(_ digest: Digest, _ file: File, _ status: FileStatus) {
        self.digest = digest
        self.file = file
        self.status = status
    }

    /// In bytes.
    public var size: Int64 { status.size }

    var facts: BlobRecord.FileFacts { BlobRecord.FileFacts(status) }

    var key: Key { Key(digest, facts) }

    /// Waits until bytes can be read at `offset`; how many there are.
    public func waitForBytes(at offset: Int64) throws(DiskTierError) -> Int64 {
        let count: Int64? = try state.wait { state throws(DiskTierError) in
            if let outcome = state.outcome { return try outcome.isGood(digest) ? size - offset : 0 }
            let end = min(state.hashed, size - 1)
            return end > offset ? end - offset : nil
        }
        return count ?? 0
    }

    /// Waits for the end; throws when the bytes are not what the digest says.
    public func waitUntilVerified() throws(DiskTierError) {
        _ = try waitForBytes(at: size - 1)
    }

    /// Waits for the end.
    func verdict() throws(DiskTierError) -> Verdict {
        let outcome: Outcome? = state.wait { $0.outcome }
        switch outcome {
        case .good: return .verified
        case .damaged: return .damaged
        case .gone: return .unknown
        case .failed(let error): throw error
        case nil: preconditionFailure("waiting without a deadline ended")
        }
    }

    func end(_ outcome: Outcome) { state.update { $0.outcome = outcome } }

    /// Somebody waits: the pace is off.
    func hurry() { isUrgent.store(true, ordering: .relaxed) }

    func cancel() { isCancelled.store(true, ordering: .relaxed) }

    func hash(_ fileSystem: any FileSystem, _ pacer: Pacer?) throws(DiskTierError) -> Digest {
        var hash = ContentHash(digest.algorithm)
        var offset: Int64 = 0
        while offset < size {
            if isCancelled.load(ordering: .relaxed) { throw .cancelled }
            let piece = try onDisk { () throws(FileError) in
                try fileSystem.read(file, at: offset, count: Self.pieceBytes)
            }
            if piece.isEmpty { break }
            hash.update(piece.span)
            offset += Int64(piece.count)
            state.update { $0.hashed = offset }
            if let pacer, !isUrgent.load(ordering: .relaxed) {
                guard pacer.spend(Int64(piece.count)) else { throw .cancelled }
            }
        }
        // What was hashed first may be other bytes by now.
        try requireUntouched(fileSystem)
        return hash.digest()
    }

    /// Throws when somebody has touched the file since it was opened (``FileError/isOverwritten``).
    public func requireUntouched(_ fileSystem: any FileSystem) throws(DiskTierError) {
        let now = try onDisk { () throws(FileError) in try fileSystem.status(of: file) }
        guard status.stillDescribes(now) else { throw .file(.overwritten(file.path, "pread")) }
    }
}

extension FileCheck.Outcome {
    fileprivate func isGood(_ digest: Digest) throws(DiskTierError) -> Bool {
        switch self {
        case .good: return true
        case .damaged, .gone: throw .damaged(digest)
        case .failed(let error): throw error
        }
    }
}

/// Holds work to so many bytes a second, and lets it be broken off.
final class Pacer: Sendable {
    private let bytesPerSecond: Int64?
    private let isCancelled = Monitor(false)

    init(bytesPerSecond: Int64?) {
        self.bytesPerSecond = bytesPerSecond
    }

    func cancel() { isCancelled.update { $0 = true } }

    /// Waits as long as these bytes take; false when the work is to end.
    func spend(_ bytes: Int64) -> Bool {
        guard let bytesPerSecond else { return !isCancelled.withLock { $0 } }
        let pause = Duration.nanoseconds(bytes * 1_000_000_000 / bytesPerSecond)
        return isCancelled.wait(until: .after(pause)) { $0 ? false : nil } ?? true
    }
}
