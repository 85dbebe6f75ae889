public import HTTPClient
internal import OCI
public import System

/// Where credentials are looked for, in the order of the AWS SDKs; the first source that is set up here wins.
///
/// A source that is set up and fails is an error: going on to the next one would sign requests in somebody else's name. At the end of the
/// chain stands nobody: requests are sent unsigned, which is enough for a public bucket.
public struct CredentialChain: Sendable {
    public enum Source: String, Sendable, CaseIterable {
        /// `AWS_ACCESS_KEY_ID` and those that belong to it.
        case environment
        /// `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN` (EKS's IRSA).
        case webIdentity = "web-identity"
        /// `~/.aws/credentials` and `~/.aws/config`.
        case profile
        /// `AWS_CONTAINER_CREDENTIALS_…_URI` (ECS, EKS Pod Identity).
        case container
        /// The metadata service of an EC2 instance, version 2.
        case instance
    }

    let sources: [Source]
    let environment: AWSEnvironment
    let files: any FileSystem
    let time: any TimeSource
    let tokenService: SecurityTokenService
    let metadata: MetadataClient

    /// - Parameters:
    ///   - sources: which to ask; their order is always the same.
    ///   - region: whose token service is asked, unless the environment names one.
    public init(
        _ sources: [Source] = Source.allCases,
        environment: [String: String] = processEnvironment(),
        region: String,
        certificateAuthorityFile: String? = nil,
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime()
    ) throws(TransferError) {
        self.sources = sources
        self.environment = AWSEnvironment(environment)
        files = fileSystem
        self.time = time
        tokenService = try SecurityTokenService(
            self.environment,
            region: region,
            certificateAuthorityFile: certificateAuthorityFile,
            time: time
        )
        metadata = try MetadataClient(
            timeoutSeconds: self.environment.count("AWS_METADATA_SERVICE_TIMEOUT") ?? 1,
            time: time
        )
    }

    /// Asks one source after the other.
    func issue() throws(CredentialFailure) -> IssuedCredentials {
        var lacks: [String] = []
        var isRefused = false
        for source in Source.allCases where sources.contains(source) {
            let issued =
                switch source {
                case .environment: try fromEnvironment()
                case .webIdentity: try fromWebIdentity()
                case .profile: try fromProfile()
                case .container: try fromContainer()
                case .instance: try fromInstance()
                }
            if let issued, !issued.isRefusal { return issued }
            if let issued { lacks.append(issued.source) }
            isRefused = isRefused || issued != nil
        }
        if sources.contains(.profile) { lacks.append(try lacksOfProfile()) }
        let details = lacks.map { "; \($0)" }.joined()
        guard sources.count > 1 else {
            throw CredentialFailure("there are no credentials from \(sources.first?.rawValue ?? "nowhere")\(details)")
        }
        var nobody = IssuedCredentials.none.named(IssuedCredentials.none.source + details)
        nobody.isRefusal = isRefused
        return nobody
    }

    func fromEnvironment() throws(CredentialFailure) -> IssuedCredentials? {
        let (accessKey, secretKey) = (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        switch (accessKey, secretKey) {
        case (nil, nil): return nil
        case (let accessKey?, let secretKey?):
            let token = environment["AWS_SESSION_TOKEN"].map { Secret($0) }
            let credentials = Credentials(accessKey: accessKey, secretKey: Secret(secretKey), sessionToken: token)
            return try IssuedCredentials(credentials, source: "the environment")
        default:
            throw CredentialFailure("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: one is set without the other")
        }
    }

    private func fromWebIdentity() throws(CredentialFailure) -> IssuedCredentials? {
        let setting = "AWS_WEB_IDENTITY_TOKEN_FILE"
        guard let file = environment[setting] else { return nil }
        guard let role = environment["AWS_ROLE_ARN"] else {
            throw CredentialFailure("\(setting) is set without AWS_ROLE_ARN")
        }
        let session = environment["AWS_ROLE_SESSION_NAME"]
        return try assume(role, tokenFile: file, namedBy: setting, session: session, "web identity")
    }

    func assume(
        _ role: String,
        tokenFile: String,
        namedBy setting: String,
        session: String?,
        _ what: String
    ) throws(CredentialFailure) -> IssuedCredentials {
        // The file is replaced now and then, so it is read each time.
        guard let text = try contents(tokenFile, namedBy: setting) else {
            throw CredentialFailure("\(what): there is no token file \(tokenFile)")
        }
        let token = Secret(trimmed(text))
        let issued = try tokenService.assume(role, webIdentity: token, session: session ?? "forebay")
        return issued.named("\(what), role \(role)")
    }

    func contents(_ path: String, namedBy setting: String) throws(CredentialFailure) -> String? {
        do throws(FileError) {
            return try files.contents(at: path).map { String(decoding: $0, as: UTF8.self) }
        } catch {
            throw CredentialFailure(error, namedBy: setting)
        }
    }
}

/// What AWS's tools would find in the environment; empty values count as not set.
public struct AWSEnvironment: Sendable {
    private let values: [String: String]

