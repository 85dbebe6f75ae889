internal import ArgumentParser
internal import Settings

struct ShowConfiguration: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Print the effective configuration and where each value comes from.",
        discussion: "Takes the same flags as serve. Secrets are masked."
    )

    @OptionGroup var flags: Flags

    func run() async throws {
        let effective = try await flags.effective()
        // What serve would refuse is refused here too.
        _ = try Settings(effective)
        let rows = SettingKey.all.map { key -> (String, String, String) in
            guard let setting = effective[key.name] else { return (key.name, "-", "not set") }
            return (key.name, key.isSecret ? "********" : withoutPassword(setting.text), setting.source)
        }
        let widths = (rows.map(\.0.count).max() ?? 0, rows.map(\.1.count).max() ?? 0)
        for (name, value, source) in rows {
            print("\(padded(name, widths.0))  \(padded(value, widths.1))  \(source)")
        }
    }

    /// A URL may hold one before the host.
    private func withoutPassword(_ text: String) -> String {
        guard let scheme = text.firstRange(of: "://") else { return text }
        let rest = text[scheme.upperBound...]
        let authority = rest.prefix { $0 != "/" }
        guard let at = authority.lastIndex(of: "@") else { return text }
        return text[..<scheme.upperBound] + "********" + rest[at...]
    }
}
