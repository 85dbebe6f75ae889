internal import DiskTier
internal import Hashing
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import System

/// Carries one fill from the origin to the disk tier, on one worker thread.
///
/// The steps: learn the size, reserve room, hash and write each piece as it lands, verify, let the readers have the end, commit to the
/// index.
final class FillWorker {
    /// How often in a row a transfer that broke without progress is taken up again where it stopped.
    static let maximumAttempts = 4
    /// Bytes are written once this many are there; fewer at the start, so that the first reader does not wait.
    static let writeBytes = 256 << 10
    static let firstWriteBytes: Int64 = 16 << 10

    private enum Outcome {
        case complete
        case unknownBlob
        /// The tier cannot take the blob.
        case notStored
    }

    /// Ends a transfer whose bytes have nowhere to go.
    private struct NotStored: Error {}
    /// The program is about to end.
    private struct Cancelled: Error {}
    /// The origin's object is another one than when the fill began.
    private struct ObjectChanged: Error {}

    private let fill: Fill
    private let registry: Registry
    private let tier: DiskTier
    private let fileSystem: any FileSystem
    private let log: Logger
    private let isCancelled: () -> Bool
    private let stamp: DiskTier.Stamp
    private var hash: ContentHash
    private var size: Int64 = 0
    private var received: Int64 = 0
    private var memory: [UInt8] = []
    private var incoming: IncomingFile?
    private var writer: FileWriter?
    private var isNotStored = false

    init(
        _ fill: Fill,
        registry: Registry,
        tier: DiskTier,
        fileSystem: any FileSystem,
        log: Logger,
        isCancelled: @escaping () -> Bool
    ) {
        self.fill = fill
        self.registry = registry
        self.tier = tier
        self.fileSystem = fileSystem
        self.log = log
        self.isCancelled = isCancelled
        stamp = tier.stamp()
        hash = ContentHash(fill.digest.algorithm)
    }

    func run() {
        do throws(EdgeError) {
            switch try transfer() {
            case .complete: try finish()
            case .unknownBlob: fill.update { $0.phase = .unknownBlob }
            case .notStored: fill.update { $0.phase = .failed(.storage) }
            }
        } catch {
            log.warning("fill failed", metadata: ["digest": "\(fill.digest)", "error": "\(error)"])
            fill.update { $0.phase = .failed(.origin(error)) }
        }
    }

    private func transfer() throws(EdgeError) -> Outcome {
        var attempt = 1
        while true {
            let before = received
            do throws(RegistryError) {
                try registry.streamBlob(fill.digest, range: received > 0 ? received..<size : nil) { info in
                    try self.begin(info)
                } receive: { piece in
                    try self.accept(piece)
                }
                return .complete
            } catch {
                if isNotStored { return .notStored }
                if case .notFound = error, received == 0 { return .unknownBlob }
                attempt = received > before ? 1 : attempt + 1
                guard error.isRetryable, received < size, attempt <= Self.maximumAttempts else {
                    throw .origin(error)
                }
                log.info(
                    "taking up a broken fill",
                    metadata: ["digest": "\(fill.digest)", "offset": "\(received)", "error": "\(error)"]
                )
            }
        }
    }

    private func begin(_ info: ObjectInfo) throws {
        if received > 0 {
            guard info.size == size else { throw ObjectChanged() }
            return
        }
        size = info.size
        if size <= tier.inlineLimitBytes {
            memory.removeAll()
            return fill.update { $0.size = info.size }
        }
        if incoming != nil { return }
        do {
            let file = try tier.newFile(tier.reserve(size))
            try fileSystem.allocate(file.file, size: size)
            writer = FileWriter(file.file, capacity: Self.writeBytes, in: fileSystem)
            incoming = file
            fill.update { state in
                state.size = info.size
                state.phase = .streaming(file.file)
            }
        } catch {
            fill.update { $0.size = info.size }
            try storageFailed(error)
        }
    }

    private func accept(_ piece: Span<UInt8>) throws {
        if isCancelled() { throw Cancelled() }
        hash.update(piece)
        received += Int64(piece.count)
        if writer == nil { return memory.append(piece) }
        do {
            try write(piece)
        } catch {
            try storageFailed(error)
        }
    }

    private func write(_ piece: Span<UInt8>) throws(FileError) {
        try writer?.append(piece)
        guard let written = writer?.written, let offset = writer?.offset else { return }
        if offset - written >= max(Self.firstWriteBytes, min(Int64(Self.writeBytes), written / 4)) {
            try writer?.flush()
        }
        if let now = writer?.written, now > written || offset == now { fill.update { $0.available = now } }
    }

    /// The clients go on straight from the origin; only the cache is poorer.
    private func storageFailed(_ error: any Error) throws -> Never {
        log.notice("not kept on disk", metadata: ["digest": "\(fill.digest)", "size": "\(size)", "reason": "\(error)"])
        isNotStored = true
        incoming = nil
        throw NotStored()
    }

    private func finish() throws(EdgeError) {
        let actual = hash.digest()
        guard actual == fill.digest else {
            incoming = nil
            let key = registry.layout.blob(fill.digest)
            throw .origin(.damaged(key: key, expected: fill.digest, actual: actual))
        }
        guard let incoming = incoming.take() else {
            fill.update { $0.phase = .verifiedInMemory(memory) }
            return keep { () throws(DiskTierError) in
                try tier.insertInline(fill.digest, memory, since: stamp)
            }
        }
        do throws(FileError) {
            try writer?.flush()
        } catch {
            log.notice("not kept on disk", metadata: ["digest": "\(fill.digest)", "reason": "\(error)"])
            return fill.update { $0.phase = .failed(.storage) }
        }
        fill.update { state in
            state.available = size
            state.phase = .verified(incoming.file)
        }
        keep { () throws(DiskTierError) in try incoming.commit(as: fill.digest, size: size, since: stamp) }
    }

    /// The clients have their bytes already: a tier that cannot keep them is no error of theirs.
    private func keep(_ commit: () throws(DiskTierError) -> Bool) {
        do throws(DiskTierError) {
            if try !commit() { log.info("deleted while it was filled", metadata: ["digest": "\(fill.digest)"]) }
        } catch {
            log.warning("not kept on disk", metadata: ["digest": "\(fill.digest)", "error": "\(error)"])
        }
    }
}
