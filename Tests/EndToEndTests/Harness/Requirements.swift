import Foundation
import Glibc
import Testing

/// Where the tests find what they drive.
enum Settings {
    static let environment = ProcessInfo.processInfo.environment

    /// The folder of Package.swift.
    static let packageRoot: String = {
        var url = URL(fileURLWithPath: #filePath)
        for _ in 0..<4 { url.deleteLastPathComponent() }
        return url.path
    }()

    /// Runs a script of Tests/Clients that fills a folder; the folder, which is kept until the script changes.
    static func fixture(by script: String) throws -> String {
        let path = "\(packageRoot)/Tests/Clients/\(script)"
        let folder = try "\(packageRoot)/.build/end-to-end/\(script)-\(sha256Hex(contents(of: path)).prefix(12))"
        try run([path, folder], seconds: 600)
        return folder
    }

    /// `FOREBAY_BINARY`, else the release build.
    static let binary = environment["FOREBAY_BINARY"] ?? packageRoot + "/.build/release/forebay"

    /// `make test` sets this: it has installed everything, so a missing tool is a failure there and no reason to skip.
    static let isEverythingRequired = environment["FOREBAY_TEST_REQUIRE_ALL"] == "1"
}

/// Something a test needs and this machine may not have.
struct MissingRequirement: Error, CustomStringConvertible {
    let description: String
}

/// Skips the current test, with its reason in the output, when `isMet` is false.
func require(_ isMet: Bool, _ reason: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
    guard !isMet else { return }
    if Settings.isEverythingRequired { throw MissingRequirement(description: reason) }
    // The test library says nothing of a single case that is cancelled.
    print("skipped: \(Test.current?.name ?? "a test"): \(reason)")
    try Test.cancel("\(reason)", sourceLocation: sourceLocation)
}

/// Skips the current test when one of `tools` is not installed.
func require(tools: String..., sourceLocation: SourceLocation = #_sourceLocation) throws {
    let missing = tools.filter { findTool($0) == nil }
    try require(
        missing.isEmpty,
        "not installed: \(missing.joined(separator: ", "))",
        sourceLocation: sourceLocation
    )
}

/// Clients that unpack file systems need the rights to do so.
func requireRoot(sourceLocation: SourceLocation = #_sourceLocation) throws {
    try require(geteuid() == 0, "needs root to unpack a file system", sourceLocation: sourceLocation)
}

func findTool(_ name: String) -> String? {
    let folders = (Settings.environment["PATH"] ?? "").split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"]
    return folders.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
}
