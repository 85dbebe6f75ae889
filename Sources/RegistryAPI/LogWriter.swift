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
    typealias Output = @Sendable (String) -> (written: Int, code: Int32)
    typealias Report = @Sendable (_ dropped: UInt64, _ code: Int32) -> Void

    private let output: Output
    private let report: Report

    /// - Parameters:
    ///   - output: may block; how many bytes were written, and why not all (`errno`).
    ///   - report: told how many lines were dropped since it was told last, and why the last could not be written.
    init(_ output: @escaping Output, report: @escaping Report) {
        self.output = output
        self.report = report
        spawnThread(name: "access-log") { self.run() }
    }

    var droppedLines: UInt64 { state.withLock { $0.dropped } }

    func write(_ line: String) {
        let isDue = state.withLock { state in
            let before = state.lines.utf8.count
            guard before + line.utf8.count <= Self.limitBytes else {
                state.dropped += 1
                return false
            }
            state.lines += line
            return before == 0 || before < Self.batchBytes && state.lines.utf8.count >= Self.batchBytes
        }
        if isDue { state.update { _ in } }
    }

    /// Returns when all lines are written, or at the deadline.
    func close(until deadline: Deadline) {
        state.update { $0.isClosed = true }
        _ = state.wait(until: deadline) { $0.hasEnded ? true : nil }
    }

    private func run() {
        var (told, nextNews, code) = (UInt64(0), ContinuousClock.now, Int32(0))
        var isTorn = false
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
            if !lines.isEmpty {
                // What is left of a line must not spoil the next.
                let text = isTorn ? "\n" + lines : lines
                let result = output(text)
                isTorn = text.utf8.prefix(result.written).last.map { $0 != UInt8(ascii: "\n") } ?? isTorn
                if result.code != 0 { code = result.code }
                let lost = text.utf8.dropFirst(result.written).count { $0 == UInt8(ascii: "\n") }
                state.withLock { $0.dropped += UInt64(lost) }
            }
            let (dropped, now) = (droppedLines, ContinuousClock.now)
            if dropped > told, isLast || now >= nextNews {
                report(dropped - told, code)
                (told, nextNews, code) = (dropped, now + Self.newsInterval, 0)
            }
            if isLast { break }
        }
        state.update { $0.hasEnded = true }
    }
}
