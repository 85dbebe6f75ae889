internal import DiskTier
internal import Logging
internal import OCI
internal import ObjectStorage
internal import Registry
internal import Synchronization
internal import System
internal import Threading

/// Fetches one part of a fill, on a thread of the pool: writes each block as it lands, lets readers have it, hashes what is next.
///
/// The first part of a fill opens it: its answer tells the blob's size.
final class PartTransfer {
    /// A transfer that broke is taken up where it stopped when at least so much of it had come: the store has repeated what may help, and an
    /// origin that gives a few bytes each time would never be done.
    static let progressBytes: Int64 = 64 << 10
    /// A block that is not full is written after so long, so that a reader of a slow origin need not wait for the rest.
    static let patienceNanoseconds: UInt64 = 5_000_000
    /// Blocks that a transfer may hash before it takes the next from the origin.
    static let hashedBlocks = 8

    /// So much comes before the parts that nobody waits for yet are begun, unless a reader goes on before: they would take the processor from
    /// the client who waits for the first bytes.
    static let headStartBytes: Int64 = 1 << 20

    /// Why a closure of ours ended the transfer.
    private enum Stop: Error {
        /// The program is about to end, or the fill has.
        case cancelled
        /// The origin's object is another one than when the fill began.
        case changed
        /// Another transfer fetches the rest of the part.
        case cut
        /// The bytes have nowhere to go.
        case storage(DiskTierError)
        /// The first part must be another one, or what an earlier fill left is of no use.
        case startOver
        /// The origin does not give parts.
        case takeWhole
    }

    private let fills: Fills
    private let fill: Fill
    /// `nil` until the blob is known to lie in a file.
    private var content: FillContent?
    private var isOpen: Bool
    /// The other parts have not been begun yet.
    private var isOpening = false
    /// What is asked of the origin; `nil` is the whole.
    private var range: Range<Int64>?
    private var start: Int64
    /// The next byte from the origin, and where the part ends.
    private var position: Int64
    private var end: Int64
    private var isCut = false
    /// What landed before is noted.
    private var noted: Int64
    private var memory: [UInt8] = []
    /// Bytes before `position` that are not written yet.
    private var block: [UInt8] = []
    private var writtenAt: UInt64 = 0
    private var stop: Stop?

    /// A part of a fill that is open.
    init(_ fills: Fills, _ fill: Fill, _ part: Range<Int64>) {
        self.fills = fills
        self.fill = fill
        content = fill.state.withLock { $0.content }
        isOpen = true
        (range, start, position, end) = (part, part.lowerBound, part.lowerBound, part.upperBound)
        noted = start
    }

    /// The first part. An empty one only asks whether the origin has the blob, by way of the byte that is there.
    ///
    /// - Parameter content: what an earlier fill left.
    init(opening fill: Fill, _ part: Range<Int64>, of content: FillContent?, _ fills: Fills) {
        self.fills = fills
        self.fill = fill
        self.content = content
        isOpen = false
        isOpening = true
        (start, position, end) = (part.lowerBound, part.lowerBound, part.upperBound)
        range = start..<max(end, start + 1)
        noted = start
    }

    func run() {
        defer {
            landRest()
            beginOthers()
            fill.finishPart(at: start, upTo: position)
            if let content { fills.settle(fill, content) }
        }
        do throws(EdgeError) {
            try transfer()
            guard isOpen, content == nil else { return }
            fills.complete(fill, memory)
        } catch {
            switch stop {
            case nil where !isCancelled(): fills.originFailed(fill, error)
            case nil, .cancelled, .cut, .startOver, .takeWhole: fill.fail(.origin(.closing))
            case .changed: fills.damaged(fill, .originChanged(fill.digest))
            case .storage(let error): fills.storageFailed(fill, error)
            }
        }
    }

