internal import DiskTier
internal import Logging
internal import Synchronization
internal import System
internal import Threading

/// The first job of a fill: from here on its size is known, and its readers are answered.
struct FillOpening {
    /// So long the origin is believed to have a blob still of which a part is wanted that is here.
    static let believedFor: Duration = .seconds(10)

    let fills: Fills
    let fill: Fill

    init(_ fills: Fills, _ fill: Fill) {
        self.fills = fills
        self.fill = fill
    }

    func run() {
        fills.counters.started.wrappingAdd(1, ordering: .relaxed)
        if fills.isClosing { return fills.end(fill, .failed(.origin(.closing))) }
        if let content = resume() { open(content) } else { open() }
        if let job = fills.endJob(of: fill) { fills.work(job, of: fill) }
    }

    private func open() {
        let start = fill.near / PartMap.alignmentBytes * PartMap.alignmentBytes
        PartTransfer(opening: fill, start..<start + fills.limits.partBytes, of: nil, fills).run()
    }

    /// What an earlier fill left of this blob, entered as this one's.
    private func resume() -> FillContent? {
        do {
            guard let left = try fills.tier.resumeFill(fill.digest) else { return nil }
            let partBytes = fills.limits.partBytes
            let (content, remains) = try FillContent.resumed(left, partBytes: partBytes, in: fills.fileSystem)
            fill.resume(content, remains)
            fills.counters.resumed.wrappingAdd(1, ordering: .relaxed)
            return content
        } catch {
            let metadata: Logger.Metadata = ["digest": "\(fill.digest)", "error": "\(error)"]
            fills.log.notice("a part of a blob cannot be used", metadata: metadata)
            return nil
        }
    }

    /// Opens with what the client wants. Where that is here, the origin need only say that it has the blob still: it may be deleted.
    private func open(_ content: FillContent) {
        var part = claimWanted()
        if case .noted(let block) = part {
            fills.prove(block, of: fill)
            part = claimWanted()
        }
        if case .missing(let part) = part {
            return PartTransfer(opening: fill, part, of: content, fills).run()
        }
        let place = max(0, min(fill.near, content.size - 1))
        guard isConfirmed else { return PartTransfer(opening: fill, place..<place, of: content, fills).run() }
        fill.open(content, place..<place, fills.limits.partBytes)
        fills.readAhead(fill)
        fills.settle(fill, content)
    }

    private func claimWanted() -> PartMap.Part? {
        fill.state.withLock { $0.map?.claim(at: fill.near, limit: FillContent.blockBytes) }
    }

    private var isConfirmed: Bool {
        let now = fills.time.monotonicNanoseconds()
        return fill.state.withLock { state in state.confirmed.map { .nanoseconds(now - $0) < Self.believedFor } ?? false
        }
    }
}
