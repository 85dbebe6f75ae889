internal import AdminAPI
internal import Settings
internal import System

extension CacheOptions {
    /// Carries out a request that changes or checks something, and sums up what was done.
    func perform(_ request: CacheRequest, done verb: String) async throws {
        try await perform(request) { event in
            guard json else {
                if let done = event.done { return writeToStandardOutput("\(verb) \(done.summary)\n") }
                return true
            }
            return writeToStandardOutput(String(decoding: event.line, as: UTF8.self))
        }
    }

    /// Carries out a request; `show` gets every event, and ends the work with false. Progress and problems are shown here.
    func perform(_ request: CacheRequest, show: (CacheEvent) -> Bool) async throws {
        let settings = try Settings(await flags.effective())
        let line = ProgressLine()
        var rate = TransferRate()
        var problems = 0
        var failure: CacheFailure?
        try CacheSession(settings: settings).perform(request) { event in
            if let progress = event.progress, !json { line.show(rate.describe(progress)) }
            if let problem = event.problem, !json {
                line.interrupt()
                writeToStandardError("forebay: \(problem.what): \(problem.reason)\n")
            }
            if event.isLast { line.end() }
            problems = event.done?.problems ?? problems
            failure = event.error ?? failure
            return show(event)
        }
        switch failure?.kind {
        case nil: if problems > 0 { throw WithProblems() }
        case .invalid: throw SettingsError(failure?.message ?? "")
        case .unavailable: throw Unavailable(description: failure?.message ?? "")
        case .failed, .cancelled:
            writeToStandardError("forebay: \(failure?.message ?? "")\n")
            throw WithProblems()
        }
    }
}

extension CacheEvent {
    var isLast: Bool { done != nil || error != nil }
}

extension CacheEvent.Done {
    fileprivate var summary: String {
        var parts = [counted(blobs, "blob")]
        if manifests > 0 { parts.append(counted(manifests, "manifest")) }
        parts.append(readableSize(bytes))
        if problems > 0 { parts.append(counted(problems, "problem")) }
        return parts.joined(separator: ", ") + present
    }

    private var present: String {
        guard let presentBlobs, presentBlobs > 0 else { return "" }
        let verb = presentBlobs == 1 ? "was" : "were"
        return "; \(counted(presentBlobs, "blob")), \(readableSize(presentBytes ?? 0)), \(verb) here already"
    }

    private func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
}

/// How fast it goes, over the whole time so far.
private struct TransferRate {
    private let start = ContinuousClock.now
    private var first: Int64?

    mutating func describe(_ progress: CacheEvent.Progress) -> String {
        let before = first ?? progress.bytes
        first = before
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        let text =
            "\(progress.blobs) of \(progress.totalBlobs) blobs, \(readableSize(progress.bytes)) of \(readableSize(progress.totalBytes))"
        // Before anything has moved, nobody knows how fast it goes.
        guard seconds > 0, progress.bytes > before else { return text }
        return "\(text), \(readableSize(Int64(Double(progress.bytes - before) / seconds)))/s"
    }
}

/// `512 B`, `4.0 KiB`, `27 MiB`: three digits at most.
func readableSize(_ bytes: Int64) -> String {
    var (value, unit) = (Double(bytes), 0)
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1000, unit + 1 < units.count {
        value /= 1024
        unit += 1
    }
    if unit == 0 || value >= 10 { return "\(Int(value.rounded())) \(units[unit])" }
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10) \(units[unit])"
}

/// Lists on standard output: columns for people, events for programs. Written in large pieces.
final class EntryTable {
    private static let pieceBytes = 16 << 10

    private let isJSON: Bool
    private var text = ""
    private var hasHead = false

    init(isJSON: Bool) {
        self.isJSON = isJSON
    }

    func show(_ entry: CacheEvent.Entry, _ event: CacheEvent) -> Bool {
        let place = entry.availableBytes.map { "\(readableSize($0)) so far" } ?? entry.place ?? ""
        var marks: [String] = []
        if entry.isPinned == true { marks.append("pinned") }
        if entry.isVerified == false { marks.append("unverified") }
        return show(
            event,
            head: ["KIND", "SIZE", "PLACE", "MARKS", "DIGEST OR NAME"],
            [
                entry.kind.rawValue, entry.size.map(readableSize) ?? "", place, marks.joined(separator: ","),
                entry.name ?? entry.digest ?? "",
            ] + (entry.kind == .tag ? [entry.digest ?? ""] : [])
        )
    }

    func show(_ part: CacheEvent.Part, _ event: CacheEvent) -> Bool {
        show(
            event,
            head: ["ROLE", "SIZE", "CACHED", "PINNED", "DIGEST"],
            [
                part.role, readableSize(part.size), part.isCached ? "yes" : "no", part.isPinned ? "yes" : "",
                part.digest,
            ] + (part.platform.map { [$0] } ?? [])
        )
    }

    func show(_ totals: CacheEvent.Totals, _ event: CacheEvent) -> Bool {
        guard !isJSON else { return put(String(decoding: event.line, as: UTF8.self)) }
        let rows: [(String, String?)] = [
            ("directory", totals.directory),
            ("used", "\(readableSize(totals.usedBytes)) of \(readableSize(totals.ceilingBytes))"),
            ("  reserved", readableSize(totals.reservedBytes)),
            ("  index", "\(readableSize(totals.indexBytes)), \(readableSize(totals.indexLiveBytes)) in use"),
            (
                "free on disk",
                totals.volumeAvailableBytes.map {
                    "\(readableSize($0)), of which \(readableSize(totals.volumeFloorBytes)) stay free"
                }
            ),
            ("blobs", "\(totals.blobFiles) in files, \(totals.inlineBlobs) in the index"),
            ("manifests", "\(totals.manifests)"),
            ("tags", "\(totals.tags)"),
            ("pins", "\(totals.pins), which hold \(readableSize(totals.pinnedBytes))"),
            ("evicted", totals.evictedBytes.map { "\(readableSize($0)) in \(totals.evictedBlobs ?? 0) blobs" }),
            ("fills under way", totals.fills.map { "\($0)" }),
            ("uploads open", totals.uploads.map { "\($0)" }),
            ("hits", totals.hits.map { "\($0)" }),
            ("misses", totals.misses.map { "\($0)" }),
        ]
        return put(rows.compactMap { name, value in value.map { padded(name, 17) + $0 + "\n" } }.joined())
    }

    /// What people are told elsewhere.
    func showToPrograms(_ event: CacheEvent) -> Bool {
        !isJSON || put(String(decoding: event.line, as: UTF8.self))
    }

    /// Writes what is left.
    func end() -> Bool { flush() }

    private func show(_ event: CacheEvent, head: [String], _ columns: [String]) -> Bool {
        guard !isJSON else { return put(String(decoding: event.line, as: UTF8.self)) }
        if !hasHead {
            hasHead = true
            guard put(row(head)) else { return false }
        }
        return put(row(columns))
    }

    private func row(_ columns: [String]) -> String {
        let widths = [10, 10, 8, 8]
        let cells = columns.enumerated().map { $0 < widths.count ? padded($1, widths[$0]) : $1 }
        return cells.joined(separator: "  ") + "\n"
    }

    private func put(_ line: String) -> Bool {
        text += line
        return text.utf8.count < Self.pieceBytes || flush()
    }

    private func flush() -> Bool {
        defer { text = "" }
        return text.isEmpty || writeToStandardOutput(text)
    }
}

func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
}
