internal import ArgumentParser
internal import Logging
internal import Registry
internal import Settings
internal import System

struct CatalogCommands: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "catalog",
        abstract: "Work on the bucket's catalog.json.",
        subcommands: [RebuildCatalog.self]
    )
}

struct RebuildCatalog: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebuild",
        abstract: "Make catalog.json anew from a listing of the bucket.",
        discussion: """
            Nodes may go on serving and pushing meanwhile. Needs the origin's settings only. Exits with status 69 when the origin \
            cannot be read or written; nothing is changed then.
            """
    )

    @OptionGroup var flags: Flags

    func run() async throws {
        let settings = try Settings(await flags.effective())
        let registry = Registry(store: try Node.store(settings, log: Logger(label: "forebay")), prefix: settings.prefix)
        let progress = ProgressLine()
        let summary: String
        do {
            try registry.probe()
            let catalog = try registry.rebuildCatalog { state in
                progress.show(
                    "\(state.objects) objects listed: \(state.tags) tags in \(state.repositories) repositories"
                )
            }
            progress.end()
            let tags = catalog.repositories.values.reduce(0) { $0 + $1.tags.count }
            summary = "catalog.json: \(tags) tags in \(catalog.repositories.count) repositories\n"
        } catch {
            progress.end()
            throw Unavailable(description: "rebuild of catalog.json: \(error)")
        }
        try Output.standard.write(Array(summary.utf8))
    }
}
