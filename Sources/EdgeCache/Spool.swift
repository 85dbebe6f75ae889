internal import DiskTier
internal import Hashing
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import System

/// The bytes of one upload on their way in, hashed as they arrive: small ones in memory, larger ones in a reserved file of the tier, from
/// which whole parts go to the origin meanwhile. When the disk has no room, the parts go to the origin straight from memory.
///
/// Not thread-safe: the session sees to it that one request uses it at a time.
final class Spool {
    /// How much room is reserved at once when a client does not say how much it sends.
    private static let reservationStepBytes: Int64 = 8 << 20
    /// What is written to the file at once.
    private static let writeBytes: Int64 = 1 << 20
    /// So often a file that others change meanwhile is sent.
    private static let sendings = 3

    /// Where a chunk began, to come back to when it fails.
    private struct Base: ~Copyable {
        let hash: ContentHash
        var size: Int64
        /// What of it is in memory alone.
        var tail: [UInt8] = []
    }

    let remote: RemoteUpload
    private let tools: UploadTools
    private let algorithm: DigestAlgorithm
    /// Of the session; `nil` where nobody comes back to the upload.
    private let id: String?
    private let room: Reservation
    private var reserved: Int64 = 0
    private var hash: ContentHash
    private var base: Base
    /// All bytes, as long as there is no file; the ones past the last whole part once parts go to the origin from here.
    private var memory: [UInt8] = []
    private var incoming: IncomingFile?
    private var writer: FileWriter?
    private(set) var size: Int64 = 0
    /// Parts go to the origin without a file.
    private(set) var isPassing = false
    /// An earlier run has left the file; it is not open yet.
    private var isAsleep = false
    /// The right to do so, and to hold a part in memory for it: as long as the upload lasts, also while nobody sends.
    private var passage: UploadTools.Passage?

    /// - Parameter id: of the session; `nil` for an upload in one request.
    init(_ algorithm: DigestAlgorithm, named id: String? = nil, _ tools: UploadTools) {
        self.tools = tools
        self.algorithm = algorithm
        self.id = id
        room = Self.room(id, tools)
        hash = ContentHash(algorithm)
        base = Base(hash: ContentHash(algorithm), size: 0)
        remote = RemoteUpload(tools, id: id)
    }

    /// As an earlier run has left it; `nil` when that cannot be taken up again. The file is not opened yet.
    init?(resuming record: UploadRecord, named id: String, _ tools: UploadTools) {
        guard let hash = ContentHash(record.algorithm, resuming: record.hashState) else { return nil }
        if record.isPassing {
            // Bytes that may not be what was written cannot be hashed again: the origin has them.
            guard tools.journal.isOfThisBoot(record.boot), let passage = tools.takePassage() else { return nil }
            self.passage = passage
        }
        self.tools = tools
        self.id = id
        room = Self.room(id, tools)
        base = Base(hash: hash.copy(), size: record.offset)
        self.hash = hash
        algorithm = record.algorithm
        size = record.offset
        reserved = record.isInFile ? size : 0
        memory = record.tail
        isAsleep = record.isInFile
        isPassing = record.isPassing
        remote = RemoteUpload(tools, id: id, resuming: record.remote)
    }

    private static func room(_ id: String?, _ tools: UploadTools) -> Reservation {
        id.map { tools.journal.room(of: UploadJournal.dataName($0)) } ?? tools.tier.newUploadReservation()
    }
}

// MARK: - Sessions

extension Spool {
    /// Makes sure of what earlier requests have left, and opens what an earlier run has; false when it is not there any more.
    func wake() throws(EdgeError) -> Bool {
        if isPassing { return remote.has(upTo: size) && memory.count == size - remote.grid.start(of: size) }
        guard isAsleep, let id else {
            try prove()
            return true
        }
        let file = try onDisk { () throws(DiskTierError) in
            try tools.tier.reopenUploadFile(UploadJournal.dataName(id), size: size, room)
        }
        guard let file else { return false }
        // Nobody has watched over it meanwhile.
        file.watch.distrust()
        writer = newWriter(file.watch, at: size)
        incoming = file
        isAsleep = false
        guard try proves(file.watch) else { throw .uploadDamaged(file.file.path) }
        return true
    }

