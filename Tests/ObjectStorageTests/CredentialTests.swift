import FaultProxy
import HTTPClient
import Synchronization
import System
import TestDoubles
import Testing
import Threading

@testable import ObjectStorage

private typealias Answer = ScriptedServer.Answer

/// Texts that must never be seen outside of a request.
private let secrets = [
    "secret-of-environment", "secret-of-sts", "secret-of-profile", "secret-of-container", "secret-of-instance",
    "web-identity-token", "authorization-token", "session-token", "metadata-token",
]

private func document(_ name: String, end: String? = "2030-01-01T00:00:00Z") -> String {
    let expiration = end.map { ",\"Expiration\":\"\($0)\"" } ?? ""
    return
        "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"key-of-\(name)\",\"SecretAccessKey\":\"secret-of-\(name)\","
        + "\"Token\":\"session-token\"\(expiration),\"LastUpdated\":\"2026-01-01T00:00:00Z\"}"
}

private func stsAnswer(_ action: String) -> String {
    """
    <\(action)Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><\(action)Result><Credentials>\
    <AccessKeyId>key-of-sts</AccessKeyId><SecretAccessKey>secret-of-sts</SecretAccessKey>\
    <SessionToken>session-token</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>\
    </\(action)Result></\(action)Response>
    """
}

/// Small services that speak the real formats, and a home directory.
final class Surroundings {
    let folder = TemporaryFolder()
    let sts: ScriptedServer
    let container: ScriptedServer
    let instance: ScriptedServer
    var environment: [String: String]

    init() throws {
        sts = ScriptedServer { request, _ in
            .ok(stsAnswer(request.text.contains("WithWebIdentity") ? "AssumeRoleWithWebIdentity" : "AssumeRole"))
        }
        container = ScriptedServer { request, _ in
            request.headers["authorization"] == "authorization-token" ? .ok(document("container")) : .status(401)
        }
        instance = ScriptedServer { request, _ in
            switch (request.method, request.target) {
            case ("PUT", "/latest/api/token"):
                return request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
                    ? .ok("metadata-token") : .status(400)
            case _ where request.headers["x-aws-ec2-metadata-token"] != "metadata-token":
                return .status(401)
            case ("GET", "/latest/meta-data/iam/security-credentials/"): return .ok("role-1\n")
            case ("GET", "/latest/meta-data/iam/security-credentials/role-1"): return .ok(document("instance"))
            default: return .status(404)
            }
        }
        try folder.write(Array("web-identity-token\n".utf8), to: "web")
        try folder.write(Array("authorization-token\n".utf8), to: "authorization")
        environment = ["HOME": folder.path, "AWS_EC2_METADATA_DISABLED": "true"]
    }

    deinit { for server in [sts, container, instance] { server.stop() } }

    func write(_ text: String, to name: String) throws { try folder.write(Array(text.utf8), to: name) }

    func setEnvironment() {
        environment["AWS_ACCESS_KEY_ID"] = "key-of-environment"
        environment["AWS_SECRET_ACCESS_KEY"] = "secret-of-environment"
    }

