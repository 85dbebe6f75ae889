import FaultProxy
import HTTPClient
import System
import TestDoubles
import Testing

@testable import ObjectStorage

private typealias Answer = ScriptedServer.Answer

private let staticProfile =
    "[default]\naws_access_key_id = key-of-profile\naws_secret_access_key=secret-of-profile # mine\n"

@Suite struct CredentialChainTests {
    @Test func asksInTheOrderOfTheSDKs() throws {
        let here = try Surroundings()
        here.setInstance()
        #expect(try here.issue().credentials?.accessKey == "key-of-instance")
        here.setContainer()
        #expect(try here.issue().credentials?.accessKey == "key-of-container")
        try here.setProfile(staticProfile)
        #expect(try here.issue().credentials?.accessKey == "key-of-profile")
        here.setWebIdentity()
        #expect(try here.issue().credentials?.accessKey == "key-of-sts")
        here.setEnvironment()
        let issued = try here.issue()
        #expect(issued.credentials?.accessKey == "key-of-environment" && issued.end == nil)
        #expect(try here.issue([.instance]).credentials?.accessKey == "key-of-instance", "one alone")
    }

    @Test func nobodyStandsAtItsEnd() throws {
        let here = try Surroundings()
        let issued = try here.issue()
        #expect(issued.credentials == nil && issued.source.contains("not signed"))
        #expect(try here.failure([.container]).contains("container"), "who asks for one source wants it")
    }

    @Test func halfOfAPairIsAnError() throws {
        let here = try Surroundings()
        here.environment["AWS_ACCESS_KEY_ID"] = "a"
        #expect(try here.failure().contains("AWS_SECRET_ACCESS_KEY"))
    }
}

@Suite struct WebIdentityTests {
    @Test func exchangesTheTokenOfTheFile() throws {
        let here = try Surroundings()
        here.setWebIdentity()
        let issued = try here.issue()
        #expect(issued.credentials?.secretKey.reveal() == "secret-of-sts")
        #expect(issued.credentials?.sessionToken?.reveal() == "session-token")
        #expect(issued.end?.rfc3339 == "2030-01-01T00:00:00Z")
        #expect(issued.source.contains("web identity") && issued.source.contains("arn:aws:iam::1:role/puller"))
        let request = try #require(here.sts.requests.first)
        #expect(request.method == "POST" && request.target == "/" && request.headers["authorization"] == nil)
        #expect(request.text.contains("Action=AssumeRoleWithWebIdentity&"))
        #expect(
            request.text.contains("WebIdentityToken=web-identity-token") && request.text.contains("Version=2011-06-15")
        )
        #expect(request.text.contains("RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fpuller"))
    }

    @Test func aRefusalIsAnErrorThatQuotesNoToken() throws {
        let here = try Surroundings()
        here.setWebIdentity()
        here.sts.on(
            .any,
            .all,
            .answer(
                Answer(
                    status: 400,
                    body: Array(
                        "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>bad web-identity-token</Message></Error></ErrorResponse>"
                            .utf8
                    )
                )
            )
        )
        let text = try here.failure()
        #expect(text.contains("InvalidIdentityToken") && text.contains("(secret)"))
    }

    /// Bug: a part of the token was in the log, if the service quoted no more of it.
    @Test(arguments: [20, 40, 60]) func aRefusalQuotesNoPartOfTheToken(_ count: Int) throws {
        let here = try Surroundings()
        here.setWebIdentity()
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJub2RlIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
        try here.write(token + "\n", to: "long")
        here.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = here.folder.path + "/long"
        let quoted = "not for \(token.prefix(count)) and \(token.suffix(count))"
        let body = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>\(quoted)</Message></Error></ErrorResponse>"
        here.sts.on(.any, .all, .answer(Answer(status: 403, body: Array(body.utf8))))
        #expect(try here.failure().hasSuffix("AccessDenied: not for (secret) and (secret)"))
    }

    /// Bug: the token had the white space of an indented document around it, and no request could be sent.
    @Test func anIndentedAnswerIsRead() throws {
        let here = try Surroundings()
        here.setWebIdentity()
        let answer = stsAnswer("AssumeRoleWithWebIdentity").replacing(">", with: ">\r\n  ")
        here.sts.on(.any, .all, .answer(.ok(answer.replacing("</", with: "\r\n</"))))
        let issued = try here.issue()
        let token = Secret("session-token")
        let expected = Credentials(accessKey: "key-of-sts", secretKey: Secret("secret-of-sts"), sessionToken: token)
        #expect(issued.credentials == expected && issued.end?.rfc3339 == "2030-01-01T00:00:00Z")
    }

    @Test(arguments: ["", "nonsense", "<AssumeRoleWithWebIdentityResponse/>"])
    func anAnswerWithoutCredentialsIsAnError(_ body: String) throws {
        let here = try Surroundings()
        here.setWebIdentity()
        here.sts.on(.any, .all, .answer(.ok(body)))
        #expect(try here.failure().contains("no credentials"))
    }

    @Test func badWeatherIsSatOut() throws {
        let here = try Surroundings()
        here.setWebIdentity()
        here.sts.on(.any, .nth(1), .answer(.status(503)))
        here.sts.on(.any, .nth(2), .answer(.reset))
        #expect(try here.issue().credentials?.accessKey == "key-of-sts")
    }

    @Test func whatIsMissingIsNamed() throws {
        let here = try Surroundings()
        here.setWebIdentity()
        here.environment["AWS_ROLE_ARN"] = ""
        #expect(try here.failure().contains("AWS_ROLE_ARN"))
        here.setWebIdentity()
        here.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = here.folder.path + "/none"
        #expect(try here.failure().contains("/none"))
    }

    /// Bug: "pread /tmp: it is a directory; take it away".
    @Test func aDirectoryIsNoTokenFile() throws {
        let here = try Surroundings()
        let path = here.folder.path
        here.setWebIdentity()
        here.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = path
        #expect(try here.failure() == "AWS_WEB_IDENTITY_TOKEN_FILE: \(path) is a directory; name a file")
        here.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = nil
        try here.setProfile("", config: "[default]\nrole_arn=arn:role\nweb_identity_token_file=\(path)\n")
        #expect(try here.failure().hasSuffix("web_identity_token_file: \(path) is a directory; name a file"))
        here.environment["AWS_CONFIG_FILE"] = path
        #expect(try here.failure().contains("AWS_CONFIG_FILE: \(path) is a directory"))
        here.setContainer()
        here.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = path
        let text = try here.failure([.container])
        #expect(text == "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: \(path) is a directory; name a file")
    }
}

