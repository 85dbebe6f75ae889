internal import System

/// How far long work has come, on standard error: one line that is rewritten on a terminal, else a line now and then, or none.
final class ProgressLine {
    private static let linesBetween: Duration = .seconds(5)

    private let isTerminal = standardErrorIsTerminal()
    private let isForTerminalsOnly: Bool
    private var last: ContinuousClock.Instant?

    init(isForTerminalsOnly: Bool = false) { self.isForTerminalsOnly = isForTerminalsOnly }

    func show(_ text: String) {
        let now = ContinuousClock.now
        if isTerminal {
            writeToStandardError("\r\u{1B}[K\(text)")
        } else if isForTerminalsOnly {
            return
        } else if last.map({ now - $0 >= Self.linesBetween }) ?? true {
            writeToStandardError(text + "\n")
        } else {
            return
        }
        last = now
    }

    /// The line has served its purpose.
    func clear() {
        if isTerminal, last != nil { writeToStandardError("\r\u{1B}[K") }
        last = nil
    }

    /// What comes next begins on a line of its own.
    func end() {
        if isTerminal, last != nil { writeToStandardError("\n") }
        last = nil
    }
}