    private func transfer() throws(EdgeError) {
        while true {
            let before = position
            do throws(RegistryError) {
                try fills.registry.streamBlob(fill.digest, range: range, isCancelled: isCancelled) { info in
                    try stopping { () throws(Stop) in try self.begin(info) }
                } receive: { piece in
                    try stopping { () throws(Stop) in try self.accept(piece) }
                }
                try stopping { () throws(Stop) in try self.flush() }
                guard position < end else { return }
                throw short(end - position)
            } catch {
                if case .cut? = stop { return }
                if case .startOver? = stop {
                    startOver(at: 0..<fills.limits.partBytes)
                    continue
                }
                if case .takeWhole? = stop {
                    startOver(at: nil)
                    continue
                }
                if stop == nil, !isOpen {
                    if case .notFound = error { return fills.foundNowhere(fill) }
                    if range != nil, error.isInvalidRange {
                        // An empty blob has no ranges.
                        startOver(at: position == 0 ? nil : 0..<fills.limits.partBytes)
                        continue
                    }
                }
                guard stop == nil, error.isRetryable, position - before >= Self.progressBytes else {
                    throw .origin(error)
                }
                range = position..<end
                fills.log.info(
                    "taking up a broken fill",
                    metadata: ["digest": "\(fill.digest)", "offset": "\(position)", "error": "\(error)"]
                )
            }
        }
    }

    /// Whoever goes on with what a failed fill has left waits for its last transfer, which may wait for a silent origin. One that brought all
    /// it should ends by itself, and leaves a connection to use again.
    private var isCancelled: @Sendable () -> Bool {
        { [fills, fill] in fills.isClosing || fill.isInVain }
    }

    /// Remembers why it ends: what comes back is the store's error.
    private func stopping(_ body: () throws(Stop) -> Void) throws(RegistryError) {
        do throws(Stop) {
            try body()
        } catch {
            stop = error
            throw .notFound("\(error)")
        }
    }

    private func short(_ bytes: Int64) -> RegistryError {
        let (store, key) = (fills.registry.store.description, fills.registry.layout.blob(fill.digest))
        return .store(StoreError(.get, in: store, key: key, .damagedBody, "\(bytes) bytes are missing"))
    }

    private func startOver(at part: Range<Int64>?) {
        // Its file goes when no lock is held.
        let useless = content
        defer { withExtendedLifetime(useless) {} }
        stop = nil
        content = nil
        range = part
        (start, position, end, noted) = (0, 0, part?.upperBound ?? .max, 0)
        fill.update { state in
            (state.content, state.map, state.hashed, state.confirmed) = (nil, nil, 0, nil)
        }
    }
}

// MARK: - The head

extension PartTransfer {
    private func begin(_ info: ObjectInfo) throws(Stop) {
        if fills.isClosing { throw .cancelled }
        writtenAt = fills.time.monotonicNanoseconds()
        guard !isOpen else {
            guard isUnchanged(info) else { throw .changed }
            return
        }
        guard position < info.size || info.size == 0 else { throw .startOver }
        if info.cameWhole { throw .takeWhole }
        if let content {
            guard content.size == info.size, content.etag == info.etag else { throw .startOver }
        } else {
            end = min(end, info.size)
            guard info.size > fills.tier.inlineLimitBytes else {
                guard position == 0 else { throw .startOver }
                isOpen = true
                return fill.update { state in
                    (state.size, state.etag) = (info.size, info.etag)
                }
            }
        }
        try open(info)
    }

    private func isUnchanged(_ info: ObjectInfo) -> Bool {
        let now = writtenAt
        return fill.state.withLock { state in
            guard state.size == info.size && state.etag == info.etag else { return false }
            state.confirmed = now
            return true
        }
    }

    private func open(_ info: ObjectInfo) throws(Stop) {
        let content: FillContent
        do throws(DiskTierError) {
            content = if let known = self.content { known } else { try newContent(info) }
        } catch {
            fill.update { $0.size = info.size }
            throw .storage(error)
        }
        self.content = content
        fill.state.withLock { $0.confirmed = writtenAt }
        fill.open(content, position..<end, fills.limits.partBytes)
        isOpen = true
        fills.schedule(fill)
    }