    /// What the next run needs to go on from here; ``settle()`` went before.
    func record(_ repository: RepositoryName, lastUsed: Int64, verified: Digest?) -> UploadRecord {
        UploadRecord(
            repository: repository,
            algorithm: algorithm,
            offset: size,
            lastUsed: lastUsed,
            verified: verified,
            hashState: hash.state,
            tail: memory,
            isPassing: isPassing,
            boot: tools.journal.boot,
            remote: remote.record(upTo: size)
        )
    }

    /// Everything so far counts from now on, and is where a record finds it.
    func settle() throws(EdgeError) {
        try flush()
        sendAhead()
        if isPassing { try atOrigin { () throws(RegistryError) in try remote.settle() } }
        base = Base(hash: hash.copy(), size: size, tail: isPassing ? memory : [])
    }

    /// Everything so far is in the file, if there is one.
    private func flush() throws(EdgeError) {
        do throws(FileError) {
            try writer?.flush()
        } catch {
            try pass(by: .file(error))
        }
    }

    /// Forgets everything since ``settle()``.
    func rewind() throws(EdgeError) {
        hash = base.hash.copy()
        size = base.size
        if isPassing {
            remote.rewind(to: base.size)
            memory = base.tail
        } else if let incoming {
            remote.rewind(to: base.size)
            writer = newWriter(incoming.watch, at: size)
            try onDisk { () throws(DiskTierError) in try incoming.cut(to: size) }
            reserved = size
        } else {
            memory.removeLast(memory.count - Int(size))
        }
    }
}

// MARK: - Bytes

extension Spool {
    /// Makes sure that `bytes` more have a place, where the client announced how many come.
    func expect(_ bytes: Int64) throws(EdgeError) {
        guard !isPassing else { return }
        do throws(DiskTierError) {
            try reserve(bytes)
        } catch {
            try pass(by: error)
        }
    }

    private func reserve(_ bytes: Int64) throws(DiskTierError) {
        let needed = size + bytes - reserved
        guard size + bytes > Int64(tools.tier.inlineLimitBytes), needed > 0 else { return }
        if let incoming {
            try incoming.grow(by: needed)
        } else {
            try room.grow(by: needed)
        }
        reserved += needed
    }

    func append(_ bytes: Span<UInt8>) throws(EdgeError) {
        hash.update(bytes)
        let start = size
        size += Int64(bytes.count)
        guard !isPassing else { return try sendOn(bytes) }
        do throws(DiskTierError) {
            try keep(bytes)
        } catch {
            let kept = Int(stored - start)
            try pass(by: error)
            try sendOn(bytes.extracting(droppingFirst: kept))
        }
        sendAhead()
    }

    private func sendAhead() {
        if let file = incoming?.file, let written = writer?.written { remote.advance(file, written) }
    }

    /// How many bytes are in memory or in the file.
    private var stored: Int64 { writer?.offset ?? Int64(memory.count) }

    private func keep(_ bytes: Span<UInt8>) throws(DiskTierError) {
        if incoming == nil {
            guard size > tools.tier.inlineLimitBytes else { return memory.append(bytes) }
            try spill()
        }
        if size > reserved { try reserve(Self.reservationStepBytes) }
        do throws(FileError) {
            try writer?.append(bytes)
        } catch {
            throw .file(error)
        }
    }

    /// Too large for memory: from here on a file takes it.
    private func spill() throws(DiskTierError) {
        if size > reserved { try reserve(0) }
        let file =
            if let id {
                try tools.tier.newUploadFile(UploadJournal.dataName(id), room)
            } else {
                try tools.tier.newFile(room)
            }
        let start = memory
        writer = newWriter(file.watch, at: 0)
        do throws(FileError) {
            try writer?.append(start.span)
            try writer?.flush()
        } catch {
            writer = nil
            throw .file(error)
        }
        memory = []
        incoming = file
    }

    /// The disk has no room for it, or does not take it: from here on whole parts go to the origin straight from memory.
    private func pass(by error: DiskTierError) throws(EdgeError) {
        guard error.isOfTheDisk || error.isNoSpace, let passage = tools.takePassage() else { throw .tier(error) }
        if let file = incoming?.file {
            guard let written = writer?.written, let unwritten = writer?.unwritten else {
                preconditionFailure("a file without its writer")
            }
            try atOrigin { () throws(RegistryError) in try remote.empty(file, written) }
            memory = try read(file, remote.grid.start(of: written)..<written) + unwritten
            base.tail = try read(file, remote.grid.start(of: base.size)..<base.size)
            // From here on nothing is there that could be hashed again.
            guard try !isSuspect() else { throw .uploadDamaged(file.path) }
        } else {
            base.tail = Array(memory.prefix(Int(base.size)))
        }
        let kept = stored
        self.passage = passage
        isPassing = true
        writer = nil
        incoming = nil
        if let id { tools.tier.removeUploadFile(UploadJournal.dataName(id), room) } else { room.release() }
        reserved = 0
        try sendWhole(endingAt: kept)
    }

