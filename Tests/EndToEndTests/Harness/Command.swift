import Foundation
import Glibc

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
func wait<Result>(for what: String, seconds: Double = 30, until condition: () throws -> Result?) throws -> Result {
    let start = ContinuousClock.now
    while true {
        if let result = try condition() { return result }
        guard ContinuousClock.now - start < .seconds(seconds) else {
            throw DeadlineExceeded(what: what, seconds: seconds)
        }
        usleep(10_000)
    }
}

/// A program that runs beside the test, its output in files.
final class Command: @unchecked Sendable {
    // Sendable because `process` is started in `init` and only signalled and waited for afterwards, which Foundation
    // allows from any thread.
    private let process = Process()
    private let ended = DispatchSemaphore(value: 0)
    let arguments: [String]
    let outputPath: String
    let errorsPath: String

    /// - Parameters:
    ///   - arguments: the program, looked up in PATH, and its arguments.
    ///   - log: the path to which `.out` and `.err` are added; files are appended to.
    init(_ arguments: [String], environment: [String: String] = [:], directory: String? = nil, log: String) throws {
        self.arguments = arguments
        outputPath = log + ".out"
        errorsPath = log + ".err"
        guard let program = arguments[0].contains("/") ? arguments[0] : findTool(arguments[0]) else {
            throw MissingRequirement(description: "not installed: \(arguments[0])")
        }
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = Array(arguments.dropFirst())
        process.environment = Settings.environment.merging(environment) { _, new in new }
        if let directory { process.currentDirectoryURL = URL(fileURLWithPath: directory) }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try appending(outputPath)
        process.standardError = try appending(errorsPath)
        let ended = ended
        process.terminationHandler = { _ in ended.signal() }
        try process.run()
    }

    var processIdentifier: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }
    func signal(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// Waits for the end; past the deadline the program is killed and the call throws.
    func wait(seconds: Double) throws -> CommandResult {
        guard ended.wait(timeout: .now() + seconds) == .success else {
            signal(SIGKILL)
            ended.wait()
            ended.signal()
            let said = text(of: errorsPath).suffix(4_000)
            throw DeadlineExceeded(what: "\(arguments.joined(separator: " "))\n\(said)", seconds: seconds)
        }
        ended.signal()
        let status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
        return CommandResult(status: status, output: text(of: outputPath), errors: text(of: errorsPath))
    }
}

private func appending(_ path: String) throws -> FileHandle {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw CocoaError(.fileWriteUnknown) }
    return FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
}

/// The text of a file, empty when there is none.
func text(of path: String) -> String {
    FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
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

/// A folder of its own below the system's temporary one, removed with this value.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("\(Settings.environment["TMPDIR"] ?? "/tmp")/forebay-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CocoaError(.fileWriteUnknown) }
        path = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        // What cannot be removed is left to the system's own cleaning of this folder.
        try? FileManager.default.removeItem(atPath: path)
    }

    /// A new folder inside.
    func folder(_ name: String) throws -> String {
        let folder = "\(path)/\(name)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }
}

/// The paths of all regular files below `folder`, relative to it, sorted.
func files(below folder: String) -> [String] {
    var paths: [String] = []
    let enumerator = FileManager.default.enumerator(atPath: folder)
    while let path = enumerator?.nextObject() as? String {
        if enumerator?.fileAttributes?[.type] as? FileAttributeType == .typeRegular { paths.append(path) }
    }
    return paths.sorted()
}

/// The bytes of a file.
func contents(of path: String) throws -> [UInt8] {
    try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
}