    private func newContent(_ info: ObjectInfo) throws(DiskTierError) -> FillContent {
        let noteRoom = FillNote.roomBytes(for: info.size)
        let file = try fills.tier.newFile(fills.tier.reserve(info.size + noteRoom), noteRoom: noteRoom)
        do throws(FileError) {
            return try FillContent(fill.digest, size: info.size, etag: info.etag, file, in: fills.fileSystem)
        } catch {
            throw .file(error)
        }
    }
}

// MARK: - The body

extension PartTransfer {
    private func accept(_ piece: Span<UInt8>) throws(Stop) {
        fills.counters.originBytes.wrappingAdd(Int64(piece.count), ordering: .relaxed)
        guard content != nil else {
            let wanted = piece.extracting(first: Int(min(Int64(piece.count), end - position)))
            memory.append(wanted)
            position += Int64(wanted.count)
            return
        }
        let blockBytes = Int(FillContent.blockBytes)
        var rest = piece
        while !rest.isEmpty, position < end {
            let room = min(blockBytes - Int(position % FillContent.blockBytes), Int(end - position))
            let next = rest.extracting(first: min(room, rest.count))
            rest = rest.extracting(droppingFirst: next.count)
            if block.isEmpty { block.reserveCapacity(blockBytes) }
            block.append(next)
            position += Int64(next.count)
            if next.count == room || isDue { try flush() }
        }
    }

    /// Small blocks at the start, so that the first reader does not wait.
    private var isDue: Bool {
        let written = position - Int64(block.count) - start
        if Int64(block.count) >= written / 4 { return true }
        return fills.time.monotonicNanoseconds() > writtenAt + Self.patienceNanoseconds
    }

    private func flush() throws(Stop) {
        guard let content, !block.isEmpty else { return }
        if fills.isClosing || !fill.isLive { throw .cancelled }
        let start = position - Int64(block.count)
        do throws(FileError) {
            try content.write(block, at: start)
        } catch {
            throw .storage(.file(error))
        }
        if position % FillContent.blockBytes == 0 || position == end { note(content) }
        fill.land(start..<position)
        fills.settle(fill, content, block, at: start, blocks: Self.hashedBlocks)
        block.removeAll(keepingCapacity: true)
        writtenAt = fills.time.monotonicNanoseconds()
        if isOpening, position - self.start >= min(Self.headStartBytes, fills.limits.partBytes / 4) { beginOthers() }
        try heedCut()
    }

    private func beginOthers() {
        guard isOpening else { return }
        isOpening = false
        fills.readAhead(fill)
    }
}

extension PartTransfer {
    /// Where the part ends now. A cut is made so far ahead that no byte behind it has come before this look.
    private func heedCut() throws(Stop) {
        if let now = fill.endOfPart(at: start, from: position, now: writtenAt, fills.limits), now < end {
            (end, isCut) = (now, true)
        }
        if isCut, position == end { throw .cut }
    }

    /// What came before the transfer ended need not be fetched again.
    private func landRest() {
        guard let content else { return }
        let start = position - Int64(block.count)
        do throws(FileError) {
            if !block.isEmpty { try content.write(block, at: start) }
        } catch {
            // Then it is.
            position = start
            block = []
        }
        note(content)
        fill.land(start..<position)
        block = []
    }

    /// Whoever is the last to land bytes finds all noted.
    private func note(_ content: FillContent) {
        guard noted < position else { return }
        fills.note(content, noted..<position, from: block)
        noted = position
    }
}

extension RegistryError {
    fileprivate var isInvalidRange: Bool {
        if case .store(let error) = self, case .invalidRange = error.kind { true } else { false }
    }
}