    func setWebIdentity() {
        environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = folder.path + "/web"
        environment["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/puller"
        environment["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:\(sts.port)/"
    }

    func setProfile(_ credentials: String, config: String? = nil) throws {
        try write(credentials, to: "credentials")
        environment["AWS_SHARED_CREDENTIALS_FILE"] = folder.path + "/credentials"
        if let config {
            try write(config, to: "config")
            environment["AWS_CONFIG_FILE"] = folder.path + "/config"
        }
    }

    func setContainer() {
        environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://127.0.0.1:\(container.port)/v1/credentials"
        environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = folder.path + "/authorization"
    }

    func setInstance() {
        environment["AWS_EC2_METADATA_DISABLED"] = nil
        environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:\(instance.port)/"
    }

    func issue(_ sources: [CredentialChain.Source] = CredentialChain.Source.allCases) throws -> IssuedCredentials {
        try CredentialChain(sources, environment: environment, region: "eu-west-1").issue()
    }

    /// What requests are signed with.
    func current() throws -> Credentials? {
        let chain = try CredentialChain(environment: environment, region: "eu-west-1")
        return try CredentialCache(chain, report: { _ in }).provider.current()
    }

    /// Why nothing is issued; checked to hold no secret.
    func failure(_ sources: [CredentialChain.Source] = CredentialChain.Source.allCases) throws -> String {
        let error = try #require(throws: CredentialFailure.self) { try issue(sources) }
        for secret in secrets { #expect(!"\(error)".contains(secret)) }
        return error.description
    }
}

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

@Suite struct ContainerCredentialTests {
    @Test func takesTheTokenOfTheFileEachTime() throws {
        let here = try Surroundings()
        here.setContainer()
        here.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "older"
        let issued = try here.issue()
        #expect(issued.credentials?.secretKey.reveal() == "secret-of-container" && issued.end != nil)
        #expect(here.container.requests.first?.target == "/v1/credentials")
    }

    @Test func expiredOnesAreNone() throws {
        let here = try Surroundings()
        here.setContainer()
        here.container.on(.any, .all, .answer(.ok(document("container", end: "2020-01-01T00:00:00Z"))))
        let error = try #require(throws: StoreError.self) { try here.current() }
        #expect(error.description.contains("the container's credentials are expired since 2020-01-01T00:00:00Z"))
    }

    @Test(arguments: [
        "http://169.254.170.3/x", "http://10.0.0.1/x", "http://example.com/x", "http://127.0.0.1.example.com/",
        "http://127.0.0.1@example.com/", "ftp://127.0.0.1/", "http://localhost.example.com/", "http://[fd00:ec2::24]/",
        "http://127.0.0.256/",
    ])
    func asksNobodyElseInClearText(_ url: String) throws {
        let here = try Surroundings()
        here.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url
        #expect(try here.failure().contains("use https"))
    }

    @Test(arguments: [401, 404, 500])
    func aRefusalIsAnError(_ status: Int) throws {
        let here = try Surroundings()
        here.setContainer()
        here.container.on(
            .any,
            .all,
            .answer(Answer(status: status, body: Array("{\"code\":\"x\",\"message\":\"authorization-token\"}".utf8)))
        )
        #expect(try here.failure().contains("status \(status)"))
    }

    @Test(arguments: [
        "", "[]", "{\"AccessKeyId\":1}", "{\"AccessKeyId\":\"secret-of-container\"}", "{\"Code\":\"Failed\"}",
    ])
    func anAnswerOfAnotherFormIsAnError(_ body: String) throws {
        let here = try Surroundings()
        here.setContainer()
        here.container.on(.any, .all, .answer(.ok(body)))
        _ = try here.failure()
    }
}

@Suite struct InstanceCredentialTests {
    @Test func fetchesATokenFirst() throws {
        let here = try Surroundings()
        here.setInstance()
        let issued = try here.issue()
        #expect(issued.credentials?.secretKey.reveal() == "secret-of-instance" && issued.source.contains("role-1"))
        #expect(here.instance.requests.map(\.method) == ["PUT", "GET", "GET"])
    }

    /// One that is switched off, another cloud's, one without a role, one that has only the first version.
    @Test(arguments: [
        ("/latest/api/token", 400), ("/latest/api/token", 403), ("/latest/api/token", 404),
        ("/latest/api/token", 405),
        ("/latest/meta-data/iam/security-credentials/", 404),
    ])
    func aMachineWithoutItHasNone(_ target: String, _ status: Int) throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.target(target), .all, .answer(Answer(status: status)))
        #expect(try here.issue().credentials == nil)
        here.environment["AWS_EC2_METADATA_DISABLED"] = "TRUE"
        here.instance.forget()
        #expect(try here.issue().credentials == nil)
        #expect(here.instance.requests.isEmpty, "not asked when it is switched off")
    }

    @Test func nobodyThereIsNone() throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.stop()
        #expect(try here.issue().credentials == nil)
    }

