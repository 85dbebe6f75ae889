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
            return (key.name, key.isSecret ? "********" : setting.text, setting.source)
        }
        let widths = (rows.map(\.0.count).max() ?? 0, rows.map(\.1.count).max() ?? 0)
        let lines = rows.map { "\(padded($0, widths.0))  \(padded($1, widths.1))  \($2)\n" }
        try Output.standard.write(Array(lines.joined().utf8))
    }
}
