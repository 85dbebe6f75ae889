import FaultProxy
import System
import TestDoubles
import Testing

@testable import ObjectStorage

/// What no request can carry.
///
/// Bug: it took the place of what was valid, and the source was not asked again before its end.
@Suite struct MalformedCredentialTests {
    @Test func whatIsValidStaysInUse() throws {
        let here = try Surroundings()
        here.setContainer()
        let valid = document("container", end: inSeconds(600).rfc3339)
        here.container.on(.any, .nth(1), .answer(.ok(valid)))
        let malformed = document("malformed").replacing("session-token", with: "session-token\\n")
        here.container.on(.any, .nth(2), .answer(.ok(malformed)))
        here.container.on(.any, .nth(3), .answer(.ok(document("newer"))))
        let time = ManualTime(at: inSeconds(0))
        let reports = Reports()
        let provider = CredentialCache(
            try CredentialChain(environment: here.environment, region: "eu-west-1"),
            time: time,
            random: ScriptedStore.FullJitter()
        ) { reports.add($0) }.provider
        #expect(try provider.current()?.accessKey == "key-of-container")
        waitUntil { reports.all.count == 1 }
        time.advance(.seconds(400))
        #expect(try provider.current()?.accessKey == "key-of-container")
        waitUntil { reports.all.count == 2 }
        #expect(reports.texts.last?.hasPrefix("the container's credentials: the session token") == true)
        #expect(try provider.current()?.accessKey == "key-of-container")
        time.advance(.seconds(60))
        waitUntil { (try? provider.current()?.accessKey) == "key-of-newer" }
        #expect(try provider.current()?.accessKey == "key-of-newer")
    }

    @Test(arguments: [
        ("key-of-", "access key", "key\\r\\nX-Evil: 1"), ("key-of-", "access key", "key "),
        ("key-of-", "access key", "ké"), ("key-of-", "access key", ""), ("secret-of-", "secret key", "secret\\n"),
        ("session-token", "session token", "a token"), ("session-token", "session token", "tök"),
        ("session-token", "session token", "token\\u0000"),
    ])
    func isRefusedWithoutBeingQuoted(_ part: String, _ name: String, _ value: String) throws {
        let here = try Surroundings()
        here.setContainer()
        let answer = document("").replacing("\"\(part)\"", with: "\"\(value)\"")
        here.container.on(.any, .all, .answer(.ok(answer)))
        let text = try here.failure()
        let reason = "is empty, or holds what none can, such as a line break"
        #expect(text == "the container's credentials: the \(name) \(reason)")
    }

    @Test func ofEverySource() throws {
        let here = try Surroundings()
        here.setInstance()
        here.instance.on(.target("role-1"), .all, .answer(.ok(document("a key"))))
        #expect(try here.failure().contains("role role-1: the access key"))
        try here.setProfile("[default]\naws_access_key_id = a key\naws_secret_access_key = b\n")
        #expect(try here.failure().contains("the access key"))
        here.setWebIdentity()
        let answer = stsAnswer("AssumeRoleWithWebIdentity").replacing("session-token", with: "session token")
        here.sts.on(.any, .all, .answer(.ok(answer)))
        #expect(try here.failure().contains("AssumeRoleWithWebIdentity: the session token"))
        here.setEnvironment()
        here.environment["AWS_ACCESS_KEY_ID"] = "key\n"
        #expect(try here.failure().contains("the environment: the access key"))
    }

    /// Other stores than AWS let people choose it, and no request carries it.
    @Test func aSecretKeyMayBeAPhrase() throws {
        let here = try Surroundings()
        here.setEnvironment()
        here.environment["AWS_SECRET_ACCESS_KEY"] = "any phrase, même accentuée"
        #expect(try here.issue().credentials?.secretKey.reveal() == "any phrase, même accentuée")
    }

    @Test func anEmptyTokenIsNone() throws {
        let here = try Surroundings()
        here.setContainer()
        here.container.on(.any, .all, .answer(.ok(document("container").replacing("session-token", with: ""))))
        let issued = try here.issue()
        #expect(issued.credentials?.accessKey == "key-of-container" && issued.credentials?.sessionToken == nil)
    }
}
