import TestDoubles
import Testing

@testable import ObjectStorage

/// AWS's shared files as people write them.
@Suite struct ProfileFileTests {
    private let keys = Credentials(accessKey: "A", secretKey: Secret("B"))
    private let text = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n"

    /// Bug: keys that are indented were ignored, and requests went unsigned. Only what is indented deeper than the key before belongs to it.
    @Test(arguments: [
        "[default]\n  aws_access_key_id = A\n  aws_secret_access_key = B\n",
        "[default]\r\n\taws_access_key_id = A\r\n\r\n\t\t; mine\r\n\taws_secret_access_key = B\r\n",
        "  [other]\n  aws_access_key_id = X\n  [default]\n  aws_access_key_id = A\n  aws_secret_access_key = B\n",
        "[default]\n    s3 =\n        aws_access_key_id = X\n    aws_access_key_id = A\n  aws_secret_access_key = B\n"
            + "    aws_session_token = X\n",
        "[default]\nregion = r\n  [no heading]\naws_access_key_id = A\naws_secret_access_key = B\n",
        "\u{FEFF}[default]\naws_access_key_id = A\naws_secret_access_key = B\n",
    ])
    func keysAreReadWhereverTheyStand(_ text: String) throws {
        let here = try Surroundings()
        try here.setProfile(text)
        #expect(try here.issue().credentials == keys)
    }

    /// Bug: keys of one file were signed with the token of the other.
    @Test func keysAndTokenAreOfOneFile() throws {
        let first = try Surroundings()
        try first.setProfile(
            text,
            config: "[default]\naws_access_key_id = X\naws_secret_access_key = Y\naws_session_token = Z\n"
        )
        #expect(try first.issue().credentials == keys)
        let second = try Surroundings()
        try second.setProfile("[default]\naws_secret_access_key = Y\naws_session_token = Z\n", config: text)
        #expect(try second.issue().credentials == keys)
        let halves = try Surroundings()
        try halves.setProfile(
            "[default]\naws_access_key_id = A\n",
            config: "[default]\naws_secret_access_key = B\n"
        )
        #expect(try halves.failure().contains("in the same file"))
    }

    @Test func aTildeIsTheHome() throws {
        let here = try Surroundings()
        try here.write(text, to: "mine")
        try here.write("[default]\nregion = r\n", to: "settings")
        here.environment["AWS_SHARED_CREDENTIALS_FILE"] = "~/mine"
        here.environment["AWS_CONFIG_FILE"] = "~/settings"
        #expect(try here.issue().credentials == keys)
        #expect(try AWSProfile.named(nil, AWSEnvironment(here.environment))?.region == "r")
    }

    /// Bug: a mistake in its name had requests go unsigned.
    @Test(arguments: ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"])
    func aFileThatIsNamedMustHaveTheProfile(_ variable: String) throws {
        let here = try Surroundings()
        let path = here.folder.path + "/mine"
        here.environment[variable] = path
        let missing = try here.failure()
        #expect(missing.contains(variable) && missing.contains("no file \(path)"), "\(missing)")
        try here.write("[other]\nregion = r\n", to: "mine")
        let other = try here.failure()
        #expect(other.contains(variable) && other.contains("not in \(path)"), "\(other)")
        here.setContainer()
        #expect(try here.issue().credentials?.accessKey == "key-of-container", "other sources are asked")
    }

    @Test func theNullDeviceStandsForNoFile() throws {
        let here = try Surroundings()
        here.environment["AWS_SHARED_CREDENTIALS_FILE"] = "/dev/null"
        here.environment["AWS_CONFIG_FILE"] = "/dev/null"
        #expect(try here.issue().credentials == nil)
    }

    @Test func whatWasLookedAtIsSaid() throws {
        let here = try Surroundings()
        let places = ["no file \(here.folder.path)/.aws/credentials", "no file \(here.folder.path)/.aws/config"]
        let source = try here.issue().source
        let failure = try here.failure([.profile])
        here.environment["AWS_PROFILE"] = "ci"
        let named = try here.failure()
        for text in [source, failure, named] {
            for place in places { #expect(text.contains(place), "\(text)") }
        }
    }
}