@Suite struct ProfileTests {
    @Test func readsBothFilesAndTheProfileThatIsNamed() throws {
        let here = try Surroundings()
        try here.setProfile(
            "# mine\n\(staticProfile)[ci]\naws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C\n",
            config:
                "[default]\naws_access_key_id = loses\n[profile ci]\nregion = r\ns3 =\n  aws_access_key_id = nested\n"
        )
        #expect(
            try here.issue().credentials
                == Credentials(accessKey: "key-of-profile", secretKey: Secret("secret-of-profile"))
        )
        here.environment["AWS_PROFILE"] = "ci"
        let issued = try here.issue()
        #expect(issued.credentials == Credentials(accessKey: "A", secretKey: Secret("B"), sessionToken: Secret("C")))
        #expect(issued.source.contains("profile 'ci'") && !issued.source.contains("A"))
        here.environment["AWS_PROFILE"] = "none"
        #expect(try here.failure().contains("no profile 'none'"))
    }

    @Test func aRoleIsAssumedWithTheKeysOfItsSource() throws {
        let here = try Surroundings()
        here.environment["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:\(here.sts.port)"
        try here.setProfile(
            "[base]\naws_access_key_id = key-of-profile\naws_secret_access_key = secret-of-profile\n",
            config: "[default]\nrole_arn = arn:role\nsource_profile = base\nexternal_id = x 1\nduration_seconds = 900\n"
        )
        #expect(try here.issue().credentials?.accessKey == "key-of-sts")
        let request = try #require(here.sts.requests.first)
        #expect(request.text.contains("Action=AssumeRole&") && request.text.contains("ExternalId=x%201"))
        #expect(request.text.contains("DurationSeconds=900"))
        let authorization = try #require(request.headers["authorization"])
        #expect(
            authorization.contains("Credential=key-of-profile/")
                && authorization.contains("/eu-west-1/sts/aws4_request")
        )
    }

    private func setRole(_ here: Surroundings) throws {
        here.environment["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:\(here.sts.port)"
        try here.setProfile(
            "[base]\naws_access_key_id = a\naws_secret_access_key = secret-of-profile\naws_session_token = session-token\n",
            config: "[default]\nrole_arn = arn:role\nsource_profile = base\n"
        )
    }

    private func refusal(_ code: String, _ message: String, secondsAhead: Int64 = 0) -> ScriptedServer.Answer {
        let body = "<ErrorResponse><Error><Code>\(code)</Code><Message>\(message)</Message></Error></ErrorResponse>"
        let date = (name: "Date", value: inSeconds(secondsAhead).httpDate)
        return Answer(status: 403, headers: [date], body: Array(body.utf8))
    }

    /// Bug: the token of the source's credentials was in the log and in the client's answer.
    @Test func aRefusalQuotesNothingThatIsSecret() throws {
        let here = try Surroundings()
        try setRole(here)
        let quoted = "the Canonical String should have been x-amz-security-token:session-token, secret-of-profile"
        here.sts.on(.any, .all, .answer(refusal("SignatureDoesNotMatch", quoted)))
        #expect(try here.failure().contains("x-amz-security-token:(secret)"))
    }

    /// Bug: a signature was refused for ever where this machine's clock was wrong, and nothing said so.
    @Test(arguments: [7_200, -7_200] as [Int64])
    func isSignedByTheServicesClock(_ seconds: Int64) throws {
        let here = try Surroundings()
        try setRole(here)
        let answer = refusal("SignatureDoesNotMatch", "Signature expired", secondsAhead: seconds)
        here.sts.on(.any, .first(1), .answer(answer))
        #expect(try here.issue().credentials?.accessKey == "key-of-sts")
        let date = try #require(here.sts.requests.first?.headers["x-amz-date"])
        #expect((inSeconds(seconds - 100).iso8601Basic...inSeconds(seconds + 100).iso8601Basic).contains(date))
        here.sts.on(.any, .all, .answer(answer))
        here.sts.forget()
        #expect(try here.failure().contains("this machine's clock differs from the service's by"))
        #expect(here.sts.counts.requests == 2, "not asked for ever")
    }

    @Test(arguments: ["Environment", "EcsContainer", "Ec2InstanceMetadata"])
    func aRoleIsAssumedWithCredentialsFromElsewhere(_ source: String) throws {
        let here = try Surroundings()
        here.environment["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:\(here.sts.port)"
        here.setEnvironment()
        here.setContainer()
        here.setInstance()
        try here.setProfile("", config: "[default]\nrole_arn=arn:role\ncredential_source = \(source)\n")
        #expect(try here.issue([.profile]).credentials?.accessKey == "key-of-sts")
        let name = ["Environment": "environment", "EcsContainer": "container"][source] ?? "instance"
        #expect(here.sts.requests.first?.headers["authorization"]?.contains("Credential=key-of-\(name)/") == true)
        #expect(name == "environment" || here.sts.requests.first?.headers["x-amz-security-token"] == "session-token")
    }

    @Test func aRoleWithATokenFileIsAWebIdentity() throws {
        let here = try Surroundings()
        here.environment["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:\(here.sts.port)"
        try here.setProfile(
            "",
            config: "[default]\nrole_arn=arn:role\nweb_identity_token_file=\(here.folder.path)/web\n"
        )
        #expect(try here.issue().credentials?.accessKey == "key-of-sts")
        #expect(here.sts.requests.first?.text.contains("WebIdentityToken=web-identity-token") == true)
    }

    @Test(arguments: [
        ("credential_process = /bin/true", "credential_process is not supported"), ("sso_session = x", "sso_session"),
        ("role_arn = r\nsource_profile = default\nmfa_serial = m", "mfa_serial"), ("role_arn = r", "source_profile"),
        ("role_arn = r\nsource_profile = none", "no profile 'none'"),
        ("role_arn = r\nsource_profile = other\n[profile other]\nrole_arn = r\nsource_profile = default", "leads back"),
        ("aws_access_key_id = key", "aws_secret_access_key"),
        ("role_arn = r\ncredential_source = Moon", "credential_source"),
    ])
    func whatCannotBeUsedIsSaid(_ lines: String, _ expected: String) throws {
        let here = try Surroundings()
        try here.setProfile("", config: "[default]\n\(lines)\n")
        let text = try here.failure()
        #expect(text.contains(expected) && text.contains("profile '"), "\(text)")
    }
}
