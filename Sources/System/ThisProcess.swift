internal import CGlibc
internal import Glibc
internal import Synchronization

/// Exit statuses that service managers know (`sysexits.h`).
public enum ExitStatus: Int32, Sendable {
    case success = 0
    /// The work was done, but not all of it succeeded, or it found something wrong.
    case failure = 1
    /// Something that is needed cannot be had now (`EX_UNAVAILABLE`).
    case unavailable = 69
    /// The configuration is no good (`EX_CONFIG`).
    case configuration = 78
    /// Ended by SIGINT, as a shell has it.
    case interrupted = 130
}

/// Ends the process at once (`_exit(2)`), after what is buffered was written: threads may still run, so nothing is torn down under them.
public func endProcess(status: ExitStatus) -> Never {
    fflush(nil)
    _exit(status.rawValue)
}

/// Says one line on standard error and ends the process.
public func fail(_ message: String, status: ExitStatus) -> Never {
    writeToStandardError("forebay: \(printable(message))\n")
    endProcess(status: status)
}

/// The environment as it was at the start.
public func processEnvironment() -> [String: String] {
    var variables: [String: String] = [:]
    var next = environ
    while let entry = next.pointee {
        let text = String(cString: entry)
        if let mark = text.firstIndex(of: "=") {
            variables[String(text[..<mark])] = String(text[text.index(after: mark)...])
        }
        next = next.advanced(by: 1)
    }
    return variables
}

/// CPU time of all threads so far, in user and kernel mode (`getrusage(2)`).
public func processCPUTime() -> Duration {
    var usage = rusage()
    precondition(getrusage(Int32(RUSAGE_SELF.rawValue), &usage) == 0)
    let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
    return .seconds(seconds) + .microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}

public func standardErrorIsTerminal() -> Bool { isatty(STDERR_FILENO) == 1 }

/// Of the terminal behind standard error; `nil` when it does not tell (`ioctl_tty(2)`).
public func standardErrorColumns() -> Int? {
    var size = winsize()
    guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
    return Int(size.ws_col)
}

/// Text of others, for a terminal or a log: what would steer a terminal, break the line or turn its direction is shown as `\u{1B}`.
public func printable(_ text: String) -> String {
    text.unicodeScalars.reduce(into: "") { result, scalar in
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator:
            result += "\\u{\(String(scalar.value, radix: 16, uppercase: true))}"
        default: result.unicodeScalars.append(scalar)
        }
    }
}

/// Writes all of it in one call, so that lines of several threads do not mix. A log that cannot be written stops nothing.
public func writeToStandardError(_ text: String) {
    var text = text
    text.withUTF8 { _ = write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

/// Writing to a pipe or connection that nobody reads is an error of that call then, not the end of the process.
public func ignoreBrokenPipes() { signal(SIGPIPE, SIG_IGN) }

/// False when nobody reads it any more, or it cannot be written.
public func writeToStandardOutput(_ text: String) -> Bool { writeAll(Array(text.utf8), to: STDOUT_FILENO) }

/// How many bytes were written, and why not all (`errno`).
public func appendToStandardOutput(_ text: String) -> (written: Int, code: Int32) {
    let bytes = Array(text.utf8)
    let written = writeMost(bytes, to: STDOUT_FILENO)
    return (written, written == bytes.count ? 0 : errno)
}

/// Where output goes into a file, each write goes to its end, also once somebody has cut the file short: rotation by copy and truncation would else
/// leave a hole (`O_APPEND` of `open(2)`).
public func appendToStandardFiles() {
    for descriptor in [STDOUT_FILENO, STDERR_FILENO] {
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
        let flags = fcntl(descriptor, F_GETFL)
        if flags >= 0 { _ = fcntl(descriptor, F_SETFL, flags | O_APPEND) }
    }
}

/// False with `errno` when not all could be written.
func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Bool { writeMost(bytes, to: descriptor) == bytes.count }

/// How many bytes could be written; fewer than all with `errno`.
private func writeMost(_ bytes: [UInt8], to descriptor: Int32) -> Int {
    var written = 0
    while written < bytes.count {
        let count = bytes[written...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return written }
        written += count
    }
    return written
}

/// Where a standard stream is closed, the next file to be opened would take its number, and what is said its bytes. Nothing can be written to
/// what this opens.
public func reserveStandardStreams() {
    var descriptor: Int32 = 0
    while (0...STDERR_FILENO).contains(descriptor) { descriptor = open("/dev/null", O_RDONLY) }
    if descriptor > STDERR_FILENO { close(descriptor) }
}

/// Its reader has gone (`poll(2)`), as `head(1)` does.
public func nobodyReadsStandardOutput() -> Bool {
    var output = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
    return poll(&output, 1, 0) > 0 && Int32(output.revents) & (POLLERR | POLLHUP) != 0
}

/// Keeps glibc from making an arena for each thread: with a thread for each request that waits they would multiply (`mallopt(3)`).
public func limitMemoryArenas() { mallopt(M_ARENA_MAX, 4) }

/// SIGTERM, SIGINT and SIGHUP, as something to wait for. Who started the program with SIGHUP ignored (`nohup(1)`) does not mean to end it by that.
///
/// The handler writes a byte into a pipe, which is all that one may do; any thread may be the one that the kernel interrupts.
public struct Signals: Sendable {
    private let reader: File

    /// - Parameter heedsHangUp: otherwise SIGHUP does nothing.
    public init(heedsHangUp: Bool = true) {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "pipe: \(String(cString: strerror(errno)))")
        reader = File(owning: ends[0], path: "signals")
        signalPipe.store(ends[1], ordering: .releasing)
        for number in [SIGTERM, SIGINT] { signal(number, onSignal) }
        if !heedsHangUp { signal(SIGHUP, SIG_IGN) } else if !isIgnored(SIGHUP) { signal(SIGHUP, onSignal) }
    }

    /// Waits for the first one; its name.
    public func wait() -> String {
        var number: UInt8 = 0
        while read(reader.descriptor, &number, 1) != 1 {
            precondition(errno == EINTR, "read: \(String(cString: strerror(errno)))")
        }
        switch Int32(number) {
        case SIGTERM: return "SIGTERM"
        case SIGHUP: return "SIGHUP"
        default: return "SIGINT"
        }
    }

    /// Whoever asks twice does not want to wait. A terminal that is closed asks nothing, and may send SIGHUP more than once.
    public func endProcessOnNext() {
        for number in [SIGTERM, SIGINT] { signal(number, SIG_DFL) }
    }
}

private func isIgnored(_ number: Int32) -> Bool {
    var action = sigaction()
    sigaction(number, nil, &action)
    return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
}

private let signalPipe = Atomic<Int32>(-1)

private func onSignal(_ number: Int32) {
    var byte = UInt8(number)
    _ = write(signalPipe.load(ordering: .acquiring), &byte, 1)
}