    /// Bug: it counted as none, and requests went unsigned until the next look.
    @Test(arguments: [429, 500, 503, 0])
    func aServiceThatFailsIsNotTakenForNone(_ status: Int) throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.method("PUT"), .all, .answer(Answer(status: status, resets: status == 0)))
        let text = try here.failure()
        #expect(text.contains("metadata service") && (status == 0 || text.contains("status \(status)")), "\(text)")
        here.environment["AWS_METADATA_SERVICE_NUM_ATTEMPTS"] = "2"
        here.instance.clear()
        here.instance.on(.method("PUT"), .nth(1), .answer(Answer(status: status, resets: status == 0)))
        #expect(try here.issue().credentials?.accessKey == "key-of-instance")
    }

    /// The service itself says so when it is in trouble, and the store takes them.
    @Test func expiredOnesAreUsed() throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.target("role-1"), .all, .answer(.ok(document("instance", end: "2020-01-01T00:00:00Z"))))
        #expect(try here.current()?.accessKey == "key-of-instance")
    }

    @Test func aRoleWithoutCredentialsIsAnError() throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.target("role-1"), .all, .answer(.status(500)))
        #expect(try here.failure().contains("status 500"))
    }
}

@Suite struct CredentialCacheTests {
    /// A source that a test plays.
    final class Script: Sendable {
        let calls = Atomic(0)
        let results = Mutex<[Result<IssuedCredentials, CredentialFailure>]>([])
        let gate = Monitor(true)