    private func sendOn(_ bytes: Span<UInt8>) throws(EdgeError) {
        var rest = bytes
        while !rest.isEmpty {
            let position = size - Int64(rest.count)
            let part = remote.grid.range(remote.grid.index(of: position))
            let piece = rest.extracting(first: Int(min(part.upperBound - position, Int64(rest.count))))
            if memory.isEmpty { memory.reserveCapacity(Int(part.upperBound - part.lowerBound)) }
            memory.append(piece)
            rest = rest.extracting(droppingFirst: piece.count)
            try sendWhole(endingAt: position + Int64(piece.count))
        }
    }

    /// Hands over the whole parts of what is in memory, whose last byte is before `end`.
    private func sendWhole(endingAt end: Int64) throws(EdgeError) {
        while true {
            let index = remote.grid.index(of: end - Int64(memory.count))
            let length = Int(remote.grid.range(index).count)
            guard memory.count >= length else { return }
            let part = memory.count == length ? memory : Array(memory.prefix(length))
            memory = memory.count == length ? [] : Array(memory.dropFirst(length))
            try atOrigin { () throws(RegistryError) in try remote.hand(index, part) }
        }
    }
}

// MARK: - The end

extension Spool {
    /// The digest of everything so far, in whatever algorithm the client names in the end.
    func digest(_ algorithm: DigestAlgorithm) throws(EdgeError) -> Digest {
        if algorithm == self.algorithm { return hash.digest() }
        try flush()
        if isPassing { throw .algorithm(named: algorithm, hashed: self.algorithm) }
        guard let file = incoming?.file else { return Digest(of: memory, algorithm) }
        try prove()
        return try onDisk { () throws(FileError) in try digest(of: file, algorithm) }
    }

    /// Brings everything to the origin under its digest, which the caller has verified, unless it is there already; ``settle()`` went
    /// before.
    ///
    /// - Parameter isMissing: it is known not to be there.
    func push(as digest: Digest, isMissing: Bool) throws(EdgeError) {
        for _ in 0..<Self.sendings {
            try prove()
            do throws(EdgeError) {
                return try send(as: digest, isMissing: isMissing)
            } catch {
                // It may be no fault of the origin's.
                guard try isSuspect() else { throw error }
            }
        }
        throw .uploadDamaged(incoming?.file.path ?? "")
    }

    private func send(as digest: Digest, isMissing: Bool) throws(EdgeError) {
        remote.name(digest)
        let isInParts = remote.upload != nil || isPassing && size > memory.count
        guard isInParts || size > tools.registry.store.multipart.thresholdBytes else {
            return try put(digest, isMissing: isMissing || tools.damages.contains(digest))
        }
        try atOrigin { () throws(RegistryError) in
            if !isMissing, try tools.lengthAtOrigin(digest) == size {
                remote.abort()
            } else if let file = incoming?.file {
                try remote.finish(file, size: size, as: digest) { isTrusted }
            } else {
                try remote.finish(memory, size: size, as: digest)
            }
        }
    }

    private func put(_ digest: Digest, isMissing: Bool) throws(EdgeError) {
        guard let file = incoming?.file else {
            return try atOrigin { () throws(RegistryError) in
                _ = try tools.registry.pushBlob(digest, from: .bytes(memory), isMissing: isMissing)
            }
        }
        let body = ObjectBody.file(file, offset: 0, length: size, digest: digest)
        let isNew = try atOrigin { () throws(RegistryError) in
            try tools.registry.pushBlob(digest, from: body, isMissing: isMissing)
        }
        guard isNew, try isSuspect() else { return }
        // Not every origin hashes what it takes.
        let etag = try atOrigin { () throws(RegistryError) in try tools.registry.blobInfo(digest)?.etag }
        tools.damages.insert(digest, etag: etag)
        throw .uploadDamaged(file.path)
    }

