import FaultProxy
import HTTPClient
import System
import TestDoubles
import Testing

@testable import ObjectStorage

/// Texts that must never be seen outside of a request.
private let secrets = [
    "secret-of-environment", "secret-of-sts", "secret-of-profile", "secret-of-container", "secret-of-instance",
    "web-identity-token", "authorization-token", "session-token", "metadata-token",
]

func document(_ name: String, end: String? = "2030-01-01T00:00:00Z") -> String {
    let expiration = end.map { ",\"Expiration\":\"\($0)\"" } ?? ""
    return
        "{\"Code\":\"Success\",\"Type\":\"AWS-HMAC\",\"AccessKeyId\":\"key-of-\(name)\",\"SecretAccessKey\":\"secret-of-\(name)\","
        + "\"Token\":\"session-token\"\(expiration),\"LastUpdated\":\"2026-01-01T00:00:00Z\"}"
}

func inSeconds(_ seconds: Int64) -> WallTime { WallTime(seconds: SystemTime().wallTime().seconds + seconds) }

func stsAnswer(_ action: String) -> String {
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
    func current(_ report: @escaping @Sendable (StoreEvent) -> Void = { _ in }) throws -> Credentials? {
        let chain = try CredentialChain(environment: environment, region: "eu-west-1")
        return try CredentialCache(chain, report: report).provider.current()
    }

    /// Why nothing is issued; checked to hold no secret.
    func failure(_ sources: [CredentialChain.Source] = CredentialChain.Source.allCases) throws -> String {
        let error = try #require(throws: CredentialFailure.self) { try issue(sources) }
        for secret in secrets { #expect(!"\(error)".contains(secret)) }
        return error.description
    }
}
