import AdminAPI
import DiskTier
import EdgeCache
import HTTPClient
import HTTPServer
import Hashing
import Logging
import OCI
import ObjectStorage
import Registry
import System
import TestDoubles
import Threading

/// A cache over a store in memory, and its admin API on a socket in the cache's folder.
final class Admin {
    let store = MemoryStore()
    let folder = TemporaryFolder()
    let tier: DiskTier
    let cache: EdgeCache
    let handler: AdminHandler
    let socketPath: String
    private let server: Server
    private let client: Client

    init(ceilingBytes: Int64 = 256 << 20) throws {
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        tier = try DiskTier(
            DiskTier.Configuration(directory: folder.path + "/cache", ceilingBytes: ceilingBytes)
        )
        cache = EdgeCache(registry: Registry(store: store), tier: tier, log: log)
        handler = AdminHandler(CacheAdministration(tier: tier, edge: cache), log: log)
        socketPath = folder.path + "/cache/admin.sock"
        server = try Server(ServerConfiguration(unixSocket: SocketPath(socketPath)), handler: handler)
        var configuration = ClientConfiguration()
        configuration.unixSocket = try SocketPath(socketPath)
        configuration.proxy = .none
        client = try Client(configuration)
    }

    deinit {
        handler.close()
        server.stop(drain: .seconds(10))
        cache.close()
        tier.close()
    }

    /// Every event of an answer, without the empty ones.
    func events(_ request: CacheRequest) throws -> [CacheEvent] {
        let (_, body) = try post("/cache/\(request.operation.rawValue)", request.json, limitBytes: 64 << 20)
        return body.split(separator: UInt8(ascii: "\n")).compactMap { CacheEvent(line: $0) }
    }

    func post(_ path: String, _ body: [UInt8] = [], limitBytes: Int = 1 << 20) throws -> (Int, [UInt8]) {
        let message = Request("POST", "http://forebay" + path, body: .bytes(body))
        let (response, body) = try client.perform(message, bodyLimitBytes: limitBytes)
        return (response.status, body)
    }

    /// Asks, and goes away with the first piece of the answer.
    func leaveEarly(_ request: CacheRequest) throws {
        struct Left: Error {}
        let message = Request("POST", "http://forebay/cache/\(request.operation.rawValue)", body: .bytes(request.json))
        do throws(TransferError) {
            try client.perform(message) { _, _ in throw Left() }
        } catch {
            guard case .receiver = error.kind else { throw error }
        }
    }

    // MARK: - Content at the origin

    func seed(_ content: [UInt8]) -> Digest {
        let digest = Digest(of: content)
        store["epoch/blobs/sha256/\(digest.hex)"] = content
        return digest
    }

    /// A manifest in the repository `team/app`.
    @discardableResult
    func seed(manifest: String, tag: String? = nil) -> Digest {
        let bytes = Array(manifest.utf8)
        let digest = Digest(of: bytes)
        store["epoch/manifests/team/app/_digests/sha256-\(digest.hex).json"] = bytes
        if let tag { store["epoch/manifests/team/app/\(tag).json"] = bytes }
        return digest
    }

    /// An image of a config and layers.
    @discardableResult
    func seedImage(_ tag: String?, layers: [[UInt8]]) -> (manifest: Digest, blobs: [Digest]) {
        let config = Array(#"{"layers":"\#(layers.map { Digest(of: $0) })"}"#.utf8)
        let blobs = ([config] + layers).map { ($0.count, seed($0)) }
        let descriptors = blobs.map { #"{"mediaType":"a/b","size":\#($0.0),"digest":"\#($0.1)"}"# }
        let manifest = seed(
            manifest:
                #"{"schemaVersion":2,"config":\#(descriptors[0]),"layers":[\#(descriptors[1...].joined(separator: ","))]}"#,
            tag: tag
        )
        return (manifest, blobs.map(\.1))
    }

    /// An index of children for platforms.
    func seedIndex(_ tag: String, _ children: [(Digest, platform: String)]) {
        let entries = children.map { digest, platform in
            let parts = platform.split(separator: "/")
            return #"{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"\#(digest)","#
                + #""platform":{"os":"\#(parts[0])","architecture":"\#(parts[1])"}}"#
        }
        seed(
            manifest:
                #"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[\#(entries.joined(separator: ","))]}"#,
            tag: tag
        )
    }
}

func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &+ seed) &* 2_654_435_761 >> 11) }
}
