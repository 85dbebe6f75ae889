public import Logging
public import ObjectStorage
internal import Registry

/// The configuration as the program uses it: every value parsed and checked.
public struct Settings: Sendable {
    public enum Origin: Sendable {
        case directory(path: String)
        case s3(bucket: String)
    }

    public enum EvictionPolicy: String, Sendable {
        case lru, gdsf, sieve
        case s3FIFO = "s3-fifo"
    }

    public enum LogFormat: String, Sendable {
        case auto, text, json
    }

    public enum AccessLog: String, Sendable {
        case off, sampled, full
    }

    public enum CredentialChoice: Sendable {
        case anonymous
        /// Keys that are settings, and where they come from.
        case fixed(Credentials, source: String)
        case chain([CredentialChain.Source])
    }

    public struct S3: Sendable {
        public var endpoint: String?
        public var region: String
        /// `nil`: as suits the endpoint.
        public var addressing: S3Endpoint.Addressing?
        public var certificateAuthorityFile: String?
        public var credentials: CredentialChoice
        public var connectionLimit: Int
        public var connectTimeout: Duration
        public var stallTimeout: Duration
        public var requestTimeout: Duration
        public var partBytes: Int64
        public var partsInFlight: Int
        public var objectOptions: S3ObjectOptions
    }

    public var host: String
    public var port: UInt16
    public var connectionLimit: Int
    public var connectionLimitPerClient: Int
    public var idleTimeout: Duration
    public var headerLimitBytes: Int
    public var manifestLimitBytes: Int
    public var allowsDeletes: Bool
    public var drainTimeout: Duration
    public var cacheDirectory: String
    public var cacheSize: CacheSize
    public var cacheMinimumFree: CacheSize
    public var rebuildsUnreadableCache: Bool
    public var scrubInterval: Duration
    public var scrubBytesPerSecond: Int64
    public var evictionPolicy: EvictionPolicy
    /// Of the cache's size.
    public var evictionHighPercent: Int
    public var evictionLowPercent: Int
    public var inlineLimitBytes: Int
    public var fillLimit: Int
    public var fillPartBytes: Int
    public var fillPartsInFlight: Int
    public var fillUnattendedBytes: Int
    public var absentTTL: Duration
    public var uploadLimit: Int
    public var uploadExpiry: Duration
    public var uploadGrace: Duration
    /// Parts of a push go to the origin before its digest is known.
    /// `nil`: where the origin moves them cheaply.
    public var pushesUnnamedParts: Bool?
    public var tagTTL: Duration
    public var staleIfError: Duration
    public var origin: Origin
    /// Put before every key in the origin.
    public var prefix: String
    public var s3: S3
    /// `nil`: on the registry's address.
    public var adminAddress: (host: String, port: UInt16)?
    public var accessLog: AccessLog
    public var accessLogSample: Int
    public var logLevel: Logger.Level
    public var logFormat: LogFormat