        func issue() throws(CredentialFailure) -> IssuedCredentials {
            calls.add(1, ordering: .relaxed)
            _ = gate.wait(until: .after(.seconds(20))) { $0 ? true : nil }
            return try results.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }.get()
        }
    }

    let time = ManualTime()
    let reports = Reports()
    let script = Script()

    func cache(_ results: [Result<IssuedCredentials, CredentialFailure>]) -> CredentialProvider {
        script.results.withLock { $0 = results }
        let script = script
        let reports = reports
        return CredentialCache(time: time, random: ScriptedStore.FullJitter(), report: { reports.add($0) }) {
            () throws(CredentialFailure) in try script.issue()
        }.provider
    }

    func issued(_ name: String, seconds: Int64? = nil) -> Result<IssuedCredentials, CredentialFailure> {
        let end = seconds.map { WallTime(seconds: time.wallTime().seconds + $0) }
        let credentials = Credentials(accessKey: name, secretKey: Secret("secret-of-\(name)"))
        return .success(IssuedCredentials(credentials, end: end, source: "a test"))
    }

    func settle(_ calls: Int) { waitUntil { script.calls.load(ordering: .relaxed) >= calls } }

    /// Waits until the provider gives these.
    func expect(_ name: String, from provider: CredentialProvider) throws {
        waitUntil { (try? provider.current()?.accessKey) == name }
        #expect(try provider.current()?.accessKey == name)
    }

    @Test func aHerdAsksOnce() throws {
        let provider = cache([issued("a", seconds: 3_600)])
        script.gate.update { $0 = false }
        let found = Monitor<[String]>([])
        for _ in 0..<32 {
            spawnThread(name: "herd") {
                let key = (try? provider.current()?.accessKey) ?? "none"
                found.update { $0.append(key) }
            }
        }
        settle(1)
        script.gate.update { $0 = true }
        let all = found.wait(until: .after(.seconds(20))) { $0.count == 32 ? $0 : nil }
        #expect(all.map(Set.init) == ["a"])
        #expect(script.calls.load(ordering: .relaxed) == 1)
        waitUntil { !reports.texts.isEmpty }
        #expect(reports.texts.count == 1 && reports.texts[0].hasPrefix("credentials from a test, valid until 20"))
    }

    @Test func renewsBeforeTheEndAndServesMeanwhile() throws {
        let provider = cache([issued("a", seconds: 3_600), issued("b", seconds: 7_200)])
        try expect("a", from: provider)
        time.advance(.seconds(3_200))
        #expect(try provider.current()?.accessKey == "a")
        #expect(script.calls.load(ordering: .relaxed) == 1, "not yet")
        script.gate.update { $0 = false }
        time.advance(.seconds(101))
        for _ in 0..<10 { #expect(try provider.current()?.accessKey == "a", "still valid") }
        settle(2)
        script.gate.update { $0 = true }
        try expect("b", from: provider)
        waitUntil { !reports.all.isEmpty }
        #expect(script.calls.load(ordering: .relaxed) == 2 && reports.all.count == 1, "the same source is told once")
    }

    @Test func aFailureKeepsWhatIsValid() throws {
        let provider = cache([
            issued("a", seconds: 600), .failure(CredentialFailure("no answer")),
            .failure(CredentialFailure("no answer")),
            issued("b", seconds: 7_200),
        ])
        try expect("a", from: provider)
        time.advance(.seconds(400))
        #expect(try provider.current()?.accessKey == "a")
        waitUntil { reports.all.count == 2 }
        #expect(reports.texts.last == "no answer")
        #expect(try provider.current()?.accessKey == "a")
        #expect(script.calls.load(ordering: .relaxed) == 2, "not asked again at once")
        time.advance(.seconds(300))
        // They have ended, and the next attempt fails too.
        let error = try #require(throws: StoreError.self) { try provider.current() }
        guard case .noCredentials = error.kind else {
            Issue.record("\(error)")
            return
        }
        #expect(error.description.contains("no answer") && error.isRetryable)
        #expect(reports.all.count == 2, "told once")
        time.advance(.seconds(100))
        try expect("b", from: provider)
        // Told by the thread that renews them, perhaps a moment after they are given out.
        waitUntil { reports.texts.count == 3 }
    }

    @Test func nobodysAreLookedForAgain() throws {
        let provider = cache([.success(.none), issued("late", seconds: 3_600), .success(.none)])
        #expect(try provider.current() == nil)
        time.advance(.seconds(61))
        try expect("late", from: provider)
        time.advance(.seconds(3_050))
        _ = try provider.current()
        settle(3)
        waitUntil { reports.all.count == 3 }
        #expect(try provider.current()?.accessKey == "late", "a source that cannot be reached takes nothing away")
    }

    /// The store says that a token has ended before its time.
    @Test func aRefusedTokenIsRenewedOnce() throws {
        let provider = cache([issued("a", seconds: 3_600), issued("b", seconds: 3_600)])
        let server = ScriptedServer { request, _ in
            request.headers["authorization"]?.contains("Credential=b/") == true
                ? .ok("", [("ETag", "\"e\"")]) : .status(400, "ExpiredToken")
        }
        var configuration = try server.configuration()
        configuration.credentials = provider
        try server.withStore(configuration) { test in
            try test.store.put(ScriptedStore.key, .bytes([1]))
            #expect(server.requests.count == 2)
            server.on(.any, .all, .answer(.status(400, "ExpiredToken")))
            guard case .badCredentials = try test.error({ try $0.put(ScriptedStore.key, .bytes([1])) }).kind else {
                Issue.record("another kind")
                return
            }
            #expect(script.calls.load(ordering: .relaxed) == 2, "not for each refusal")
        }
    }

    /// Bug: all but the first of those that the store had refused were given up.
    @Test func allThatWereRefusedGoOnWithTheNewOnes() throws {
        let provider = cache([issued("a", seconds: 3_600), issued("b", seconds: 3_600)])
        try expect("a", from: provider)
        // Beyond what counts as lately.
        time.advance(.seconds(60))
        let waiting = Atomic(0)
        let server = ScriptedServer { request, _ in
            if request.headers["authorization"]?.contains("Credential=b/") == true {
                return .ok("", [("ETag", "\"e\"")])
            }
            waiting.add(1, ordering: .relaxed)
            waitUntil { waiting.load(ordering: .relaxed) == 4 }
            // One after the other: the renewal for the first is over when the next hears of it.
            if request.target.hasSuffix("0") { return .status(400, "ExpiredToken") }
            waitUntil { (try? provider.current()?.accessKey) == "b" }
            return .status(400, "ExpiredToken")
        }
        var configuration = try server.configuration()
        configuration.credentials = provider
        try server.withStore(configuration) { test in
            let stored = Monitor<[Bool]>([])
            let store = test.store
            for number in 0..<4 {
                spawnThread(name: "test") {
                    let isStored = (try? store.put(ObjectKey("key\(number)"), .bytes([1]))) != nil
                    stored.update { $0.append(isStored) }
                }
            }
            let all = stored.wait(until: .after(.seconds(20))) { $0.count == 4 ? $0 : nil }
            #expect(all == [true, true, true, true])
            #expect(script.calls.load(ordering: .relaxed) == 2)
        }
    }

    @Test func secretsDoNotShow() throws {
        let provider = cache([issued("a", seconds: 3_600)])
        let credentials = try #require(try provider.current())
        var dumped = ""
        dump(credentials, to: &dumped)
        dump(try issued("a").get(), to: &dumped)
        for text in ["\(credentials)", dumped, "\(reports.texts)", String(reflecting: credentials)] {
            #expect(!text.contains("secret-of-a"))
        }
    }
}
