import AdminAPI
import DiskTier
import EdgeCache
import HTTPClient
import HTTPServer
import Hashing
import Logging
import Metrics
import OCI
import ObjectStorage
import Registry
import RegistryAPI
import System
import TestDoubles
import Threading

/// A registry with monitoring on one address, as a node has it.
final class MonitoredNode {
    let store = MemoryStore()
    let lines = Monitor<[String]>([])
    /// Of lines of the access log, as they were reported.
    let losses = Monitor<[UInt64]>([])
    let folder = TemporaryFolder()
    let tier: DiskTier
    let cache: EdgeCache
    let readiness: Readiness
    private let server: Server
    private let client: Client

    init(
        accessLog: RequestObserver.AccessLog = .full,
        ceilingBytes: Int64 = 256 << 20,
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime(),
        beforeLog: @escaping @Sendable () -> Bool = { true },
        adjust: (inout EdgeCache.Configuration) -> Void = { _ in }
    ) throws {
        let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let meter = StoreMeter()
        let metered = MeteredStore(store, meter)
        tier = try DiskTier(
            DiskTier.Configuration(directory: folder.path + "/cache", ceilingBytes: ceilingBytes),
            fileSystem: fileSystem
        )
        var edgeConfiguration = EdgeCache.Configuration()
        adjust(&edgeConfiguration)
        cache = EdgeCache(
            registry: Registry(store: metered),
            tier: tier,
            configuration: edgeConfiguration,
            fileSystem: fileSystem,
            time: time,
            log: log
        )
        let (lines, losses) = (lines, losses)
        let observer = RequestObserver(accessLog: accessLog) { text in
            guard beforeLog() else { return (0, 28) }
            lines.update { $0 += text.split(separator: "\n").map { "\($0)\n" } }
            return (text.utf8.count, 0)
        } report: { dropped, _ in
            losses.update { $0.append(dropped) }
        }
        readiness = Readiness(tier: tier, origin: metered)
        let health = HealthHandler(
            readiness: readiness,
            metrics: NodeMetrics(version: "1.2.3", tier: tier, edge: cache, origin: metered, observer: observer)
        )
        server = try Server(
            ServerConfiguration(host: "127.0.0.1", port: 0),
            handler: MonitoredHandler(RegistryHandler(cache, observer: observer, log: log), health)
        )
        var configuration = ClientConfiguration()
        configuration.proxy = .none
        client = try Client(configuration)
    }

    deinit {
        server.stop(drain: .seconds(10))
        cache.close()
        tier.close()
    }

    func request(
        _ method: String,
        _ path: String,
        _ headers: [(name: String, value: String)] = [],
        body: [UInt8] = []
    ) throws -> (HTTPClient.Response, String) {
        let url = path.hasPrefix("http") ? path : "http://127.0.0.1:\(server.port)\(path)"
        let message = Request(method, url, headers: headers, body: body.isEmpty ? .none : .bytes(body))
        let (response, body) = try client.perform(message, bodyLimitBytes: 8 << 20)
        return (response, String(decoding: body, as: UTF8.self))
    }

    /// Asks for a path and tells the status, on any thread; 0 where there is none.
    var statusOfGet: @Sendable (String) -> Int {
        { [client, port = server.port] path in
            let message = Request("GET", "http://127.0.0.1:\(port)\(path)")
            return (try? client.perform(message, bodyLimitBytes: 8 << 20))?.0.status ?? 0  // no status: 0
        }
    }

    /// The value of a sample, by its name with labels; `nil` when it is not on the page.
    func sample(_ name: String) throws -> Double? {
        let page = try request("GET", "/metrics").1
        return page.split(separator: "\n").first { $0.hasPrefix(name + " ") }
            .flatMap { Double($0.dropFirst(name.count + 1)) }
    }

    /// The line of the access log that has this text in it.
    func line(with text: String) -> String? { lines.wait { $0.first { $0.contains(text) } } }

    func seed(_ content: [UInt8]) -> Digest {
        let digest = Digest(of: content)
        store["epoch/blobs/sha256/\(digest.hex)"] = content
        return digest
    }
}
