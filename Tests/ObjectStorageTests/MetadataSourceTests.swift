import FaultProxy
import System
import Testing

@testable import ObjectStorage

private typealias Answer = ScriptedServer.Answer

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

    /// Bug: on a machine whose clock is two hours ahead they were taken for expired, and nothing was ever sent.
    @Test func endByTheClockOfTheirService() throws {
        let here = try Surroundings()
        here.setContainer()
        let date = (name: "Date", value: inSeconds(-7_200).httpDate)
        let valid = document("container", end: inSeconds(-3_600).rfc3339)
        here.container.on(.any, .all, .answer(.ok(valid, [date])))
        #expect(try here.current()?.accessKey == "key-of-container")
        let issued = try here.issue()
        #expect(!issued.hasEnded(at: inSeconds(3_000)) && issued.hasEnded(at: inSeconds(4_000)))
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

    /// Bug: a service that quotes what it was asked with had it in the log.
    @Test(arguments: ["authorization-token", "Basic authorization-token"])
    func aRefusalQuotesNoToken(_ quoted: String) throws {
        let here = try Surroundings()
        here.setContainer()
        here.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "Basic authorization-token"
        here.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = nil
        here.container.on(.any, .all, .answer(.ok("{\"Code\":\"Denied for \(quoted)\"}")))
        let text = try here.failure()
        #expect(text.contains("Denied for") && !text.contains("authorization-token"), "\(text)")
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

    /// Another cloud's, one without a role, one that has only the first version.
    @Test(arguments: [
        ("/latest/api/token", 404), ("/latest/api/token", 405),
        ("/latest/meta-data/iam/security-credentials/", 404),
    ])
    func aMachineWithoutItHasNone(_ target: String, _ status: Int) throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.target(target), .all, .answer(Answer(status: status)))
        let issued = try here.issue()
        #expect(issued.credentials == nil && !issued.isRefusal)
        here.environment["AWS_EC2_METADATA_DISABLED"] = "TRUE"
        here.instance.forget()
        #expect(try here.issue().credentials == nil)
        #expect(here.instance.requests.isEmpty, "not asked when it is switched off")
    }

    /// Bug: "credentials from nowhere" was all that was said of it.
    @Test(arguments: [400, 401, 403])
    func aServiceThatRefusesIsNamed(_ status: Int) throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.method("PUT"), .all, .answer(Answer(status: status)))
        let names = [
            "the instance's metadata service", "status \(status)", "AWS_EC2_METADATA_DISABLED=true", "hop limit",
        ]
        func expectNamed(_ text: String) { for name in names { #expect(text.contains(name), "\(text)") } }
        let reports = Reports()
        #expect(try here.current { reports.add($0) } == nil, "a public bucket needs none")
        waitUntil { !reports.all.isEmpty }
        let report = try #require(reports.all.first)
        #expect(report.isTrouble && reports.texts[0].contains("requests are not signed"))
        expectNamed(reports.texts[0])
        expectNamed(try here.failure([.instance]))
        here.environment["AWS_EC2_METADATA_DISABLED"] = "true"
        let quiet = Reports()
        #expect(try here.current { quiet.add($0) } == nil)
        waitUntil { !quiet.all.isEmpty }
        #expect(quiet.all.first?.isTrouble == false)
    }

    @Test func aRoleOfAProfileNeedsTheRefusedOnes() throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.method("PUT"), .all, .answer(Answer(status: 403)))
        try here.setProfile(
            "",
            config: "[default]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = Ec2InstanceMetadata\n"
        )
        #expect(try here.failure().contains("the instance's metadata service refused a token: status 403"))
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