    public init(_ effective: EffectiveSettings) throws(SettingsError) {
        let parser = Parser(effective)
        (host, port) = try parser.read("listen", "write HOST:PORT, for example 127.0.0.1:5000", Values.address)
        connectionLimit = try parser.count("connection-limit", 1...1_000_000)
        connectionLimitPerClient = try parser.count("connection-limit-per-client", 0...1_000_000)
        idleTimeout = try parser.duration("idle-timeout", atLeast: .seconds(1))
        headerLimitBytes = try parser.size("header-limit", 1 << 10...48 << 10)
        manifestLimitBytes = try parser.size("manifest-limit", 4 << 20...16 << 20)
        allowsDeletes = try parser.read("deletes", "choose on or off") { ["on": true, "off": false][$0] }
        drainTimeout = try parser.duration("drain-timeout")
        cacheDirectory = try parser.read("cache-dir", "write a path") { $0.isEmpty ? nil : $0 }
        cacheSize = try parser.read(
            "cache-size",
            "write a size of at least 1MiB such as 100GiB, or a percentage such as 50%"
        ) { text in
            guard let size = Values.cacheSize(text) else { return nil }
            if case .bytes(let bytes) = size, bytes < 1 << 20 { return nil }
            return size
        }
        cacheMinimumFree = try parser.read(
            "cache-min-free",
            "write a size such as 1GiB, or a percentage such as 5%",
            Values.cacheSize
        )
        rebuildsUnreadableCache = try parser.read("cache-unreadable", "choose refuse or rebuild") {
            ["refuse": false, "rebuild": true][$0]
        }
        scrubInterval = try parser.duration("scrub-interval")
        scrubBytesPerSecond = Int64(try parser.size("scrub-rate", 64 << 10...1 << 40))
        evictionPolicy = try parser.read("eviction-policy", "choose lru, gdsf, sieve or s3-fifo") { text in
            EvictionPolicy(rawValue: text)
        }
        evictionHighPercent = try parser.read("eviction-high", "write a percentage from 1% to 100%", Values.percent)
        let high = evictionHighPercent
        evictionLowPercent = try parser.read("eviction-low", "write a percentage up to eviction-high's \(high)%") {
            text in
            Values.percent(text).flatMap { $0 <= high ? $0 : nil }
        }
        inlineLimitBytes = try parser.size("inline-limit", 0...1 << 20)
        fillLimit = try parser.count("fill-limit", 1...1024)
        fillPartBytes = try parser.size("fill-part-size", 1 << 20...1 << 30)
        fillPartsInFlight = try parser.count("fill-parts-in-flight", 1...64)
        fillUnattendedBytes = try parser.size("fill-unattended-limit", 0...1 << 50)
        absentTTL = try parser.duration("absent-ttl")
        uploadLimit = try parser.count("upload-limit", 1...1_000_000)
        let expiry = try parser.duration("upload-expiry", atLeast: .seconds(1))
        uploadExpiry = expiry
        // Else one node could abort what another one is still at.
        uploadGrace = try parser.read("upload-grace", "write a duration such as 48h, longer than upload-expiry") {
            text in
            Values.duration(text).flatMap { $0 > expiry ? $0 : nil }
        }
        pushesUnnamedParts = try parser.read("push-ahead", "choose auto, known or always") {
            ["auto": Bool?.none, "known": false, "always": true][$0]
        }
        tagTTL = try parser.duration("tag-ttl")
        staleIfError = try parser.duration("stale-if-error")
        let parsed = try parser.read(
            "origin",
            "write file:///path or s3://bucket/prefix/, with a bucket's name of 3 to 63 letters, digits, dots and hyphens",
            OriginURL.parse
        )
        origin = parsed.origin
        // The seed puts its prefix before a key as it is.
        prefix = effective.seedPrefix ?? parsed.prefix
        s3 = try S3(parser)
        adminAddress = try parser.optional(
            "admin-listen",
            "write HOST:PORT, for example 127.0.0.1:5001",
            Values.address
        )
        accessLog = try parser.read("access-log", "choose off, sampled or full") { AccessLog(rawValue: $0) }
        accessLogSample = try parser.count("access-log-sample", 1...1_000_000)
        logLevel = try parser.read("log-level", "choose trace, debug, info, notice, warning, error or critical") {
            Logger.Level(rawValue: $0)
        }
        logFormat = try parser.read("log-format", "choose auto, text or json") { LogFormat(rawValue: $0) }
    }
}

/// Reads an origin: where, and the prefix of every key there.
enum OriginURL {
    static let standardPrefix = "epoch/"

    static func parse(_ text: String) -> (origin: Settings.Origin, prefix: String)? {
        if text.hasPrefix("file://") {
            let path = String(text.dropFirst("file://".count))
            guard path.hasPrefix("/") else { return nil }
            return (.directory(path: path), standardPrefix)
        }
        guard text.hasPrefix("s3://") else { return nil }
        let rest = text.dropFirst("s3://".count)
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let bucket = String(rest[..<slash])
        var prefix = String(rest[slash...].dropFirst())
        if isBucket(bucket), prefix == "/" { return (.s3(bucket: bucket), "") }
        if !prefix.isEmpty, !prefix.hasSuffix("/") { prefix += "/" }
        // Whether keys can begin with it is all that counts.
        guard isBucket(bucket), prefix.utf8.count <= BucketLayout.maximumPrefixBytes,
            prefix.isEmpty || (try? ObjectKey(prefix + "x")) != nil
        else { return nil }
        return (.s3(bucket: bucket), prefix.isEmpty ? standardPrefix : prefix)
    }

    /// 3 to 63 letters, digits, dots and hyphens (Amazon S3, "Bucket naming rules"; older buckets may have capitals and underscores).
    private static func isBucket(_ name: String) -> Bool {
        3...63 ~= name.utf8.count
            && name.utf8.allSatisfy { byte in
                48...57 ~= byte || 65...90 ~= byte || 97...122 ~= byte || "._-".utf8.contains(byte)
            }
    }
}

extension Settings.S3 {
    fileprivate init(_ parser: Parser) throws(SettingsError) {
        endpoint = try parser.optional("s3-endpoint", "write http://HOST:PORT or https://HOST") { text in
            let isPlain = user(of: text) == nil && !text.contains("?")
            return isPlain && (text.hasPrefix("http://") || text.hasPrefix("https://")) ? text : nil
        }
        region = try parser.read("s3-region", "write a region such as us-east-1") { $0.isEmpty ? nil : $0 }
        addressing = try parser.optional("s3-addressing", "choose path or virtual") { text in
            S3Endpoint.Addressing(rawValue: text)
        }
        certificateAuthorityFile = try parser.optional("s3-ca-file", "write a path") { $0.isEmpty ? nil : $0 }
        credentials = try Self.credentials(parser)
        connectionLimit = try parser.count("s3-connection-limit", 1...4096)
        connectTimeout = try parser.duration("s3-connect-timeout", atLeast: .milliseconds(100))
        stallTimeout = try parser.duration("s3-stall-timeout", atLeast: .seconds(1))
        partBytes = Int64(try parser.size("s3-part-size", 5 << 20...5 << 30))
        partsInFlight = try parser.count("s3-parts-in-flight", 1...64)
        requestTimeout = try parser.duration("s3-request-timeout", atLeast: .seconds(1))
        objectOptions = S3ObjectOptions(
            encryption: try Self.encryption(parser),
            storageClass: try parser.optional("s3-storage-class", "write a class such as STANDARD_IA", word),
            acl: try parser.optional("s3-acl", "write an ACL such as bucket-owner-full-control", word)
        )
    }

