internal import ArgumentParser
internal import Settings

/// A flag for each key of the configuration, and the file.
struct Flags: ParsableArguments {
    @Option(help: ArgumentHelp("A YAML file with any of these keys; FOREBAY_CONFIG.", valueName: "FILE"))
    var config: String?

    @Option(name: .customLong("listen"), help: help("listen"))
    var listen: String?

    @Option(name: .customLong("connection-limit"), help: help("connection-limit"))
    var connectionLimit: String?

    @Option(name: .customLong("connection-limit-per-client"), help: help("connection-limit-per-client"))
    var connectionLimitPerClient: String?

    @Option(name: .customLong("idle-timeout"), help: help("idle-timeout"))
    var idleTimeout: String?

    @Option(name: .customLong("header-limit"), help: help("header-limit"))
    var headerLimit: String?

    @Option(name: .customLong("manifest-limit"), help: help("manifest-limit"))
    var manifestLimit: String?

    @Option(name: .customLong("deletes"), help: help("deletes"))
    var deletes: String?

    @Option(name: .customLong("drain-timeout"), help: help("drain-timeout"))
    var drainTimeout: String?

    @Option(name: .customLong("cache-dir"), help: help("cache-dir"))
    var cacheDir: String?

    @Option(name: .customLong("cache-size"), help: help("cache-size"))
    var cacheSize: String?

    @Option(name: .customLong("cache-min-free"), help: help("cache-min-free"))
    var cacheMinFree: String?

    @Option(name: .customLong("cache-unreadable"), help: help("cache-unreadable"))
    var cacheUnreadable: String?

    @Option(name: .customLong("scrub-interval"), help: help("scrub-interval"))
    var scrubInterval: String?

    @Option(name: .customLong("scrub-rate"), help: help("scrub-rate"))
    var scrubRate: String?

    @Option(name: .customLong("eviction-policy"), help: help("eviction-policy"))
    var evictionPolicy: String?

    @Option(name: .customLong("eviction-high"), help: help("eviction-high"))
    var evictionHigh: String?

    @Option(name: .customLong("eviction-low"), help: help("eviction-low"))
    var evictionLow: String?

    @Option(name: .customLong("inline-limit"), help: help("inline-limit"))
    var inlineLimit: String?

    @Option(name: .customLong("fill-limit"), help: help("fill-limit"))
    var fillLimit: String?

    @Option(name: .customLong("fill-part-size"), help: help("fill-part-size"))
    var fillPartSize: String?

    @Option(name: .customLong("fill-parts-in-flight"), help: help("fill-parts-in-flight"))
    var fillPartsInFlight: String?

    @Option(name: .customLong("fill-unattended-limit"), help: help("fill-unattended-limit"))
    var fillUnattendedLimit: String?

    @Option(name: .customLong("absent-ttl"), help: help("absent-ttl"))
    var absentTtl: String?

    @Option(name: .customLong("upload-limit"), help: help("upload-limit"))
    var uploadLimit: String?

    @Option(name: .customLong("upload-expiry"), help: help("upload-expiry"))
    var uploadExpiry: String?

    @Option(name: .customLong("upload-grace"), help: help("upload-grace"))
    var uploadGrace: String?

    @Option(name: .customLong("push-ahead"), help: help("push-ahead"))
    var pushAhead: String?

    @Option(name: .customLong("tag-ttl"), help: help("tag-ttl"))
    var tagTtl: String?

    @Option(name: .customLong("stale-if-error"), help: help("stale-if-error"))
    var staleIfError: String?

    @Option(name: .customLong("origin"), help: help("origin"))
    var origin: String?

    @Option(name: .customLong("s3-endpoint"), help: help("s3-endpoint"))
    var s3Endpoint: String?

    @Option(name: .customLong("s3-region"), help: help("s3-region"))
    var s3Region: String?

    @Option(name: .customLong("s3-addressing"), help: help("s3-addressing"))
    var s3Addressing: String?

    @Option(name: .customLong("s3-ca-file"), help: help("s3-ca-file"))
    var s3CaFile: String?

    @Option(name: .customLong("s3-credentials"), help: help("s3-credentials"))
    var s3Credentials: String?

    @Option(name: .customLong("s3-access-key"), help: help("s3-access-key"))
    var s3AccessKey: String?

    @Option(name: .customLong("s3-secret-key"), help: help("s3-secret-key"))
    var s3SecretKey: String?

    @Option(name: .customLong("s3-session-token"), help: help("s3-session-token"))
    var s3SessionToken: String?

    @Option(name: .customLong("s3-connection-limit"), help: help("s3-connection-limit"))
    var s3ConnectionLimit: String?