    /// Makes the content part of the tier; false when it was deleted meanwhile, or when the tier has no room for it. The spool is spent.
    func commit(as digest: Digest, since stamp: DiskTier.Stamp) throws(DiskTierError) -> Bool {
        if let incoming = incoming.take() {
            guard isTrusted else {
                let metadata: Logger.Metadata = ["digest": "\(digest)"]
                tools.log.notice("not kept on disk: another process has touched the file", metadata: metadata)
                return false
            }
            return try incoming.commit(as: digest, size: size, since: stamp)
        }
        guard !isPassing else { return false }
        return try tools.tier.insertInline(digest, memory, since: stamp)
    }

    /// Ends what is at the origin and in the tier.
    func discard() {
        remote.abort()
        writer = nil
        // Without a session, its file goes with it.
        incoming = nil
        if let id { tools.journal.remove(id) } else { room.release() }
        passage = nil
    }
}

// MARK: - Other processes

extension Spool {
    /// Somebody else may have written to the file.
    private func isSuspect() throws(EdgeError) -> Bool {
        try onDisk { () throws(FileError) in try writer?.watch.isSuspect() ?? false }
    }

    /// Nobody else has written to the file, as far as can be told: what cannot be looked at is suspect.
    private var isTrusted: Bool { (try? isSuspect()) == false }

    /// Whether the file has what was written to it.
    private func isAsWritten() throws(EdgeError) -> Bool {
        guard let watch = writer?.watch, try isSuspect() else { return true }
        let metadata: Logger.Metadata = ["file": "\(watch.file.path)"]
        tools.log.notice("another process has touched the file of an upload: it is hashed again", metadata: metadata)
        // What was sent of it may be something else.
        remote.abort()
        return try proves(watch)
    }

    private func prove() throws(EdgeError) {
        guard try !isAsWritten(), let file = incoming?.file else { return }
        throw .uploadDamaged(file.path)
    }

    private func proves(_ watch: WriteWatch) throws(EdgeError) -> Bool {
        try onDisk { () throws(FileError) in
            try watch.proves { () throws(FileError) in try digest(of: watch.file, algorithm) == hash.digest() }
        }
    }

    private func digest(of file: File, _ algorithm: DigestAlgorithm) throws(FileError) -> Digest {
        var hash = ContentHash(algorithm)
        var offset: Int64 = 0
        while offset < size {
            let piece = try tools.fileSystem.read(file, at: offset, count: Int(min(1 << 20, size - offset)))
            // Cut short: it has another digest.
            if piece.isEmpty { break }
            hash.update(piece.span)
            offset += Int64(piece.count)
        }
        return hash.digest()
    }
}

// MARK: - Helpers

extension Spool {
    /// A part is in the file as soon as its last byte has come.
    private func newWriter(_ watch: WriteWatch, at offset: Int64) -> FileWriter {
        FileWriter(watch, at: offset, capacity: Int(min(Self.writeBytes, remote.grid.partBytes)))
    }

    private func read(_ file: File, _ range: Range<Int64>) throws(EdgeError) -> [UInt8] {
        let bytes = try onDisk { () throws(FileError) in
            try tools.fileSystem.read(file, at: range.lowerBound, count: range.count)
        }
        guard bytes.count == range.count else { throw .uploadDamaged(file.path) }
        return bytes
    }

    private func onDisk<Answer>(_ body: () throws(FileError) -> Answer) throws(EdgeError) -> Answer {
        do throws(FileError) {
            return try body()
        } catch {
            throw .tier(.file(error))
        }
    }

    private func onDisk<Answer>(_ body: () throws(DiskTierError) -> Answer) throws(EdgeError) -> Answer {
        do throws(DiskTierError) {
            return try body()
        } catch {
            throw .tier(error)
        }
    }

    private func atOrigin<Answer>(_ body: () throws(RegistryError) -> Answer) throws(EdgeError) -> Answer {
        do throws(RegistryError) {
            return try body()
        } catch {
            // It is not the origin that failed where our own file could not be read.
            if let reason = error.fileError, reason.path == incoming?.file.path { throw .tier(.file(reason)) }
            throw .origin(error)
        }
    }
}

extension RegistryError {
    fileprivate var fileError: FileError? {
        guard case .store(let error) = self, case .file(let reason) = error.kind else { return nil }
        return reason
    }
}
