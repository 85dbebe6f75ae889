internal import System

/// How far long work has come, on standard error: one line that is rewritten on a terminal, else a line now and then, or none.
final class ProgressLine {
    private static let linesBetween: Duration = .seconds(5)

    private let isTerminal = standardErrorIsTerminal()
    private let isForTerminalsOnly: Bool
    private var last: ContinuousClock.Instant?
    /// What it was too soon for: the last word is not to be lost.
    private var unsaid: String?

    init(isForTerminalsOnly: Bool = false) { self.isForTerminalsOnly = isForTerminalsOnly }

    func show(_ text: String) {
        let now = ContinuousClock.now
        if isTerminal {
            // A line that wraps cannot be taken back.
            let shown = standardErrorColumns().map { text.prefix($0 - 1) } ?? text[...]
            writeToStandardError("\r\u{1B}[K\(shown)")
        } else if isForTerminalsOnly {
            return
        } else if last.map({ now - $0 >= Self.linesBetween }) ?? true {
            writeToStandardError(text + "\n")
        } else {
            unsaid = text
            return
        }
        unsaid = nil
        last = now
    }

    /// The line has served its purpose.
    func clear() {
        if isTerminal, last != nil { writeToStandardError("\r\u{1B}[K") }
        last = nil
    }

    /// What comes next begins on a line of its own, and then it goes on.
    func interrupt() {
        guard isTerminal else { return }
        if last != nil { writeToStandardError("\n") }
        last = nil
    }

    /// The work is done.
    func end() {
        if let unsaid { writeToStandardError(unsaid + "\n") }
        unsaid = nil
        interrupt()
        last = nil
    }
}
