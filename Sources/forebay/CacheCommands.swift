internal import AdminAPI
internal import ArgumentParser
internal import Settings
internal import System

struct CacheCommands: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "Look into the disk cache and work on it.",
        discussion: """
            Works on a running server, through the socket admin.sock in its cache directory, which only its own user may use; and on a \
            stopped server's directory, then with the directory's lock. Either way the settings that count are those of serve: give the \
            same --cache-dir, file or environment. On a stopped server's directory, \
            only prewarm makes room for anything.

            A DIGEST is sha256:… or sha512:…; an IMAGE is written as this registry knows it, without a host: REPOSITORY, REPOSITORY:TAG or \
            REPOSITORY@DIGEST, and stands for its manifest, config and layers, those of all children where it is an index.

            Exit statuses: 0; 1 when something was not done or damage was found, each named, or a signal ended the work; 69 when the cache or the origin cannot be \
            had now; 78 for a bad setting or argument.

            Nothing here can lose anything: all content is at the origin too.
            """,
        subcommands: [
            ListCache.self, ShowCache.self, PinContent.self, UnpinContent.self, EvictContent.self, PrewarmCache.self,
            VerifyCache.self,
        ]
    )
}

/// What all of them take.
struct CacheOptions: ParsableArguments {
    @Flag(help: "Print one JSON object a line, as it happens.")
    var json = false

    @OptionGroup(title: "Settings") var flags: Flags
}

struct PlatformOption: ParsableArguments {
    @Option(help: ArgumentHelp("Of an index, only the children for this platform.", valueName: "OS/ARCH"))
    var platform: String?
}

struct ListCache: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List what the cache holds.",
        discussion: """
            Blobs in the order of their digests, then manifests and tags by name, fills under way, and pins. The list is streamed: it may be long.

            Examples:
              forebay cache ls --kind blob
              forebay cache ls --repository library/alpine
              forebay cache ls --json | jq -r 'select(.entry.size > 1e9).entry.digest'
            """
    )

    @Option(
        help: ArgumentHelp("Only these: blob, manifest, tag, fill or pin; may be repeated.", valueName: "KIND"),
        transform: kind
    )
    var kind: [CacheRequest.Kind] = []

    @Option(help: ArgumentHelp("Only this repository's manifests and tags.", valueName: "NAME"))
    var repository: String?

    @Flag(inversion: .prefixedNo, help: "Only what is pinned, or only what is not.")
    var pinned: Bool?

    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.ls)
        request.kinds = kind.isEmpty && repository != nil ? [.manifest, .tag] : kind
        request.repository = repository
        request.isPinned = pinned
        let table = EntryTable(isJSON: options.json)
        try await options.perform(request) { event in
            if let entry = event.entry { return table.show(entry, event) }
            return !event.isLast || table.end()
        }
    }

    @Sendable private static func kind(_ text: String) throws -> CacheRequest.Kind {
        guard let kind = CacheRequest.Kind(rawValue: text) else {
            throw ValidationError("there is no kind '\(text)': choose blob, manifest, tag, fill or pin")
        }
        return kind
    }
}

struct ShowCache: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stat",
        abstract: "Show totals, or what is known of some content.",
        discussion: """
            Without an argument: what the cache takes and may take, what it holds, and, of a running server, what it has done since its \
            start. With one: the content, or each piece of the image and whether it is here.

            Examples:
              forebay cache stat
              forebay cache stat library/alpine:3 --platform linux/arm64
              forebay cache stat sha256:…
            """
    )

    @Argument(help: ArgumentHelp("What to show.", valueName: "DIGEST|IMAGE"))
    var targets: [String] = []

    @OptionGroup var platform: PlatformOption
    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.stat, targets)
        request.platform = platform.platform
        let table = EntryTable(isJSON: options.json)
        try await options.perform(request) { event in
            if let entry = event.entry { return table.show(entry, event) }
            if let part = event.part { return table.show(part, event) }
            if let totals = event.totals { return table.show(totals, event) }
            if event.problem != nil { return table.showToPrograms(event) }
            return !event.isLast || table.end()
        }
    }
}

