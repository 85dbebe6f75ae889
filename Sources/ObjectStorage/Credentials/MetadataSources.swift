internal import FoundationEssentials
internal import HTTPClient
internal import System

/// Speaks with the services that stand beside a machine or a container, never through a proxy.
struct MetadataClient: Sendable {
    private static let answerBytes = 64 << 10

    private let client: Client
    private let time: any TimeSource
    let clock = ServiceClock()

    init(timeoutSeconds: Int, time: any TimeSource) throws(TransferError) {
        var configuration = ClientConfiguration()
        configuration.proxy = .none
        configuration.maxConnections = 1
        // A machine without such a service must not wait long to learn it.
        configuration.connectTimeoutMilliseconds = timeoutSeconds * 1_000
        configuration.totalTimeoutMilliseconds = timeoutSeconds * 2_000
        client = try Client(configuration)
        self.time = time
    }

    func send(
        _ method: String,
        _ url: String,
        _ headers: [(name: String, value: String)],
        attempts: Int,
        _ what: String
    ) throws(CredentialFailure) -> (status: Int, body: [UInt8]) {
        let request = Request(method, url, headers: headers, body: method == "PUT" ? .bytes([]) : .none)
        let (response, body) = try client.answer(to: request, attempts: attempts, limit: Self.answerBytes, what)
        clock.set(by: response, time)
        return (response.status, body)
    }
}

/// The form in which both services give credentials.
private struct CredentialDocument: Decodable {
    let Code: String?
    let AccessKeyId: String?
    let SecretAccessKey: String?
    let Token: String?
    let Expiration: String?

    static func credentials(
        _ body: [UInt8],
        _ clock: ServiceClock,
        source: String,
        askedWith headers: [(name: String, value: String)]
    ) throws(CredentialFailure) -> IssuedCredentials {
        // The decoder's words may quote what it read.
        guard let document = try? JSONDecoder().decode(CredentialDocument.self, from: Data(body)) else {
            throw CredentialFailure("\(source): the answer is no JSON of the form that was expected")
        }
        if let code = document.Code, code != "Success" {
            // A service may quote what it was asked with.
            let said = headers.flatMap { $0.value.split(separator: " ") }.map { Secret(String($0)) }.hidden(in: code)
            throw CredentialFailure("\(source): the service says \(printable(said, limit: 64))")
        }
        guard let accessKey = document.AccessKeyId, let secretKey = document.SecretAccessKey else {
            throw CredentialFailure("\(source): the answer holds no credentials")
        }
        let end = document.Expiration.map { WallTime(rfc3339: $0) }
        if case .some(nil) = end { throw CredentialFailure("\(source): the answer's Expiration is no time") }
        let token = document.Token.map { Secret($0) }
        let credentials = Credentials(accessKey: accessKey, secretKey: Secret(secretKey), sessionToken: token)
        return try IssuedCredentials(credentials, end: end ?? nil, clock, source: source)
    }
}

