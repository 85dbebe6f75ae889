internal import AdminAPI
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
    /// On the socket in the cache directory.
    private let adminServer: Server
    private let admin: AdminHandler
    /// On an address of its own, if there is one.
    private let healthServer: Server?
    private let observer: RequestObserver
    private let readiness: Readiness
    private let contact: OriginContact
    private let edge: EdgeCache
    private let tier: DiskTier

    init(_ settings: Settings, log: Logger) throws {
        let meter = StoreMeter()
        let store = try Self.store(settings, log: log, meter)
        origin = store.description
        let metered = MeteredStore(store, meter, tellsRequests: store is S3Store)
        let registry = Registry(store: metered, prefix: settings.prefix)
        // Before anything is written: another process may have the directory.
        tier = try Self.tier(settings, log)
        contact = OriginContact(registry, log)
        contact.begin()
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
        observer = RequestObserver(
            accessLog: RequestObserver.AccessLog(settings),
            report: { dropped, code in
                let failure = FileError(operation: "write", path: "standard output", code: code)
                let reason = code == 0 ? "nobody reads it, or too slowly" : "\(failure)"
                log.warning("lines of the access log are lost: \(reason)", metadata: ["lines": "\(dropped)"])
            }
        )
        let registryHandler = RegistryHandler(edge, configuration: configuration, observer: observer, log: log)
        let handler = ContactedHandler(handler: registryHandler, contact: contact)
        readiness = Readiness(tier: tier, origin: metered)
        let metrics = NodeMetrics(version: Forebay.version, tier: tier, edge: edge, origin: metered, observer: observer)
        let health = HealthHandler(readiness: readiness, metrics: metrics)
        admin = AdminHandler(CacheAdministration(tier: tier, edge: edge), health: health, log: log)
        var listening: [Server] = []
        do {
            adminServer = try Self.adminServer(settings, admin)
            listening.append(adminServer)
            healthServer = try Self.healthServer(settings, health)
            if let healthServer { listening.append(healthServer) }
            let front: any RequestHandler = healthServer == nil ? MonitoredHandler(handler, health) : handler
            server = try Server(ServerConfiguration(settings), handler: front)
        } catch {
            for server in listening { server.stop(drain: Self.grace) }
            contact.close()
            _ = edge.close()
            tier.close()
            throw Unavailable(description: "listen: \(error)\((error as? ServerError)?.advice ?? "")")
        }
        address = "\(settings.host):\(server.port)"
        do {
            try contact.conclude()
        } catch {
            // What was cached is served already.
            _ = stop(drain: Self.grace)
            throw Unavailable(description: "origin: \(error)")
        }
    }

    var requestsInFlight: Int { server.requestsInFlight }

    /// What closing may take once the drain timeout is over, and an access log that nobody reads at any time.
    private static let grace: Duration = .seconds(2)

    /// Front to back: no new requests, then no fills, then a clean index. False when requests were cut off; the tier is none the worse for it: what
    /// they still change in the index is seen at the next start.
    func stop(drain: Duration) -> Bool {
        let start = ContinuousClock.now
        func rest() -> Duration { max(drain - (ContinuousClock.now - start), .zero) }
        readiness.stop()
        contact.close()
        let isDrained = server.stop(drain: drain)
        let isAdminDone = admin.close(within: rest()) && adminServer.stop(drain: rest())
        let isEdgeDone = edge.close(within: max(rest(), Self.grace))
        healthServer?.stop(drain: .zero)
        tier.close()
        observer.close(within: Self.grace)
        return isDrained && isAdminDone && isEdgeDone
    }

    /// Few connections, none of which counts as idle: long work may have nothing to say for a while.
    private static func adminServer(_ settings: Settings, _ handler: AdminHandler) throws -> Server {
        let path = try SocketPath(AdminSocket.path(settings))
        var configuration = ServerConfiguration(unixSocket: path)
        configuration.connectionLimit = 64
        configuration.idleTimeoutSeconds = 0
        return try Server(configuration, handler: handler)
    }

    private static func healthServer(_ settings: Settings, _ handler: HealthHandler) throws -> Server? {
        guard let (host, port) = settings.adminAddress else { return nil }
        var configuration = ServerConfiguration(host: host, port: port)
        configuration.connectionLimit = 64
        return try Server(configuration, handler: handler)
    }

    static func store(_ settings: Settings, log: Logger, _ meter: StoreMeter? = nil) throws -> any ObjectStore {
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
            let report: @Sendable (StoreEvent) -> Void = { event in
                log.log(level: event.isTrouble ? .warning : .notice, "\(event)")
            }
            var configuration = S3Configuration(endpoint: endpoint, credentials: try credentials(s3, report))
            configuration.partBytes = s3.partBytes
            configuration.partsInFlight = s3.partsInFlight
            configuration.requestTimeoutSeconds = max(1, s3.requestTimeout.milliseconds / 1000)
            configuration.objectOptions = s3.objectOptions
            configuration.report = report
            if let meter { configuration.requested = { meter.count($0, $1) } }
            return S3Store(configuration, client: try client(s3))
        }
    }

    private static func credentials(
        _ s3: Settings.S3,
        _ report: @escaping @Sendable (StoreEvent) -> Void
    ) throws -> CredentialProvider {
        switch s3.credentials {
        case .anonymous: return .anonymous
        case .fixed(let credentials, let source):
            report(.credentials(source: source, until: nil))
            return .fixed(credentials)
        case .chain(let sources):
            do {
                let file = s3.certificateAuthorityFile
                let chain = try CredentialChain(sources, region: s3.region, certificateAuthorityFile: file)
                return CredentialCache(chain, report: report).provider
            } catch {
                throw SettingsError("s3-ca-file: \(error)")
            }
        }
    }

    private static func client(_ s3: Settings.S3) throws -> Client {
        var configuration = ClientConfiguration()
        configuration.maxConnections = s3.connectionLimit
        configuration.connectionsForReads = s3.connectionLimit / 4
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
        let configuration = try tierConfiguration(settings)
        do {
            return try DiskTier(configuration) { event in log.log(level: event.isProblem ? .warning : .info, "\(event)")
            }
        } catch {
            throw Unavailable(description: "cache-dir: \(error)")
        }
    }

    static func tierConfiguration(_ settings: Settings) throws -> DiskTier.Configuration {
        var configuration = DiskTier.Configuration(
            directory: settings.cacheDirectory,
            ceilingBytes: try bytes(settings.cacheSize, settings)
        )
        configuration.minimumFreeBytes = try bytes(settings.cacheMinimumFree, settings)
        configuration.rebuildsIndex = settings.rebuildsUnreadableCache
        configuration.scrubInterval = settings.scrubInterval
        configuration.scrubBytesPerSecond = settings.scrubBytesPerSecond
        configuration.inlineLimitBytes = settings.inlineLimitBytes
        configuration.evictionPolicy =
            switch settings.evictionPolicy {
            case .lru: .lru
            case .gdsf: .gdsf
            case .sieve: .sieve
            case .s3FIFO: .s3FIFO
            }
        configuration.highWatermarkPercent = Int64(settings.evictionHighPercent)
        configuration.lowWatermarkPercent = Int64(settings.evictionLowPercent)
        return configuration
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
    init(_ settings: Settings) {
        self.init()
        tagTTL = settings.tagTTL
        staleIfError = settings.staleIfError
        fillThreads = settings.fillLimit
        fillPartBytes = Int64(settings.fillPartBytes)
        fillPartsInFlight = settings.fillPartsInFlight
        // A local disk gives its bytes fastest in one piece after another.
        if case .directory = settings.origin { fillPartsInFlight = 1 }
        fillUnattendedBytes = Int64(settings.fillUnattendedBytes)
        absentTTL = settings.absentTTL
        uploadSessionLimit = settings.uploadLimit
        uploadExpiry = settings.uploadExpiry
        abandonedUploadGrace = settings.uploadGrace
        sendsUnnamedParts = settings.pushesUnnamedParts
        guard case .s3 = settings.origin else { return }
        // Readers of the disk's misses, pushes and what they both ask in few words each find connections left.
        let connections = settings.s3.connectionLimit
        passingReadLimit = max(1, connections / 2)
        pushThreads = max(1, min(max(pushThreads, settings.s3.partsInFlight), connections * 3 / 4))
    }
}

extension RequestObserver.AccessLog {
    fileprivate init(_ settings: Settings) {
        self =
            switch settings.accessLog {
            case .off: .off
            case .sampled: .sampled(oneIn: settings.accessLogSample)
            case .full: .full
            }
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
