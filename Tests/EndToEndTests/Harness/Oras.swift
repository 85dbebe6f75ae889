import Foundation
import Testing

/// The `oras` Python package, which pushes files as they are.
struct Oras: RegistryClient {
    private static let python = Result { try Settings.fixture(by: "install-oras") + "/bin/python" }
    private let python: String

    /// Skips the test when there is no Python.
    init() throws {
        try require(tools: "python3")
        python = try Self.python.get()
    }

    let keepsBytes = false

    /// An artifact of a file for each of the image's blobs, named by its hash.
    func push(_ layout: ImageLayout, tag: String, to target: String) throws -> String {
        let names = try layout.digests(tag: tag).map { String($0.dropFirst("sha256:".count)) }
        return try call(["push", target] + names, "\(layout.folder)/blobs/sha256")
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    func pull(_ source: String, digest: String) throws {
        let workspace = try TemporaryDirectory()
        let paths = try call(["pull", source, workspace.path], workspace.path).split(separator: "\n").map(String.init)
        #expect(!paths.isEmpty)
        for path in paths {
            #expect(try sha256(ofFile: path) == "sha256:\((path as NSString).lastPathComponent)")
        }
    }

    private func call(_ arguments: [String], _ folder: String) throws -> String {
        try run([python, "\(Settings.packageRoot)/Tests/Clients/oras-client.py"] + arguments, directory: folder)
    }
}