    public init(_ values: [String: String]) { self.values = values.filter { !$1.isEmpty } }

    public subscript(_ name: String) -> String? { values[name] }

    func isTrue(_ name: String) -> Bool { values[name]?.lowercased() == "true" }

    func count(_ name: String) -> Int? { values[name].flatMap { Int($0) }.flatMap { (1...60).contains($0) ? $0 : nil } }

    var home: String { values["HOME"] ?? "/root" }

    /// The profile that is asked for, if any is.
    var profile: String? { values["AWS_PROFILE"] ?? values["AWS_DEFAULT_PROFILE"] }

    /// The path in a variable; `~/` at its beginning is the home.
    func path(_ name: String) -> String? {
        values[name].map { $0.hasPrefix("~/") ? "\(home)/\($0.dropFirst(2))" : $0 }
    }
}

/// Credentials as a source gives them.
struct IssuedCredentials: Sendable {
    /// `nil`: requests are sent unsigned.
    var credentials: Credentials?
    /// From then on they are worth nothing, as a rule: by the clock of who gave them, which is so much ahead of this machine's.
    var end: WallTime?
    let clockOffsetSeconds: Int64
    /// For the log.
    var source: String
    /// They are used beyond their end while their source gives no newer ones: the stores take them as long as it is in trouble.
    var outlastsItsEnd = false
    /// There are none because who hands them out refused to.
    var isRefusal = false

    /// Every source comes by here, so that none puts what cannot be used in the place of what is valid.
    init(
        _ credentials: Credentials,
        end: WallTime? = nil,
        _ clock: ServiceClock? = nil,
        source: String
    ) throws(CredentialFailure) {
        self.credentials = try credentials.checked(from: source)
        self.end = end
        clockOffsetSeconds = clock?.offsetSeconds ?? 0
        self.source = source
    }

    private init(noneFrom source: String, isRefusal: Bool = false) {
        clockOffsetSeconds = 0
        self.source = source
        self.isRefusal = isRefusal
    }

    static func refused(_ reason: String) -> IssuedCredentials {
        IssuedCredentials(noneFrom: reason, isRefusal: true)
    }

    static let none = IssuedCredentials(noneFrom: "nowhere: requests are not signed")

    func named(_ source: String) -> IssuedCredentials {
        var copy = self
        copy.source = source
        return copy
    }

    /// By this machine's clock.
    var endHere: WallTime? { end.map { WallTime(seconds: $0.seconds - clockOffsetSeconds) } }

    func hasEnded(at now: WallTime) -> Bool { endHere.map { $0 <= now } ?? false }

    /// That they have ended, in words.
    var expiry: String { "credentials from \(source) are expired\(end.map { " since \($0.rfc3339)" } ?? "")" }
}

/// A source that is set up and gives nothing; says why and holds no secret.
struct CredentialFailure: Error, CustomStringConvertible {
    let description: String
    /// Where a source was looked for, nobody took the connection.
    let isNobodyThere: Bool

    init(_ text: String, isNobodyThere: Bool = false) {
        description = printable(text, limit: 500)
        self.isNobodyThere = isNobodyThere
    }

    /// A file that somebody has named cannot be read.
    init(_ error: FileError, namedBy setting: String) {
        self.init(error.isDirectory ? "\(setting): \(error.path) is a directory; name a file" : "\(error)")
    }
}

/// Without white space on both sides.
func trimmed(_ text: some StringProtocol) -> String {
    var view = text[...]
    while view.first?.isWhitespace == true { view.removeFirst() }
    while view.last?.isWhitespace == true { view.removeLast() }
    return String(view)
}