struct PrewarmCache: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prewarm",
        abstract: "Fetch images into the cache before anybody asks for them.",
        discussion: """
            What is there already is not fetched again; a tag is asked for as a client's pull would. On a stopped server's directory, the \
            origin's settings are needed too.

            Examples:
              forebay cache prewarm library/alpine:3 team/app:v7
              forebay cache prewarm --platform linux/amd64 --pin library/debian:12
            """
    )

    @Argument(help: ArgumentHelp("What to fetch.", valueName: "IMAGE|DIGEST"))
    var targets: [String]

    @Flag(help: "Pin what was fetched.")
    var pin = false

    @OptionGroup var platform: PlatformOption
    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.prewarm, targets)
        request.platform = platform.platform
        request.pins = pin
        try await options.perform(request, done: "fetched")
    }
}

struct VerifyCache: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Hash content again and compare it with its digest.",
        discussion: """
            Without an argument: everything. Damaged content is taken out of the cache, and fetched again when it is next asked for; the \
            exit status is 1 then.

            Examples:
              forebay cache verify
              forebay cache verify library/alpine:3
            """
    )

    @Argument(help: ArgumentHelp("What to hash.", valueName: "DIGEST|IMAGE"))
    var targets: [String] = []

    @OptionGroup var platform: PlatformOption
    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.verify, targets)
        request.platform = platform.platform
        try await options.perform(request, done: "verified")
    }
}

struct PinContent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin",
        abstract: "Keep content in the cache, however full it gets.",
        discussion: """
            Pins last until they are taken away, over restarts too, and hold what comes later as well. What is not in the cache is not \
            fetched: prewarm --pin does both. Each argument is a pin of its own name, which ls --kind pin lists, with --platform one beside \
            the image's others: library/debian:12 (linux/amd64). A tag's pin holds what the tag names now.

            Examples:
              forebay cache pin library/alpine:3
              forebay cache pin --platform linux/amd64 library/debian:12
            """
    )

    @Argument(help: ArgumentHelp("What to pin.", valueName: "DIGEST|IMAGE"))
    var targets: [String]

    @OptionGroup var platform: PlatformOption
    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.pin, targets)
        request.platform = platform.platform
        try await options.perform(request, done: "pinned")
    }
}

struct UnpinContent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unpin",
        abstract: "Let eviction have content again.",
        discussion: """
            Each argument is written as it was pinned: ls --kind pin lists them. Of an image, all pins go, with --platform only that \
            platform's. What several pins hold stays until the last of them goes.

            Examples:
              forebay cache unpin library/alpine:3
              forebay cache unpin --platform linux/amd64 library/debian:12
            """
    )

    @Argument(help: ArgumentHelp("What to unpin.", valueName: "DIGEST|IMAGE"))
    var targets: [String]

    @OptionGroup var platform: PlatformOption
    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.unpin, targets)
        request.platform = platform.platform
        try await options.perform(request, done: "unpinned")
    }
}

struct EvictContent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evict",
        abstract: "Take content out of the cache.",
        discussion: """
            The origin keeps it, and the next pull fetches it again. Blobs that other images have too go as well. Whoever is reading reads on. \
            What is pinned stays, and is named: unpin it first. So is what is not in the cache at all.

            Examples:
              forebay cache evict team/app:v6
              forebay cache evict sha256:…
            """
    )

    @Argument(help: ArgumentHelp("What to evict.", valueName: "DIGEST|IMAGE"))
    var targets: [String]

    @OptionGroup var platform: PlatformOption
    @OptionGroup var options: CacheOptions

    func run() async throws {
        var request = CacheRequest(.evict, targets)
        request.platform = platform.platform
        try await options.perform(request, done: "evicted")
    }
}