    private static func encryption(_ parser: Parser) throws(SettingsError) -> S3ObjectOptions.Encryption? {
        let key = try parser.optional("s3-kms-key", "write a key's id, ARN or alias", word)
        let encryption = try parser.optional("s3-encryption", "choose AES256 or aws:kms") { text in
            ["AES256": S3ObjectOptions.Encryption.storeKeys, "aws:kms": .kms(key: key)][text]
        }
        if key != nil, encryption != .kms(key: key) {
            throw SettingsError("s3-kms-key: it needs s3-encryption: aws:kms")
        }
        return encryption
    }

    private static func credentials(_ parser: Parser) throws(SettingsError) -> Settings.CredentialChoice {
        let fixed = try fixedCredentials(parser)
        let choices = "choose chain, web-identity, profile, container, instance or anonymous"
        return try parser.read("s3-credentials", choices) { text in
            switch text {
            case "anonymous": .anonymous
            // The environment's own keys are a setting here.
            case "chain": fixed ?? .chain(CredentialChain.Source.allCases.filter { $0 != .environment })
            case "environment": nil
            default: CredentialChain.Source(rawValue: text).map { .chain([$0]) }
            }
        }
    }

    private static func fixedCredentials(_ parser: Parser) throws(SettingsError) -> Settings.CredentialChoice? {
        let accessKey = try parser.optional("s3-access-key", "write a key") { $0.isEmpty ? nil : $0 }
        let secretKey = try parser.optional("s3-secret-key", "write a key") { $0.isEmpty ? nil : $0 }
        switch (accessKey, secretKey) {
        case (nil, nil):
            return nil
        case (let accessKey?, let secretKey?):
            let token = try sessionToken(parser)
            let credentials = Credentials(
                accessKey: accessKey,
                secretKey: Secret(secretKey),
                sessionToken: token.map { Secret($0) }
            )
            return .fixed(credentials, source: parser.effective["s3-access-key"]?.source ?? "")
        case (_?, nil):
            throw SettingsError("s3-secret-key: there is an s3-access-key without it; set both or neither")
        case (nil, _?):
            throw SettingsError("s3-access-key: there is an s3-secret-key without it; set both or neither")
        }
    }

    /// A token of the environment belongs to the environment's key.
    private static func sessionToken(_ parser: Parser) throws(SettingsError) -> String? {
        let token = try parser.optional("s3-session-token", "write a token") { $0.isEmpty ? nil : $0 }
        return isAWS(parser, "s3-session-token") && !isAWS(parser, "s3-access-key") ? nil : token
    }

    private static func isAWS(_ parser: Parser, _ key: String) -> Bool {
        parser.effective[key]?.source.hasPrefix("environment variable AWS_") ?? false
    }
}

/// What may stand in a header as it is.
private func word(_ text: String) -> String? {
    1...2048 ~= text.utf8.count && text.utf8.allSatisfy({ 33...126 ~= $0 }) ? text : nil
}

/// Turns texts into values, and what cannot be one into an error that says what to do.
private struct Parser {
    let effective: EffectiveSettings

    init(_ effective: EffectiveSettings) { self.effective = effective }

    func optional<Value>(
        _ name: String,
        _ remedy: String,
        _ parse: (String) -> Value?
    ) throws(SettingsError) -> Value? {
        guard let setting = effective[name] else { return nil }
        guard let value = parse(setting.text) else { throw SettingsError(SettingKey[name], setting, remedy) }
        return value
    }

    func read<Value>(_ name: String, _ remedy: String, _ parse: (String) -> Value?) throws(SettingsError) -> Value {
        guard let value = try optional(name, remedy, parse) else { throw SettingsError("\(name): set it; \(remedy)") }
        return value
    }

    func count(_ name: String, _ range: ClosedRange<Int>) throws(SettingsError) -> Int {
        try read(name, "write a number from \(range.lowerBound) to \(range.upperBound)") { text in
            Values.count(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    func size(_ name: String, _ range: ClosedRange<Int>) throws(SettingsError) -> Int {
        let example = range.contains(64 << 10) ? "64KiB" : range.contains(1 << 20) ? "1MiB" : "\(range.lowerBound)"
        let advice = "write a size from \(range.lowerBound) to \(range.upperBound) bytes, such as \(example)"
        return try read(name, advice) { text in
            Values.size(text).flatMap { range.contains(Int($0)) ? Int($0) : nil }
        }
    }

    func duration(_ name: String, atLeast least: Duration = .zero) throws(SettingsError) -> Duration {
        try read(name, "write a duration such as 500ms, 10s, 5m or 24h\(least > .zero ? ", at least \(least)" : "")") {
            text in
            Values.duration(text).flatMap { $0 >= least ? $0 : nil }
        }
    }
}
