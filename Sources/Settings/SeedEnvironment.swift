internal import Registry
internal import System

/// The environment variables of AWS's tools and of the Go program whose bucket we keep, for keys that have no `FOREBAY_` variable.
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
                if let setting = seed[variable].map(Setting.init) ?? fromEnvironment(variable) {
                    aliases[key.name] = setting
                    break
                }
            }
        }
        if let bucket = seed["EPOCH_S3_BUCKET"] {
            aliases["origin"] = Setting(text: "s3://\(bucket.text)/\(seed.prefix)", source: bucket.source)
        }
        if let endpoint = aliases["s3-endpoint"] {
            let url = try orSettingsError { () throws(SeedVariables.Failure) in try seed.url(endpoint: endpoint.text) }
            aliases["s3-endpoint"] = Setting(text: url, source: endpoint.source)
        }
        return aliases
    }

    /// What the seed puts before every key.
    func prefix() throws(SettingsError) -> String { try seedVariables().prefix }

    private func seedVariables() throws(SettingsError) -> SeedVariables {
        try orSettingsError { () throws(SeedVariables.Failure) in try SeedVariables(environment: environment) }
    }

    private func fromEnvironment(_ variable: String) -> Setting? {
        environment[variable].map { Setting(text: $0, source: "environment variable \(variable)") }
    }

    private func orSettingsError<Value>(_ body: () throws(SeedVariables.Failure) -> Value) throws(SettingsError)
        -> Value
    {
        do throws(SeedVariables.Failure) {
            return try body()
        } catch {
            throw SettingsError(error.description)
        }
    }
}

extension Setting {
    fileprivate init(_ value: SeedVariables.Value) {
        self.init(text: value.text, source: value.source)
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