extension CredentialChain {
    /// AWS SDKs and Tools Reference Guide, "Container credential provider".
    func fromContainer() throws(CredentialFailure) -> IssuedCredentials? {
        let url: String
        if let path = environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
            guard path.hasPrefix("/") else {
                throw CredentialFailure("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash")
            }
            url = "http://169.254.170.2\(path)"
        } else if let full = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] {
            guard Self.isTrusted(full) else {
                throw CredentialFailure(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI: over http only this machine and the addresses of ECS and EKS are asked; "
                        + "use https"
                )
            }
            url = full
        } else {
            return nil
        }
        let headers = try containerAuthorization().map { [(name: "Authorization", value: $0.reveal())] } ?? []
        let source = "the container's credentials"
        let (status, body) = try metadata.send("GET", url, headers, attempts: 3, source)
        guard status == 200 else { throw CredentialFailure("\(source): status \(status)") }
        return try CredentialDocument.credentials(body, metadata.clock, source: source, askedWith: headers)
    }

    /// A token in clear text goes to nobody else.
    private static func isTrusted(_ url: String) -> Bool {
        if url.lowercased().hasPrefix("https://") { return true }
        guard url.lowercased().hasPrefix("http://") else { return false }
        let authority = url.dropFirst("http://".count).prefix { !"/?#".contains($0) }
        guard !authority.contains("@") else { return false }
        if authority.hasPrefix("[") {
            return ["[::1]", "[fd00:ec2::23]"].contains(authority.prefix { $0 != "]" }.lowercased() + "]")
        }
        let host = authority.prefix { $0 != ":" }.lowercased()
        if ["localhost", "169.254.170.2", "169.254.170.23"].contains(host) { return true }
        let octets = host.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        return octets.count == 4 && octets[0] == 127 && !octets.contains(nil)
    }

    private func containerAuthorization() throws(CredentialFailure) -> Secret? {
        var token = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        // The file is replaced now and then, so it is read each time.
        let setting = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
        if let file = environment[setting] {
            guard let text = try contents(file, namedBy: setting) else {
                throw CredentialFailure("\(setting): there is no file \(file)")
            }
            token = trimmed(text)
        }
        guard let token else { return nil }
        guard token.utf8.allSatisfy({ (33...126).contains($0) || $0 == 32 }) else {
            throw CredentialFailure("the container's authorization token holds characters that no header can")
        }
        return Secret(token)
    }

    /// Amazon EC2 User Guide, "Use the Instance Metadata Service": version 2 alone, since the first one answers whoever can make this
    /// machine send a GET.
    func fromInstance() throws(CredentialFailure) -> IssuedCredentials? {
        if environment.isTrue("AWS_EC2_METADATA_DISABLED") { return nil }
        let isIPv6 = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]?.lowercased() == "ipv6"
        var endpoint =
            environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
            ?? (isIPv6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254")
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        let source = "the instance's metadata service"
        let key: String
        switch try metadataToken(endpoint, source) {
        case .token(let text): key = text
        case .refused(let status): return .refused("\(source) refused a token: status \(status); \(Self.remedy)")
        case .unknown: return nil
        }
        let token = [(name: "X-aws-ec2-metadata-token", value: key)]
        let roles = "\(endpoint)/latest/meta-data/iam/security-credentials/"
        let (status, body) = try metadata.send("GET", roles, token, attempts: 3, source)
        if status == 404 { return nil }
        let role = trimmed(String(decoding: body, as: UTF8.self).split(whereSeparator: \.isNewline).first ?? "")
        guard status == 200, !role.isEmpty else { throw CredentialFailure("\(source): status \(status), no role") }
        let (found, document) = try metadata.send("GET", roles + percentEncoded(role), token, attempts: 3, source)
        guard found == 200 else { throw CredentialFailure("\(source): status \(found)") }
        let name = "\(source), role \(role)"
        var issued = try CredentialDocument.credentials(document, metadata.clock, source: name, askedWith: token)
        // What the AWS SDKs call static stability.
        issued.outlastsItsEnd = true
        return issued
    }

    private enum MetadataToken {
        case token(String)
        /// Somebody knows the question and says no: the service is switched off for this instance, or asks for what we do not send.
        case refused(status: Int)
        /// Nobody is there, or he does not know the question: most machines are no instance, and other clouds have other services.
        case unknown
    }

    private static let remedy =
        "switch the instance's metadata on, with a hop limit of 2 for a container, or set AWS_EC2_METADATA_DISABLED=true"

    /// A service that fails is no refusal: taken for one, it would have requests sent unsigned that are to be signed.
    private func metadataToken(_ endpoint: String, _ source: String) throws(CredentialFailure) -> MetadataToken {
        let attempts = environment.count("AWS_METADATA_SERVICE_NUM_ATTEMPTS") ?? 1
        let seconds = [(name: "X-aws-ec2-metadata-token-ttl-seconds", value: "21600")]
        let (status, body): (Int, [UInt8])
        do throws(CredentialFailure) {
            (status, body) = try metadata.send(
                "PUT",
                "\(endpoint)/latest/api/token",
                seconds,
                attempts: attempts,
                source
            )
        } catch {
            if error.isNobodyThere { return .unknown }
            throw CredentialFailure("\(error); \(Self.remedy)")
        }
        switch status {
        case 200: return .token(trimmed(String(decoding: body, as: UTF8.self)))
        case 429, 500...: throw CredentialFailure("\(source): status \(status)")
        case 400, 401, 403: return .refused(status: status)
        default: return .unknown
        }
    }
}
