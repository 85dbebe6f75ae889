internal import ArgumentParser
internal import Settings
internal import System

/// The command line.
@main
struct Forebay: AsyncParsableCommand {
    static let version = "0.1.0"

    static let configuration = CommandConfiguration(
        commandName: "forebay",
        abstract: "An OCI registry for the edge: a disk cache in front of an S3 bucket or a directory.",
        discussion: """
            Without any setting it serves on 127.0.0.1:5000, keeps its data below ~/.local/share/forebay and its cache \
            below ~/.cache/forebay. Every setting can be a flag, an environment variable (FOREBAY_CACHE_SIZE) or a line \
            of a YAML file (cache-size: 100GiB); flags go first, then the environment, then the file.
            """,
        version: version,
        subcommands: [
            Serve.self, CacheCommands.self, CatalogCommands.self, BenchCommand.self, ShowConfiguration.self,
        ]
    )

    /// Exit statuses are those of `sysexits.h`, so that a service manager can tell a bad setting from bad weather.
    static func main() async {
        reserveStandardStreams()
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch let error as SettingsError {
            refuse(error.description)
        } catch let error as Misuse {
            refuse(error.description)
        } catch is WithProblems {
            endProcess(status: .failure)
        } catch let error as Unavailable {
            fail(error.description, status: .unavailable)
        } catch let error as Interrupted {
            fail(error.description, status: .failure)
        } catch {
            let code = exitCode(for: error)
            guard code == .validationFailure else { exit(withError: error) }
            let message = message(for: error).split(separator: "\n").joined(separator: " ")
            // It may be a question: "Did you mean …?"
            let hint = message.hasSuffix("?") ? nil : hint(in: fullMessage(for: error))
            refuse([message, hint].compactMap { $0 }.joined(separator: "; "))
        }
    }

    /// Which `--help` tells what there is, as the parser says it in a line of its own.
    private static func hint(in message: String) -> String? {
        let line = message.split(separator: "\n").last { $0.hasSuffix(" --help' for more information.") }
        let parts = line?.split(separator: "'") ?? []
        return parts.count == 3 ? "see '\(parts[1])'" : nil
    }

    /// Says why the command line or a setting is no good. A secret in it would be read by all who may read the log.
    private static func refuse(_ message: String) -> Never {
        fail(hidingSecrets(of: CommandLine.arguments, in: message), status: .configuration)
    }
}

/// What went wrong has been said.
struct WithProblems: Error {}

/// Somebody ended the work before its time.
struct Interrupted: Error, CustomStringConvertible {
    let description: String
}

/// Something that the program needs cannot be had now.
struct Unavailable: Error, CustomStringConvertible {
    let description: String
}
