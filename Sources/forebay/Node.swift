internal import DiskTier
internal import EdgeCache
internal import HTTPClient
internal import HTTPServer
internal import Logging
internal import ObjectStorage
internal import Registry
internal import RegistryAPI
internal import Settings
internal import System

/// A running node: the rooms, wired.
struct Node {
    let address: String
    let origin: String
    private let server: Server
    private let edge: EdgeCache
    private let tier: DiskTier

    init(_ settings: Settings, log: Logger) throws {
        let store = try Self.store(settings)
        origin = store.description
        let registry = Registry(store: store, prefix: settings.prefix)
        // Before anything is written: another process may have the directory.
        tier = try Self.tier(settings, log)
        do {
            try store.check()
        } catch {
            tier.close()
            throw Unavailable(description: "origin: \(error)")
        }
        Self.probe(registry, log)
        if tier.statistics.wasUnclean {
            log.notice("the last stop was not clean: content is verified again before it is served")
        }
        edge = EdgeCache(
            registry: registry,
            tier: tier,
            configuration: EdgeCache.Configuration(settings),
            log: log
        )
        var configuration = RegistryHandler.Configuration()
        configuration.manifestLimitBytes = settings.manifestLimitBytes
        configuration.allowsDeletes = settings.allowsDeletes
        let handler = RegistryHandler(edge, configuration: configuration, log: log)
        do {
            server = try Server(ServerConfiguration(settings), handler: handler)
        } catch {
            _ = edge.close()
            tier.close()
            throw Unavailable(description: "listen: \(error); choose another address or stop what uses it")
        }
        address = "\(settings.host):\(server.port)"
    }

    var requestsInFlight: Int { server.requestsInFlight }

    /// Front to back: no new requests, then no fills, then a clean index. False when something was cut off: the next start is careful then.
    func stop(drain: Duration) -> Bool {
        let start = ContinuousClock.now
        guard server.stop(drain: drain), edge.close(within: drain - (ContinuousClock.now - start)) else { return false }
        tier.close()
        return true
    }

    /// A bucket that may only be read cannot be probed, and serves pulls all the same.
    private static func probe(_ registry: Registry, _ log: Logger) {
        do {
            let found = try registry.probe()
            log.info(
                "probed the origin",
                metadata: [
                    "if-none-match": "\(found.ifAbsent)", "if-match": "\(found.ifMatch)",
                    "etag-is-content-hash": "\(found.etagIsContentHash)",
                ]
            )
        } catch {
            log.warning("the origin cannot be written", metadata: ["error": "\(error)"])
        }
    }

    static func store(_ settings: Settings) throws -> any ObjectStore {
        switch settings.origin {
        case .directory(let path):
            do {
                return try DirectoryStore(root: path)
            } catch {
                throw Unavailable(description: "origin: \(error)")
            }
        case .s3(let bucket):
            let s3 = settings.s3
            let endpoint: S3Endpoint
            do {
                endpoint = try S3Endpoint(s3.endpoint, bucket: bucket, region: s3.region, addressing: s3.addressing)
            } catch {
                throw SettingsError("s3-endpoint, s3-region or origin: \(error)")
            }
            var configuration = S3Configuration(
                endpoint: endpoint,
                credentials: s3.credentials.map { .fixed($0) } ?? .anonymous
            )
            configuration.partBytes = s3.partBytes
            configuration.partsInFlight = s3.partsInFlight
            return S3Store(configuration, client: try client(s3))
        }
    }

    private static func client(_ s3: Settings.S3) throws -> Client {
        var configuration = ClientConfiguration()
        configuration.maxConnections = s3.connectionLimit
        configuration.connectTimeoutMilliseconds = s3.connectTimeout.milliseconds
        configuration.stallSeconds = max(1, s3.stallTimeout.milliseconds / 1000)
        configuration.certificateAuthorityFile = s3.certificateAuthorityFile
        do {
            return try Client(configuration)
        } catch {
            throw SettingsError("s3-ca-file: \(error)")
        }
    }

    private static func tier(_ settings: Settings, _ log: Logger) throws -> DiskTier {
        var configuration = DiskTier.Configuration(
            directory: settings.cacheDirectory,
            ceilingBytes: try bytes(settings.cacheSize, settings)
        )
        configuration.minimumFreeBytes = try bytes(settings.cacheMinimumFree, settings)
        configuration.rebuildsIndex = settings.rebuildsUnreadableCache
        configuration.scrubInterval = settings.scrubInterval
        configuration.scrubBytesPerSecond = settings.scrubBytesPerSecond
        configuration.inlineLimitBytes = settings.inlineLimitBytes
        do {
            return try DiskTier(configuration) { event in log.log(level: event.isProblem ? .warning : .info, "\(event)")
            }
        } catch {
            throw Unavailable(description: "cache-dir: \(error)")
        }
    }

    /// A percentage is one of the file system that the cache is on.
    private static func bytes(_ size: CacheSize, _ settings: Settings) throws -> Int64 {
        switch size {
        case .bytes(let bytes): return bytes
        case .percent(let percent):
            do {
                try LocalFileSystem().createDirectory(settings.cacheDirectory)
                return try LocalFileSystem().space(at: settings.cacheDirectory).capacity / 100 * Int64(percent)
            } catch {
                throw Unavailable(description: "cache-dir: \(error)")
            }
        }
    }
}

extension EdgeCache.Configuration {
    fileprivate init(_ settings: Settings) {
        self.init()
        tagTTL = settings.tagTTL
        staleIfError = settings.staleIfError
        fillThreads = settings.fillLimit
        uploadSessionLimit = settings.uploadLimit
        uploadExpiry = settings.uploadExpiry
    }
}

extension ServerConfiguration {
    fileprivate init(_ settings: Settings) {
        self.init(host: settings.host, port: settings.port)
        connectionLimit = settings.connectionLimit
        connectionsPerAddressLimit = settings.connectionLimitPerClient
        idleTimeoutSeconds = Int(settings.idleTimeout.components.seconds)
        headerLimitBytes = settings.headerLimitBytes
    }
}

extension Duration {
    fileprivate var milliseconds: Int {
        Int(components.seconds) * 1000 + Int(components.attoseconds / 1_000_000_000_000_000)
    }
}