    @Option(name: .customLong("s3-connect-timeout"), help: help("s3-connect-timeout"))
    var s3ConnectTimeout: String?

    @Option(name: .customLong("s3-stall-timeout"), help: help("s3-stall-timeout"))
    var s3StallTimeout: String?

    @Option(name: .customLong("s3-request-timeout"), help: help("s3-request-timeout"))
    var s3RequestTimeout: String?

    @Option(name: .customLong("s3-part-size"), help: help("s3-part-size"))
    var s3PartSize: String?

    @Option(name: .customLong("s3-parts-in-flight"), help: help("s3-parts-in-flight"))
    var s3PartsInFlight: String?

    @Option(name: .customLong("s3-encryption"), help: help("s3-encryption"))
    var s3Encryption: String?

    @Option(name: .customLong("s3-kms-key"), help: help("s3-kms-key"))
    var s3KmsKey: String?

    @Option(name: .customLong("s3-storage-class"), help: help("s3-storage-class"))
    var s3StorageClass: String?

    @Option(name: .customLong("s3-acl"), help: help("s3-acl"))
    var s3Acl: String?

    @Option(name: .customLong("admin-listen"), help: help("admin-listen"))
    var adminListen: String?

    @Option(name: .customLong("access-log"), help: help("access-log"))
    var accessLog: String?

    @Option(name: .customLong("access-log-sample"), help: help("access-log-sample"))
    var accessLogSample: String?

    @Option(name: .customLong("log-level"), help: help("log-level"))
    var logLevel: String?

    @Option(name: .customLong("log-format"), help: help("log-format"))
    var logFormat: String?

    /// What was given.
    var given: [String: String] {
        let all: [(String, String?)] = [
            ("listen", listen),
            ("connection-limit", connectionLimit),
            ("connection-limit-per-client", connectionLimitPerClient),
            ("idle-timeout", idleTimeout),
            ("header-limit", headerLimit),
            ("manifest-limit", manifestLimit),
            ("deletes", deletes),
            ("drain-timeout", drainTimeout),
            ("cache-dir", cacheDir),
            ("cache-size", cacheSize),
            ("cache-min-free", cacheMinFree),
            ("cache-unreadable", cacheUnreadable),
            ("scrub-interval", scrubInterval),
            ("scrub-rate", scrubRate),
            ("eviction-policy", evictionPolicy),
            ("eviction-high", evictionHigh),
            ("eviction-low", evictionLow),
            ("inline-limit", inlineLimit),
            ("fill-limit", fillLimit),
            ("fill-part-size", fillPartSize),
            ("fill-parts-in-flight", fillPartsInFlight),
            ("fill-unattended-limit", fillUnattendedLimit),
            ("absent-ttl", absentTtl),
            ("upload-limit", uploadLimit),
            ("upload-expiry", uploadExpiry),
            ("upload-grace", uploadGrace),
            ("push-ahead", pushAhead),
            ("tag-ttl", tagTtl),
            ("stale-if-error", staleIfError),
            ("origin", origin),
            ("s3-endpoint", s3Endpoint),
            ("s3-region", s3Region),
            ("s3-addressing", s3Addressing),
            ("s3-ca-file", s3CaFile),
            ("s3-credentials", s3Credentials),
            ("s3-access-key", s3AccessKey),
            ("s3-secret-key", s3SecretKey),
            ("s3-session-token", s3SessionToken),
            ("s3-connection-limit", s3ConnectionLimit),
            ("s3-connect-timeout", s3ConnectTimeout),
            ("s3-stall-timeout", s3StallTimeout),
            ("s3-request-timeout", s3RequestTimeout),
            ("s3-part-size", s3PartSize),
            ("s3-parts-in-flight", s3PartsInFlight),
            ("s3-encryption", s3Encryption),
            ("s3-kms-key", s3KmsKey),
            ("s3-storage-class", s3StorageClass),
            ("s3-acl", s3Acl),
            ("admin-listen", adminListen),
            ("access-log", accessLog),
            ("access-log-sample", accessLogSample),
            ("log-level", logLevel),
            ("log-format", logFormat),
        ]
        return Dictionary(uniqueKeysWithValues: all.compactMap { name, value in value.map { (name, $0) } })
    }

    /// The help of a key with its unit, default and variable.
    private static func help(_ name: String) -> ArgumentHelp {
        let key = SettingKey[name]
        let standard = key.standard.map { " Default: \($0)." } ?? ""
        return ArgumentHelp("\(key.help)\(standard)", valueName: key.placeholder)
    }
}
