internal import Threading

/// Writes the access log's lines, some milliseconds of them at once, on a thread of its own: whoever reads the log slowly must not stop the
/// loops. Lines that come while too many wait are dropped and counted, as those are that cannot be written. That is told once a minute.
final class LogWriter: Sendable {
    private struct State {
        var lines = ""
        var dropped: UInt64 = 0
        var isClosed = false
        var hasEnded = false
    }

    /// How much may wait.
    private static let limitBytes = 4 << 20
    /// So much is written before its time.
    private static let batchBytes = 64 << 10
    private static let pause: Duration = .milliseconds(20)
    private static let newsInterval: Duration = .seconds(60)

    private let state = Monitor(State())
    private let output: @Sendable (String) -> Bool
    private let report: @Sendable (_ dropped: UInt64) -> Void

    /// - Parameters:
    ///   - output: may block; false when it could not be written.
    ///   - report: told how many lines were dropped since it was told last.
    init(_ output: @escaping @Sendable (String) -> Bool, report: @escaping @Sendable (_ dropped: UInt64) -> Void) {
        self.output = output
        self.report = report
        spawnThread(name: "access-log") { self.run() }
    }

    var droppedLines: UInt64 { state.withLock { $0.dropped } }

    func write(_ line: String) {
        let isFirst = state.withLock { state in
            guard state.lines.utf8.count + line.utf8.count <= Self.limitBytes else {
                state.dropped += 1
                return false
            }
            state.lines += line
            return state.lines.utf8.count == line.utf8.count
        }
        if isFirst { state.update { _ in } }
    }

    /// Returns when all lines are written, or at the deadline.
    func close(until deadline: Deadline) {
        state.update { $0.isClosed = true }
        _ = state.wait(until: deadline) { $0.hasEnded ? true : nil }
    }

    private func run() {
        var (told, nextNews) = (UInt64(0), ContinuousClock.now)
        while true {
            _ = state.wait { state in state.isClosed || !state.lines.isEmpty ? true : nil }
            // More come soon, and one call takes them all.
            _ = state.wait(until: .after(Self.pause)) { state in
                state.isClosed || state.lines.utf8.count >= Self.batchBytes ? true : nil
            }
            let (lines, isLast) = state.withLock { state in
                let lines = state.lines
                state.lines = ""
                return (lines, state.isClosed)
            }
            if !lines.isEmpty, !output(lines) {
                let lost = lines.utf8.count { $0 == UInt8(ascii: "\n") }
                state.withLock { $0.dropped += UInt64(lost) }
            }
            let (dropped, now) = (droppedLines, ContinuousClock.now)
            if dropped > told, isLast || now >= nextNews {
                report(dropped - told)
                (told, nextNews) = (dropped, now + Self.newsInterval)
            }
            if isLast { break }
        }
        state.update { $0.hasEnded = true }
    }
}
