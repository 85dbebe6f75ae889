import FaultProxy
import Foundation
import Testing

/// The two kinds of truth a registry can stand in front of.
enum OriginKind: String, Sendable, CaseIterable, CustomTestStringConvertible {
    case directory
    case s3

    var testDescription: String { rawValue }
}

/// A truth of its own for one test.
protocol Origin: AnyObject {
    /// The flags and the environment that point `forebay serve` at it.
    var flags: [String] { get }
    var environment: [String: String] { get }

    /// The keys of all objects, sorted, without what stands before the layout's root (`epoch/`).
    func keys() throws -> [String]
    func object(_ key: String) throws -> [UInt8]
    func remove(_ key: String) throws

    /// From now on a request for blob bytes is noticed by ``blobRequests()`` or fails.
    func watchBlobs() throws
    /// Requests for blob bytes since ``watchBlobs()``, as far as this origin can tell them.
    func blobRequests() throws -> [String]
    func stopWatching() throws
}

extension OriginKind {
    /// Skips the test when this kind is not to be had.
    func make() throws -> any Origin {
        switch self {
        case .directory:
            return try DirectoryOrigin()
        case .s3:
            return try S3Origin(server: S3Server.required())
        }
    }
}

/// Keys as files below a folder.
final class DirectoryOrigin: Origin {
    private let workspace: TemporaryDirectory
    let folder: String
    private var blobs: String { "\(folder)/epoch/blobs" }
    private var hidden: String { "\(workspace.path)/hidden" }

    init() throws {
        workspace = try TemporaryDirectory()
        folder = try workspace.folder("origin")
    }

    var flags: [String] { ["--origin", "file://\(folder)"] }
    let environment: [String: String] = [:]

    /// Without what the store keeps for itself.
    func keys() throws -> [String] { files(below: folder).filter { !$0.hasPrefix(".forebay/") } }
    func object(_ key: String) throws -> [UInt8] { try contents(of: "\(folder)/\(key)") }
    func remove(_ key: String) throws { try FileManager.default.removeItem(atPath: "\(folder)/\(key)") }

    /// Puts an object there as somebody else would.
    func write(_ bytes: [UInt8], to key: String) throws {
        let path = URL(fileURLWithPath: "\(folder)/\(key)")
        try FileManager.default.createDirectory(at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: path, options: .atomic)
    }

    /// A folder that is gone answers nobody.
    func watchBlobs() throws { try FileManager.default.moveItem(atPath: blobs, toPath: hidden) }
    func blobRequests() throws -> [String] { FileManager.default.fileExists(atPath: blobs) ? files(below: blobs) : [] }

    func stopWatching() throws {
        if FileManager.default.fileExists(atPath: blobs) { try FileManager.default.removeItem(atPath: blobs) }
        try FileManager.default.moveItem(atPath: hidden, toPath: blobs)
    }
}

/// A bucket of its own on the S3 server, reached through a relay that sees every request.
final class S3Origin: Origin {
    let server: S3Server
    let bucket: String
    let relay: FaultProxy
    /// Told by the EPOCH_S3_ variables alone, as the seed's own programs are.
    private let isToldAsTheSeedIs: Bool

    init(server: S3Server, toldAsTheSeedIs: Bool = false) throws {
        self.server = server
        isToldAsTheSeedIs = toldAsTheSeedIs
        bucket = "forebay-\(UUID().uuidString.lowercased())"
        try server.createBucket(bucket)
        relay = try FaultProxy.relay(to: server.port)
    }

    var flags: [String] {
        guard !isToldAsTheSeedIs else { return [] }
        return [
            "--origin", "s3://\(bucket)/epoch/", "--s3-endpoint", "http://\(relay.endpoint.authority)",
            "--s3-region", server.region, "--s3-addressing", "path",
        ]
    }

    var environment: [String: String] {
        guard isToldAsTheSeedIs else { return server.credentials }
        return [
            "EPOCH_S3_ENDPOINT": relay.endpoint.authority, "EPOCH_S3_SECURE": "false", "EPOCH_S3_BUCKET": bucket,
            "EPOCH_S3_REGION": server.region, "EPOCH_S3_ACCESS_KEY": server.credentials["AWS_ACCESS_KEY_ID"]!,
            "EPOCH_S3_SECRET_KEY": server.credentials["AWS_SECRET_ACCESS_KEY"]!,
            // The tests' own would go before them.
            "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_DEFAULT_REGION": "",
        ]
    }

    func keys() throws -> [String] { try server.keys(of: bucket) }
    func object(_ key: String) throws -> [UInt8] { try server.object(key, in: bucket) }
    func remove(_ key: String) throws { try server.remove(key, in: bucket) }

    func watchBlobs() { relay.forget() }
    func blobRequests() -> [String] { relay.blobRequests }
    func stopWatching() {}
}
