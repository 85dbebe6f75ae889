internal import Configuration
internal import ObjectStorage
internal import Synchronization
internal import SystemPackage
internal import Yams

/// A value and where it came from.
public struct Setting: Sendable, Equatable {
    public let text: String
    /// For people: a flag, an environment variable, a file or the default.
    public let source: String
}

/// Every key's value: flags over environment over file over default.
public struct EffectiveSettings: Sendable {
    private let settings: [String: Setting]
    /// What goes before every key, when the origin comes from the seed's variables; else the origin's URL tells.
    public let seedPrefix: String?

    public subscript(_ name: String) -> Setting? { settings[SettingKey[name].name] }

    /// - Parameters:
    ///   - flags: key name to value, as given on the command line.
    ///   - file: `--config`; `FOREBAY_CONFIG` counts without it.
    ///   - environment: all of it: a `FOREBAY_` variable that is no key is an error.
    public init(
        flags: [String: String],
        file: String?,
        environment: [String: String]
    ) async throws(SettingsError) {
        try Self.checkVariables(environment)
        let aliased = try SeedEnvironment(environment).aliases()
        var providers: [any ConfigProvider] = [
            InMemoryProvider(
                name: "flags",
                values: Dictionary(
                    uniqueKeysWithValues: flags.map {
                        (AbsoluteConfigKey([$0]), ConfigValue(.string($1), isSecret: false))
                    }
                )
            ),
            EnvironmentVariablesProvider(environmentVariables: environment.filter { !$1.isEmpty })
                .prefixKeys(with: "forebay"),
            InMemoryProvider(
                name: "aliases",
                values: Dictionary(
                    uniqueKeysWithValues: aliased.map {
                        (AbsoluteConfigKey([$0]), ConfigValue(.string($1.text), isSecret: false))
                    }
                )
            ),
        ]
        let path = file ?? environment["FOREBAY_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
        if let path { providers.append(try await Self.provider(for: path)) }
        let log = ProviderLog()
        let reader = ConfigReader(providers: providers, accessReporter: log)
        var settings: [String: Setting] = [:]
        var isSeedOrigin = false
        for key in SettingKey.all {
            if let text = reader.string(forKey: ConfigKey([key.name])) {
                let source =
                    switch log.lastProvider {
                    case 0: "--\(key.name)"
                    case 1: "environment variable \(key.variable)"
                    case 2: aliased[key.name]?.source ?? "environment"
                    default: "file \(path ?? "")"
                    }
                settings[key.name] = Setting(text: Self.expanded(text, environment), source: source)
                if key.name == "origin" { isSeedOrigin = log.lastProvider == 2 }
            } else if key.name == "s3-region", let region = Self.profileRegion(settings["origin"], environment) {
                settings[key.name] = region
            } else if let standard = key.standard {
                settings[key.name] = Setting(
                    text: Self.expanded(standard, environment),
                    source: "default"
                )
            }
        }
        self.settings = settings
        seedPrefix = isSeedOrigin ? try SeedEnvironment(environment).prefix() : nil
    }

    /// `$XDG_CACHE_HOME` and `$XDG_DATA_HOME` in a value: the places that the XDG Base Directory Specification names.
    private static func expanded(_ text: String, _ environment: [String: String]) -> String {
        let home = environment["HOME"] ?? "/root"
        func folder(_ variable: String, _ fallback: String) -> String {
            // The specification asks to ignore relative paths.
            environment[variable].flatMap { $0.hasPrefix("/") ? $0 : nil } ?? "\(home)/\(fallback)"
        }
        for (variable, fallback) in [("XDG_CACHE_HOME", ".cache"), ("XDG_DATA_HOME", ".local/share")] {
            if let range = text.firstRange(of: "$\(variable)") {
                return text[..<range.lowerBound] + folder(variable, fallback) + text[range.upperBound...]
            }
        }
        return text
    }

    /// That of the profile in AWS's shared files, as AWS's tools would take it.
    private static func profileRegion(_ origin: Setting?, _ environment: [String: String]) -> Setting? {
        guard origin?.text.hasPrefix("s3://") == true else { return nil }
        // A file that cannot be read is told by whoever needs what is in it.
        guard let profile = try? AWSProfile.named(nil, AWSEnvironment(environment)), let region = profile.region else {
            return nil
        }
        return Setting(text: region, source: "profile '\(profile.name)' of \(profile.source)")
    }

    private static func checkVariables(_ environment: [String: String]) throws(SettingsError) {
        let known = SettingKey.all.map(\.variable) + ["FOREBAY_CONFIG"]
        for name in environment.keys.sorted() where name.hasPrefix("FOREBAY_") && !known.contains(name) {
            let hint = nearest(name, among: known).map { "; did you mean \($0)?" } ?? "; remove it"
            throw SettingsError("\(printable(name)): there is no such setting\(hint)")
        }
    }
}

// MARK: - The file

extension EffectiveSettings {
    private static func provider(for path: String) async throws(SettingsError) -> FileProvider<YAMLSnapshot> {
        try checkKeys(in: path)
        do {
            return try await FileProvider<YAMLSnapshot>(filePath: FilePath(path))
        } catch {
            throw SettingsError("\(path): the file cannot be read: \(printable("\(error)"))")
        }
    }

    /// The provider ignores what it is not asked for; a misspelled key must not be ignored.
    private static func checkKeys(in path: String) throws(SettingsError) {
        let root: Node?
        do {
            guard let text = try Self.contents(path) else {
                throw SettingsError("\(path): there is no such file; correct --config or FOREBAY_CONFIG")
            }
            root = try Yams.compose(yaml: text)
        } catch let error as SettingsError {
            throw error
        } catch {
            throw SettingsError("\(path): no valid YAML: \(Self.oneLine(error))")
        }
        guard let root, root.tag != Tag(.null) else {
            throw SettingsError("\(path): the file sets nothing; it needs lines of the form 'key: value'")
        }
        guard let mapping = root.mapping else {
            throw SettingsError("\(path): the file must be lines of the form 'key: value'")
        }
        let known = SettingKey.all.map(\.name)
        for (key, value) in mapping {
            let name = printable(key.string ?? "")
            let place = "\(path):\(key.mark?.line ?? 0)"
            guard known.contains(name) else {
                let hint = nearest(name, among: known).map { "; did you mean '\($0)'?" } ?? "; remove it"
                throw SettingsError("\(place): there is no key '\(name)'\(hint)")
            }
            guard value.scalar != nil else {
                throw SettingsError("\(place): the key '\(name)' needs a single value")
            }
        }
    }

    private static func oneLine(_ error: any Error) -> String {
        if let error = error as? YamlError {
            switch error {
            case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
                .composer(_, let problem, let mark, _):
                return "line \(mark.line), column \(mark.column): \(printable(problem))"
            case .duplicatedKeysInMapping(let duplicates, _):
                let names = duplicates.map { "'\(printable($0))'" }
                return "set more than once: \(names.joined(separator: ", ")); keep one"
            default: break
            }
        }
        // What else the parser says quotes the file, which may hold secrets.
        return "it cannot be parsed"
    }
}

/// Remembers which provider had the value that was asked for last.
private final class ProviderLog: AccessReporter {
    private let last = Mutex(0)

    var lastProvider: Int { last.withLock { $0 } }

    func report(_ event: AccessEvent) {
        let index = event.providerResults.firstIndex { provider in
            if case .success(let result) = provider.result { result.value != nil } else { false }
        }
        last.withLock { $0 = index ?? 0 }
    }
}
