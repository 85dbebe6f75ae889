internal import HTTPClient
internal import OCI
public import System

/// A profile of AWS's shared files, `~/.aws/credentials` and `~/.aws/config` (AWS SDKs and Tools Reference Guide, "Shared config and
/// credentials files").
public struct AWSProfile: Sendable {
    public let name: String
    /// Those that have it; the first wins.
    private let files: [ProfileFile]

    /// Where it was found, for people.
    public var source: String { files.map(\.path).joined(separator: " and ") }

    subscript(_ key: String) -> String? { files.lazy.compactMap { $0.values?[key] }.first }

    /// What the first file with an access key says: a secret or a session token from another one belongs to other keys.
    var keys: [String: String]? { files.lazy.compactMap(\.values).first { $0["aws_access_key_id"] != nil } }

    /// What the profile sets as its region.
    public var region: String? { self["region"] }

    /// The profile that the environment names, or else `default`; `nil` when no file has it.
    public static func named(
        _ name: String? = nil,
        _ environment: AWSEnvironment,
        _ files: any FileSystem = LocalFileSystem()
    ) throws(FileError) -> AWSProfile? {
        let name = name ?? environment.profile ?? "default"
        let found = try ProfileFile.both(for: name, environment, files).filter { $0.values != nil }
        return found.isEmpty ? nil : AWSProfile(name: name, files: found)
    }
}

extension CredentialChain {
    func fromProfile() throws(CredentialFailure) -> IssuedCredentials? {
        guard let profile = try profile(nil) else {
            guard let name = environment.profile else { return nil }
            let found = try profileFiles()
            throw CredentialFailure("AWS_PROFILE: there is no profile '\(name)': \(lacks(in: found))")
        }
        return try issue(profile, seen: [])
    }

    /// What was looked at in vain. An error where a variable names a file that does not have the profile: who set it wants requests signed.
    func lacksOfProfile() throws(CredentialFailure) -> String {
        let found = try profileFiles()
        let text = "profile '\(environment.profile ?? "default")': \(lacks(in: found))"
        if let file = found.first(where: { $0.isNamed && $0.values == nil }) {
            throw CredentialFailure("there are no credentials, though \(file.variable) is set; \(text)")
        }
        return text
    }

    private func lacks(in files: [ProfileFile]) -> String { files.map(\.lack).joined(separator: ", ") }

    private func profileFiles() throws(CredentialFailure) -> [ProfileFile] {
        do throws(FileError) {
            return try ProfileFile.both(for: environment.profile ?? "default", environment, files)
        } catch {
            throw CredentialFailure(error, namedBy: ProfileFile.settings)
        }
    }

    private func profile(_ name: String?) throws(CredentialFailure) -> AWSProfile? {
        do throws(FileError) {
            return try AWSProfile.named(name, environment, files)
        } catch {
            throw CredentialFailure(error, namedBy: ProfileFile.settings)
        }
    }

    private func issue(_ profile: AWSProfile, seen: [String]) throws(CredentialFailure) -> IssuedCredentials? {
        let what = "profile '\(profile.name)' of \(profile.source)"
        func refuse(_ reason: String) -> CredentialFailure { CredentialFailure("\(what): \(reason)") }

        // A profile may name itself as its source, for its own keys.
        let isOwnSource = profile["source_profile"] == profile.name && seen.last == profile.name
        if let role = profile["role_arn"], !isOwnSource {
            guard !seen.contains(profile.name) else { throw refuse("its source_profile leads back to it") }
            if profile["mfa_serial"] != nil { throw refuse("mfa_serial needs a person; use a role without it") }
            if let file = profile["web_identity_token_file"] {
                let (setting, session) = ("\(what): web_identity_token_file", profile["role_session_name"])
                return try assume(role, tokenFile: file, namedBy: setting, session: session, what)
            }
            let base = try sourceCredentials(of: profile, seen: seen + [profile.name], refuse)
            return try tokenService.assume(role, of: profile, with: base).named("\(what), role \(role)")
        }
        if let keys = profile.keys, let accessKey = keys["aws_access_key_id"] {
            guard let secretKey = keys["aws_secret_access_key"] else {
                throw refuse("aws_access_key_id stands there without aws_secret_access_key in the same file")
            }
            let token = keys["aws_session_token"].map { Secret($0) }
            let credentials = Credentials(accessKey: accessKey, secretKey: Secret(secretKey), sessionToken: token)
            return try IssuedCredentials(credentials, source: what)
        }
        for key in ["credential_process", "sso_session", "sso_start_url", "login_session"] where profile[key] != nil {
            throw refuse("\(key) is not supported; use keys, a role, or variables that another program sets")
        }
        return nil
    }

    private func sourceCredentials(
        of profile: AWSProfile,
        seen: [String],
        _ refuse: (String) -> CredentialFailure
    ) throws(CredentialFailure) -> Credentials {
        let issued: IssuedCredentials?
        switch (profile["source_profile"], profile["credential_source"]) {
        case (let name?, nil):
            guard let source = try self.profile(name) else { throw refuse("there is no profile '\(name)'") }
            issued = try issue(source, seen: seen)
        case (nil, "Environment"?): issued = try fromEnvironment()
        case (nil, "EcsContainer"?): issued = try fromContainer()
        case (nil, "Ec2InstanceMetadata"?): issued = try fromInstance()
        default:
            throw refuse(
                "role_arn needs web_identity_token_file, source_profile, or a credential_source of Environment, EcsContainer "
                    + "or Ec2InstanceMetadata"
            )
        }
        guard let credentials = issued?.credentials else {
            throw refuse("there are no credentials to assume its role with\(issued.map { "; \($0.source)" } ?? "")")
        }
        return credentials
    }
}
