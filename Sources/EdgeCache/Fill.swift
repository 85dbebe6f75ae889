internal import DiskTier
internal import OCI
internal import Registry
internal import System
internal import Threading

/// A blob on its way from the origin into the disk tier: one for each digest, shared by every client that asks meanwhile.
///
/// It belongs to the cache. Clients come and go; its parts arrive at the origin's pace.
final class Fill: Sendable {
    enum Failure {
        /// The origin failed. What has landed is good.
        case origin(EdgeError)
        /// What the origin sent is not the blob.
        case damaged(EdgeError)
        /// The local disk failed: the blob can still be streamed past it.
        case storage
        /// Somebody else has written to the file: what clients had from it may be wrong.
        case overwritten
    }

    enum Phase {
        /// Nothing is known yet.
        case starting
        /// Bytes land; `State.map` says which of them can be read.
        case streaming(File)
        /// All bytes are there and have the digest.
        case verified(File)
        case verifiedInMemory([UInt8])
        case unknownBlob
        /// The tier had the blob after all.
        case onDisk
        case failed(Failure)
        /// Nobody waits for what is missing, or the program is about to end.
        case paused
    }

    struct State {
        var phase = Phase.starting
        /// The blob's size in bytes, once the origin has told it.
        var size: Int64?
        /// Of the origin's object.
        var etag: String?
        /// When the origin said last that it has the blob.
        var confirmed: UInt64?
        var map: PartMap?
        /// Clients that read along, or are about to.
        var members = 0
        /// When a transfer first saw that none is left.
        var leftAt: UInt64?
        /// Offsets at which readers wait, in the order in which they came.
        var waiting: [Int64] = []
        /// Jobs of the pool that run for this fill, and those that wait for a thread.
        var running = 1
        var queued = 0
        /// Of those that wait, the urgent ones.
        var queuedUrgent = 0
        /// The parts that nobody waits for may come, too.
        var readsAhead = false
        /// Everything before this offset was hashed.
        var hashed: Int64 = 0
        var isHashing = false
        /// Of a fill that has a file.
        var content: FillContent?
        var isConcluded = false
        /// No thread touches it any more.
        var isOver = false
    }

    let digest: Digest
    /// Where the first client wants to read.
    let near: Int64
    /// From before the origin was asked.
    let stamp: DiskTier.Stamp
    let state = Monitor(State())

    init(_ digest: Digest, near: Int64, since stamp: DiskTier.Stamp) {
        self.digest = digest
        self.near = near
        self.stamp = stamp
    }

    func update(_ body: (inout State) -> Void) {
        state.update { body(&$0) }
    }

    /// The blob's size, once it is known, and how much of it is there.
    var progress: (size: Int64?, available: Int64) { state.withLock { ($0.size, $0.map?.landed.bytes ?? 0) } }

    /// Ends it in vain, unless it has ended already; false then.
    @discardableResult
    func fail(_ failure: Failure) -> Bool {
        state.update { state in
            guard state.phase.isLive else { return false }
            state.phase = .failed(failure)
            return true
        }
    }

    /// It still fetches.
    var isLive: Bool { state.withLock { $0.phase.isLive } }

    var isInVain: Bool { state.withLock { $0.phase.isInVain } }

    var isOver: Bool { state.withLock { $0.isOver } }

    /// Somebody else may have written to its file, as far as can be told.
    var isSuspect: Bool {
        let content = state.withLock { $0.phase.isLive ? $0.content : nil }
        let isSuspect = (try? content?.isSuspect()) ?? false
        // What ends it changes the file as well.
        return state.withLock { $0.phase.isLive ? isSuspect : $0.phase.isOverwritten }
    }

    /// Somebody else has written to its file since all of it proved right.
    var isOverwritten: Bool {
        let content = state.withLock { $0.phase.isLive ? nil : $0.content }
        return content?.isOverwritten ?? false
    }

    /// Waits until all bytes have proved right, or it has ended.
    func waitUntilProved(_ deadline: Deadline = .never) {
        _ = state.wait(until: deadline) { $0.phase.isLive ? nil : true }
    }

    func waitUntilOver(_ deadline: Deadline) {
        _ = state.wait(until: deadline) { $0.isOver ? true : nil }
    }
}

