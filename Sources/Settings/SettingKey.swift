/// One key of the configuration, declared once: the flags, the environment, the file, the help and `forebay config` all come from here.
public struct SettingKey: Sendable, Hashable {
    /// As in `--cache-size`, `FOREBAY_CACHE_SIZE` and `cache-size:`.
    public let name: String
    /// What a value looks like, for the help.
    public let placeholder: String
    /// `nil` when there is none.
    public let standard: String?
    public let help: String
    public let isSecret: Bool
    /// Further environment variables, in the order in which they are asked; those of AWS's tools before the seed's.
    public let aliases: [String]

    public var variable: String {
        "FOREBAY_" + name.uppercased().split(separator: "-").joined(separator: "_")
    }

    init(
        _ name: String,
        _ placeholder: String,
        _ standard: String?,
        isSecret: Bool = false,
        aliases: [String] = [],
        _ help: String
    ) {
        self.name = name
        self.placeholder = placeholder
        self.standard = standard
        self.help = help
        self.isSecret = isSecret
        self.aliases = aliases
    }

    public static subscript(_ name: String) -> SettingKey {
        guard let key = all.first(where: { $0.name == name }) else { preconditionFailure("no key \(name)") }
        return key
    }

    public static let all: [SettingKey] = [
        // Where it listens.
        SettingKey("listen", "HOST:PORT", "127.0.0.1:5000", "The address to serve on."),
        SettingKey("connection-limit", "COUNT", "4096", "Client connections at once; more are closed."),
        SettingKey(
            "connection-limit-per-client",
            "COUNT",
            "0",
            "Connections from one client address at once; 0 is no limit."
        ),
        SettingKey("idle-timeout", "DURATION", "60s", "A connection on which nothing moves for so long is closed."),
        SettingKey("header-limit", "SIZE", "8KiB", "Path and headers of a request together, at most."),
        SettingKey("manifest-limit", "SIZE", "16MiB", "A pushed manifest, at most; at least 4MiB."),
        SettingKey("deletes", "on|off", "on", "Whether clients may delete manifests, tags and blobs."),
        SettingKey("drain-timeout", "DURATION", "30s", "How long requests in flight may take to finish on SIGTERM."),
        // The disk tier.
        SettingKey(
            "cache-dir",
            "DIR",
            "$XDG_CACHE_HOME/forebay",
            "The disk tier; nothing in it is the only copy of anything."
        ),
        SettingKey("cache-size", "SIZE", "50%", "What the disk tier may take: a size, or a part of the file system."),
        SettingKey(
            "cache-min-free",
            "SIZE",
            "1GiB",
            "What the disk tier leaves free for others: a size, or a part of the file system."
        ),
        SettingKey(
            "cache-unreadable",
            "refuse|rebuild",
            "refuse",
            "A damaged index, or one of another format: refuse to start, or begin a new one."
        ),
        SettingKey("scrub-interval", "DURATION", "7d", "How often all content on disk is hashed again; 0s is never."),
        SettingKey("scrub-rate", "SIZE", "20MiB", "Bytes a second that are hashed again."),
        SettingKey(
            "eviction-policy",
            "lru|gdsf|sieve|s3-fifo",
            "s3-fifo",
            "What goes first when the disk tier is full."
        ),
        SettingKey(
            "eviction-high",
            "PERCENT",
            "98%",
            "Above so much of cache-size, eviction runs in the background, ..."
        ),
        SettingKey("eviction-low", "PERCENT", "95%", "... down to so much."),
        SettingKey("inline-limit", "SIZE", "16KiB", "Blobs up to this size lie in the index instead of a file."),
        SettingKey("fill-limit", "COUNT", "32", "Transfers of blobs from the origin at once, over all blobs."),
        SettingKey("fill-part-size", "SIZE", "8MiB", "Of one such transfer: larger blobs come in parts."),
        SettingKey("fill-parts-in-flight", "COUNT", "8", "Parts of one blob that are fetched at once."),
        SettingKey(
            "fill-unattended-limit",
            "SIZE",
            "1GiB",
            "A blob that every client has left is fetched to its end when no more than this is missing."
        ),
        SettingKey(
            "absent-ttl",
            "DURATION",
            "3s",
            "How long a blob that the origin does not have counts as missing; 0s asks always."
        ),
        SettingKey("upload-limit", "COUNT", "1024", "Upload sessions at once."),
        SettingKey("upload-expiry", "DURATION", "24h", "An upload session that is not used for so long ends."),
        SettingKey(
            "upload-grace",
            "DURATION",
            "48h",
            "An upload at the origin that nobody has ended for so long is aborted; longer than upload-expiry."
        ),
        SettingKey(
            "push-ahead",
            "auto|known|always",
            "auto",
            "When parts of a large push go to a bucket before it ends: once its digest is known, always, or where copies are quick."
        ),
        // Freshness.
        SettingKey(
            "tag-ttl",
            "DURATION",
            "10s",
            "How long a tag is believed before the origin is asked again; 0s asks always."
        ),
        SettingKey(
            "stale-if-error",
            "DURATION",
            "24h",
            "How long a tag may be served unconfirmed while the origin is down."
        ),
        // The origin.
        SettingKey(
            "origin",
            "URL",
            "file://$XDG_DATA_HOME/forebay",
            "The truth: file:///path or s3://bucket/prefix/; s3://bucket// for no prefix."
        ),
        SettingKey(
            "s3-endpoint",
            "URL",
            nil,
            aliases: ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "EPOCH_S3_ENDPOINT"],
            "The object store; without one, AWS in the region."
        ),
        SettingKey(
            "s3-region",
            "NAME",
            "us-east-1",
            aliases: ["AWS_REGION", "AWS_DEFAULT_REGION", "EPOCH_S3_REGION"],
            "The bucket's region."
        ),
        SettingKey(
            "s3-addressing",
            "path|virtual",
            nil,
            "Where the bucket's name goes; without one, the path for an endpoint of one's own, else the host."
        ),
        SettingKey(
            "s3-ca-file",
            "FILE",
            nil,
            aliases: ["AWS_CA_BUNDLE"],
            "Certificate authorities for the endpoint, PEM."
        ),
        SettingKey(
            "s3-credentials",
            "SOURCE",
            "chain",
            "chain: s3-access-key, else what the AWS SDKs would find; web-identity, profile, container or instance: that alone; anonymous: "
                + "requests are not signed."
        ),
        SettingKey(
            "s3-access-key",
            "KEY",
            nil,
            aliases: ["AWS_ACCESS_KEY_ID", "EPOCH_S3_ACCESS_KEY"],
            "Goes before all other sources of the chain."
        ),
        SettingKey(
            "s3-secret-key",
            "KEY",
            nil,
            isSecret: true,
            aliases: ["AWS_SECRET_ACCESS_KEY", "EPOCH_S3_SECRET_KEY"],
            "Belongs to s3-access-key."
        ),
        SettingKey(
            "s3-session-token",
            "TOKEN",
            nil,
            isSecret: true,
            aliases: ["AWS_SESSION_TOKEN"],
            "For temporary credentials."
        ),
        SettingKey(
            "s3-connection-limit",
            "COUNT",
            "64",
            "Connections to the object store at once; writes leave a quarter of them to reads."
        ),
        SettingKey("s3-connect-timeout", "DURATION", "5s", "For a connection to the object store."),
        SettingKey("s3-stall-timeout", "DURATION", "20s", "A transfer that crawls for so long is broken off."),
        SettingKey(
            "s3-request-timeout",
            "DURATION",
            "60s",
            "For an answer of the object store, beside a second for each 32 KiB of a body."
        ),
        SettingKey("s3-part-size", "SIZE", "16MiB", "Of one part of a large upload; at least 5MiB."),
        SettingKey(
            "s3-parts-in-flight",
            "COUNT",
            "4",
            "Parts of one upload that are sent at once; all uploads together send 32, or this if it is more."
        ),
        SettingKey(
            "s3-encryption",
            "AES256|aws:kms",
            nil,
            "With what the object store encrypts new objects; without one, as the bucket has it."
        ),
        SettingKey("s3-kms-key", "KEY", nil, "For s3-encryption aws:kms; without one, the account's own."),
        SettingKey("s3-storage-class", "CLASS", nil, "Of new objects, such as STANDARD_IA."),
        SettingKey("s3-acl", "ACL", nil, "Of new objects, such as bucket-owner-full-control."),
        // Seen from outside.
        SettingKey(
            "admin-listen",
            "HOST:PORT",
            nil,
            "An address for /metrics, /healthz and /readyz; without one, they are on the same as the registry."
        ),
        SettingKey(
            "access-log",
            "off|sampled|full",
            "off",
            "A JSON line on standard output for each request, or for one in so many and all failures."
        ),
        SettingKey("access-log-sample", "COUNT", "100", "Of so many requests, a sampled access log has one."),
        // The log.
        SettingKey("log-level", "LEVEL", "info", "trace, debug, info, notice, warning, error or critical."),
        SettingKey("log-format", "auto|text|json", "auto", "auto: text on a terminal, else JSON lines."),
    ]
}
