import FaultProxy
import Foundation
import Glibc
import Synchronization

/// What a program said and how it ended.
struct CommandResult: Sendable {
    /// The exit status, or 128 + the signal that ended it, as a shell has it.
    let status: Int32
    let output: String
    let errors: String
}

struct CommandFailure: Error, CustomStringConvertible {
    let arguments: [String]
    let result: CommandResult

    var description: String {
        """
        \(arguments.joined(separator: " ")) ended with status \(result.status)
        \(result.output.suffix(4_000))\(result.errors.suffix(4_000))
        """
    }
}

struct DeadlineExceeded: Error, CustomStringConvertible {
    let what: String
    let seconds: Double
    var description: String { "\(what): not within \(seconds) s" }
}

/// Asks `condition` until it holds; throws when it does not within `seconds`.
func poll<Result>(for what: String, seconds: Double = 30, until condition: () throws -> Result?) throws -> Result {
    let start = ContinuousClock.now
    while true {
        if let result = try condition() { return result }
        guard ContinuousClock.now - start < .seconds(seconds) else {
            throw DeadlineExceeded(what: what, seconds: seconds)
        }
        usleep(5_000)
    }
}

/// A program that runs beside the test, its output in files (`posix_spawn(3)`).
final class Command: Sendable {
    let arguments: [String]
    let outputPath: String
    let errorsPath: String
    let processIdentifier: Int32
    /// How it ended, once somebody has asked the kernel.
    private let status = Mutex<Int32?>(nil)

    /// - Parameters:
    ///   - arguments: the program, looked up in PATH, and its arguments.
    ///   - log: the path to which `.out` and `.err` are added; files are appended to.
    init(_ arguments: [String], environment: [String: String] = [:], directory: String? = nil, log: String) throws {
        guard let program = arguments[0].contains("/") ? arguments[0] : findTool(arguments[0]) else {
            throw MissingRequirement(description: "not installed: \(arguments[0])")
        }
        self.arguments = arguments
        outputPath = log + ".out"
        errorsPath = log + ".err"
        // What steers the tests is no setting of the program's.
        let inherited = Settings.environment.filter { !$0.key.hasPrefix("FOREBAY_") }
        let variables = inherited.merging(environment) { _, new in new }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, errorsPath, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        // The threads that run tests block signals, and what is blocked stays so in a child.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var identifier: pid_t = 0
        let command = directory.map { ["/usr/bin/env", "--chdir=\($0)", program] } ?? [program]
        let code = withCStrings(command + arguments.dropFirst()) { arguments in
            withCStrings(variables.map { "\($0.key)=\($0.value)" }) { environment in
                posix_spawn(&identifier, command[0], &actions, &attributes, arguments, environment)
            }
        }
        guard code == 0 else { throw SocketError(operation: "start \(program)", code: code) }
        processIdentifier = identifier
    }

    var isRunning: Bool { endedStatus() == nil }
    func signal(_ signal: Int32) { if isRunning { kill(processIdentifier, signal) } }

    /// Waits for the end; past the deadline the program is killed and the call throws.
    func wait(seconds: Double) throws -> CommandResult {
        do {
            let status = try poll(for: arguments.joined(separator: " "), seconds: seconds) { endedStatus() }
            return CommandResult(status: status, output: text(of: outputPath), errors: text(of: errorsPath))
        } catch {
            signal(SIGKILL)
            print("---- \(arguments[0]) said\n\(text(of: errorsPath).suffix(4_000))\n----")
            throw error
        }
    }

    /// As in ``CommandResult/status``; `nil` while it runs.
    func endedStatus() -> Int32? {
        status.withLock { status in
            var raw: Int32 = 0
            guard status == nil, waitpid(processIdentifier, &raw, WNOHANG) == processIdentifier else { return status }
            let signal = raw & 0x7F
            status = signal == 0 ? raw >> 8 & 0xFF : 128 + signal
            return status
        }
    }
}

private func withCStrings<Result>(
    _ strings: [String],
    _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    let copies = strings.map { strdup($0) } + [nil]
    defer { for copy in copies { free(copy) } }
    return copies.withUnsafeBufferPointer { body($0.baseAddress!) }
}

/// Runs a program to its end, whatever its status.
func runAllowingFailure(
    _ arguments: [String],
    environment: [String: String] = [:],
    directory: String? = nil,
    seconds: Double = 120
) throws -> CommandResult {
    let logs = try TemporaryDirectory()
    return try Command(arguments, environment: environment, directory: directory, log: logs.path + "/log")
        .wait(seconds: seconds)
}

/// Runs a program that must succeed; its standard output.
@discardableResult
func run(
    _ arguments: [String],
    environment: [String: String] = [:],
    directory: String? = nil,
    seconds: Double = 120
) throws -> String {
    let result = try runAllowingFailure(
        arguments,
        environment: environment,
        directory: directory,
        seconds: seconds
    )
    guard result.status == 0 else { throw CommandFailure(arguments: arguments, result: result) }
    return result.output
}