extension Fill.Phase {
    /// It may still become the blob.
    var isLive: Bool {
        switch self {
        case .starting, .streaming: true
        case .verified, .verifiedInMemory, .unknownBlob, .onDisk, .failed, .paused: false
        }
    }

    var isOverwritten: Bool { if case .failed(.overwritten) = self { true } else { false } }

    /// It is over, and a new one may fare better.
    var isInVain: Bool {
        switch self {
        case .unknownBlob, .failed, .paused: true
        case .starting, .streaming, .verified, .verifiedInMemory, .onDisk: false
        }
    }
}

// MARK: - Clients

/// A client of a fill, from its question until its answer is through.
final class FillMember: Sendable {
    let fill: Fill

    /// `nil` when the fill has ended in vain: what it found may be no longer true.
    init?(of fill: Fill) {
        self.fill = fill
        let isWelcome = fill.state.withLock { state in
            guard !state.phase.isInVain else { return false }
            state.members += 1
            return true
        }
        if !isWelcome { return nil }
    }

    deinit { fill.state.withLock { $0.members -= 1 } }
}

extension Fill {
    /// When all bytes are here, though the tier may not have them yet.
    var verifiedSize: Int64? {
        state.withLock { state in
            switch state.phase {
            case .verified, .verifiedInMemory: state.size
            default: nil
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
            case .failed(.storage), .failed(.overwritten): .notStored(size: state.size ?? 0)
            case .failed(.origin(let error)), .failed(.damaged(let error)): .failed(error)
            case .paused: .failed(.closing)
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

    /// What is to read at `offset` right now; `nil` when nothing is there yet.
    func landed(at offset: Int64, unproved end: Int64) -> Readable? {
        state.withLock { $0.readable(at: offset, unproved: end) }
    }

    /// Waits until there is something to read at `offset`.
    ///
    /// - Parameters:
    ///   - end: the bytes behind it count only once the content is verified.
    ///   - patience: after so long the byte is fetched by itself, when its part would take longer still.
    ///   - order: called when the byte is not there and nobody fetches it, to see to it that somebody does.
    func waitForBytes(at offset: Int64, unproved end: Int64, patience: Duration, order: () -> Void) -> Readable {
        let ready: Readable? = state.withLock { state in
            if let readable = state.readable(at: offset, unproved: end) { return readable }
            state.waiting.append(offset)
            return nil
        }
        if let ready { return ready }
        order()
        var distance = state.withLock { $0.map?.distance(to: offset) }
        while true {
            let readable: Readable? = state.wait(until: .after(patience)) { state in
                guard let readable = state.readable(at: offset, unproved: end) else { return nil }
                if let index = state.waiting.firstIndex(of: offset) { state.waiting.remove(at: index) }
                return readable
            }
            if let readable { return readable }
            if state.withLock({ $0.cutSlowPart(before: offset, &distance) }) { order() }
        }
    }
}

extension Fill.State {
    /// Cuts the part that brings the byte at `offset` when it would not come there in the time that it had since the call before.
    ///
    /// - Parameter distance: what it had to bring before that byte then, and has now.
    fileprivate mutating func cutSlowPart(before offset: Int64, _ distance: inout Int64?) -> Bool {
        let before = distance
        distance = map?.distance(to: offset)
        guard let before, let distance, distance > before - distance else { return false }
        return map?.cut(at: offset) ?? false
    }

    fileprivate func readable(at offset: Int64, unproved limit: Int64) -> Fill.Readable? {
        let size = size ?? 0
        switch phase {
        case .streaming(let file):
            guard let end = map?.landed.end(from: offset).map({ min($0, limit) }), end > offset else { return nil }
            return .bytes(in: file, count: end - offset)
        case .verified(let file):
            return .bytes(in: file, count: size - offset)
        case .failed(.origin(let error)), .failed(.damaged(let error)):
            return .failed(error)
        case .failed(.storage), .failed(.overwritten):
            return .storageFailed
        case .paused:
            return .failed(.closing)
        case .starting, .unknownBlob, .onDisk, .verifiedInMemory:
            preconditionFailure("a reader came before the fill was open")
        }
    }
}
