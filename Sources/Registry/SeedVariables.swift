internal import System

/// The `EPOCH_S3_…` variables of the Go program whose bucket we keep.
///
/// They stand in the environment, or in a file of `NAME=VALUE` lines: `EPOCH_S3_ENV_FILE`, or `~/.config/epoch/s3.env`. The environment goes
/// first. Empty values count as not set.
public struct SeedVariables: Sendable {
    /// A value and where it was found.
    public struct Value: Sendable, Equatable {
        public let text: String
        public let source: String
    }

    /// The environment or the file cannot be used; says what to do.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    private var values: [String: Value] = [:]

    public init(environment: [String: String]) throws(Failure) {
        let environment = environment.filter { !$1.isEmpty }
        try readFile(environment)
        for (name, text) in environment where name.hasPrefix("EPOCH_S3_") {
            values[name] = Value(text: text, source: "environment variable \(name)")
        }
    }

    public subscript(name: String) -> Value? { values[name] }

    /// What is put before every key.
    public var prefix: String { self["EPOCH_S3_PREFIX"]?.text ?? "epoch/" }

    /// An endpoint without a scheme gets the one that `EPOCH_S3_SECURE` asks for; without that, `https`.
    public func url(endpoint: String) throws(Failure) -> String {
        if endpoint.contains("://") { return endpoint }
        return "\(try isSecure ? "https" : "http")://\(endpoint)"
    }

    /// The forms of Go's `strconv.ParseBool`.
    private var isSecure: Bool {
        get throws(Failure) {
            switch self["EPOCH_S3_SECURE"]?.text {
            case nil, "1", "t", "T", "true", "TRUE", "True": return true
            case "0", "f", "F", "false", "FALSE", "False": return false
            default: throw Failure(description: "EPOCH_S3_SECURE: the value must be true or false")
            }
        }
    }

    private mutating func readFile(_ environment: [String: String]) throws(Failure) {
        let named = environment["EPOCH_S3_ENV_FILE"]
        let path = named ?? "\(environment["HOME"] ?? "/root")/.config/epoch/s3.env"
        guard let text = try Self.contents(path) else {
            guard named == nil else { throw Failure(description: "EPOCH_S3_ENV_FILE: there is no file \(path)") }
            return
        }
        for line in text.split(whereSeparator: \.isNewline) {
            let line = trimmed(line)
            guard !line.hasPrefix("#"), let mark = line.firstIndex(of: "=") else { continue }
            let (name, value) = (trimmed(line[..<mark]), trimmed(line[line.index(after: mark)...]))
            if name.hasPrefix("EPOCH_S3_"), !value.isEmpty {
                values[name] = Value(text: value, source: "file \(path)")
            }
        }
    }

    /// `nil` when there is no such file.
    private static func contents(_ path: String) throws(Failure) -> String? {
        do throws(FileError) {
            return try LocalFileSystem().contents(at: path).map { String(decoding: $0, as: UTF8.self) }
        } catch {
            throw Failure(description: "\(error)")
        }
    }
}

private func trimmed(_ text: Substring) -> String {
    var view = text
    while view.first?.isWhitespace == true { view.removeFirst() }
    while view.last?.isWhitespace == true { view.removeLast() }
    return String(view)
}
