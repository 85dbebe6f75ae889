internal import System

/// The environment variables of AWS's tools and of the Go program whose bucket we keep, for keys that have no `FOREBAY_` variable.
///
/// The Go program's may also stand in a file of `NAME=VALUE` lines: `EPOCH_S3_ENV_FILE`, or `~/.config/epoch/s3.env`. The environment goes first.
struct SeedEnvironment {
    private let environment: [String: String]

    init(_ environment: [String: String]) {
        self.environment = environment.filter { !$1.isEmpty }
    }

    /// Key name to value.
    func aliases() throws(SettingsError) -> [String: Setting] {
        let seed = try seedVariables()
        var aliases: [String: Setting] = [:]
        for key in SettingKey.all {
            for variable in key.aliases {
                if let setting = seed[variable] ?? fromEnvironment(variable) {
                    aliases[key.name] = setting
                    break
                }
            }
        }
        if let bucket = seed["EPOCH_S3_BUCKET"] {
            aliases["origin"] = Setting(text: "s3://\(bucket.text)/\(prefix(seed))", source: bucket.source)
        }
        if let endpoint = aliases["s3-endpoint"], !endpoint.text.contains("://") {
            let scheme = try isSecure(seed["EPOCH_S3_SECURE"]) ? "https" : "http"
            aliases["s3-endpoint"] = Setting(text: "\(scheme)://\(endpoint.text)", source: endpoint.source)
        }
        return aliases
    }

    /// What the seed puts before every key.
    func prefix() throws(SettingsError) -> String { prefix(try seedVariables()) }

    private func prefix(_ seed: [String: Setting]) -> String { seed["EPOCH_S3_PREFIX"]?.text ?? "epoch/" }

    private func fromEnvironment(_ variable: String) -> Setting? {
        environment[variable].map { Setting(text: $0, source: "environment variable \(variable)") }
    }

    private func seedVariables() throws(SettingsError) -> [String: Setting] {
        var variables = try fileVariables()
        for name in environment.keys where name.hasPrefix("EPOCH_S3_") {
            variables[name] = fromEnvironment(name)
        }
        return variables
    }

    private func fileVariables() throws(SettingsError) -> [String: Setting] {
        let named = environment["EPOCH_S3_ENV_FILE"]
        let path = named ?? "\(environment["HOME"] ?? "/root")/.config/epoch/s3.env"
        guard let text = try EffectiveSettings.contents(path) else {
            guard named == nil else { throw SettingsError("EPOCH_S3_ENV_FILE: there is no file \(path)") }
            return [:]
        }
        var variables: [String: Setting] = [:]
        for line in text.split(whereSeparator: \.isNewline) {
            let line = trimmed(line)
            guard !line.hasPrefix("#"), let mark = line.firstIndex(of: "=") else { continue }
            let (name, value) = (trimmed(line[..<mark]), trimmed(line[line.index(after: mark)...]))
            if name.hasPrefix("EPOCH_S3_"), !value.isEmpty {
                variables[name] = Setting(text: value, source: "file \(path)")
            }
        }
        return variables
    }

    /// The forms of Go's `strconv.ParseBool`. An endpoint without a scheme is secure by itself.
    private func isSecure(_ setting: Setting?) throws(SettingsError) -> Bool {
        switch setting?.text {
        case nil, "1", "t", "T", "true", "TRUE", "True": return true
        case "0", "f", "F", "false", "FALSE", "False": return false
        default: throw SettingsError("EPOCH_S3_SECURE: the value must be true or false")
        }
    }

    private func trimmed(_ text: Substring) -> String {
        var view = text
        while view.first?.isWhitespace == true { view.removeFirst() }
        while view.last?.isWhitespace == true { view.removeLast() }
        return String(view)
    }
}

extension EffectiveSettings {
    /// `nil` when there is no such file.
    static func contents(_ path: String) throws(SettingsError) -> String? {
        do throws(FileError) {
            return try LocalFileSystem().contents(at: path).map { String(decoding: $0, as: UTF8.self) }
        } catch {
            throw SettingsError("\(error)")
        }
    }
}
