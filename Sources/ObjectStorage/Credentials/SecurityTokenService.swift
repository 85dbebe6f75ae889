internal import HTTPClient
internal import Hashing
internal import OCI
internal import System
internal import Threading

/// AWS's token service, and what speaks its protocol: exchanges an identity for temporary credentials.
struct SecurityTokenService: Sendable {
    private static let attempts = 3
    private static let answerBytes = 256 << 10

    private let client: Client
    private let endpoint: String
    private let region: String
    private let time: any TimeSource
    private let clock = ServiceClock()

    init(
        _ environment: AWSEnvironment,
        region: String,
        certificateAuthorityFile: String?,
        time: any TimeSource
    ) throws(TransferError) {
        var configuration = ClientConfiguration()
        configuration.maxConnections = 1
        configuration.totalTimeoutMilliseconds = 10_000
        configuration.certificateAuthorityFile = certificateAuthorityFile
        client = try Client(configuration)
        self.region = region
        self.time = time
        let standard = "https://sts.\(region).amazonaws.com\(region.hasPrefix("cn-") ? ".cn" : "")"
        var endpoint = environment["AWS_ENDPOINT_URL_STS"] ?? environment["AWS_ENDPOINT_URL"] ?? standard
        while endpoint.hasSuffix("/") { endpoint.removeLast() }
        self.endpoint = endpoint
    }

    /// AWS Security Token Service API Reference, "AssumeRoleWithWebIdentity". The token is the proof, so nothing is signed.
    func assume(_ role: String, webIdentity token: Secret, session: String) throws(CredentialFailure)
        -> IssuedCredentials
    {
        try call(
            [
                ("Action", "AssumeRoleWithWebIdentity"), ("Version", "2011-06-15"), ("RoleArn", role),
                ("RoleSessionName", session), ("WebIdentityToken", token.reveal()),
            ],
            hiding: [token]
        )
    }

    /// AWS Security Token Service API Reference, "AssumeRole".
    func assume(
        _ role: String,
        of profile: AWSProfile,
        with credentials: Credentials
    ) throws(CredentialFailure) -> IssuedCredentials {
        var parameters = [
            ("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", role),
            ("RoleSessionName", profile["role_session_name"] ?? "forebay"),
        ]
        if let id = profile["external_id"] { parameters.append(("ExternalId", id)) }
        if let seconds = profile["duration_seconds"] { parameters.append(("DurationSeconds", seconds)) }
        return try call(parameters, signingWith: credentials)
    }

    private func call(
        _ parameters: [(name: String, value: String)],
        signingWith credentials: Credentials? = nil,
        hiding secrets: [Secret] = [],
        isCorrected: Bool = false
    ) throws(CredentialFailure) -> IssuedCredentials {
        let operation = parameters[0].value
        let body = Array(RequestSigner.canonicalQuery(parameters).utf8)
        let offset = clock.offsetSeconds
        var request = Request("POST", "\(endpoint)/", body: .bytes(body))
        request.headers = [("Content-Type", "application/x-www-form-urlencoded")]
        var secrets = secrets
        if let credentials {
            request.headers += signature(of: body, request.headers, credentials)
            secrets += credentials.secrets(in: request.headers.last?.value ?? "")
        }
        let (response, answer) = try client.answer(
            to: request,
            attempts: Self.attempts,
            limit: Self.answerBytes,
            operation
        )
        clock.set(by: response, time)
        // An answer that is no document has no words for us, but its status.
        let document = try? XMLReader.read(answer)
        if response.status == 200 { return try issued(document, operation) }
        // A clock that is set right now may be what the signature was refused for.
        if let credentials, !isCorrected, abs(clock.offsetSeconds - offset) > S3Limits.clockToleranceSeconds {
            return try call(parameters, signingWith: credentials, isCorrected: true)
        }
        let error = document?.children(named: "Error").first
        let said = "\(error?.text(of: "Code") ?? ""): \(error?.text(of: "Message") ?? "")"
        let shown = secrets.reduce(secrets.hidden(in: said)) { $1.hidden(inPiecesOf: $0) }
        throw CredentialFailure("\(operation): \(clock.warning)status \(response.status) \(shown)")
    }

    private func issued(_ document: XMLElement?, _ operation: String) throws(CredentialFailure) -> IssuedCredentials {
        guard let result = document?.children.first(where: { $0.name == "\(operation)Result" }),
            let found = result.children(named: "Credentials").first,
            let accessKey = found.value(of: "AccessKeyId"), let secretKey = found.value(of: "SecretAccessKey"),
            let sessionToken = found.value(of: "SessionToken"),
            let end = found.value(of: "Expiration").flatMap({ WallTime(rfc3339: $0) })
        else { throw CredentialFailure("\(operation): the answer holds no credentials") }
        let issued = Credentials(accessKey: accessKey, secretKey: Secret(secretKey), sessionToken: Secret(sessionToken))
        return try IssuedCredentials(issued, end: end, clock, source: operation)
    }

    private func signature(
        of body: [UInt8],
        _ headers: [(name: String, value: String)],
        _ credentials: Credentials
    ) -> [(name: String, value: String)] {
        var now = time.wallTime()
        now.seconds += clock.offsetSeconds
        var added = [(name: "x-amz-date", value: now.iso8601Basic)]
        if let token = credentials.sessionToken { added.append(("x-amz-security-token", token.reveal())) }
        let start = endpoint.firstRange(of: "://")?.upperBound ?? endpoint.startIndex
        let input = RequestSigner.Input(
            method: "POST",
            path: "/",
            query: "",
            headers: headers + added + [("host", String(endpoint[start...].prefix { $0 != "/" }))],
            payloadHash: Digest(of: body).hex
        )
        let signer = RequestSigner(region: region, service: "sts")
        added.append(("Authorization", signer.authorization(input, at: now, with: credentials)))
        return added
    }
}

extension XMLElement {
    /// Without the white space of an indented document.
    fileprivate func value(of child: String) -> String? { text(of: child).map { trimmed($0) } }
}

extension TransferError {
    fileprivate var isNobodyThere: Bool {
        switch kind {
        case .resolve, .connect, .timeout(.connect): true
        default: false
        }
    }
}

extension Client {
    /// The answer with its body; again after a broken connection, throttling or a failure of the server.
    func answer(
        to request: Request,
        attempts: Int,
        limit: Int,
        _ operation: String
    ) throws(CredentialFailure) -> (response: Response, body: [UInt8]) {
        var attempt = 1
        while true {
            do throws(TransferError) {
                let (response, body) = try perform(request, bodyLimitBytes: limit)
                if attempt >= attempts || (response.status != 429 && response.status < 500) {
                    return (response, body)
                }
            } catch {
                if attempt >= attempts || !error.isConnectionLevel {
                    throw CredentialFailure("\(operation): \(error)", isNobodyThere: error.isNobodyThere)
                }
            }
            // Full jitter: nodes that started together do not come back together.
            pauseThread(.milliseconds(Int.random(in: 0...(100 << min(attempt, 5)))))
            attempt += 1
        }
    }
}
