internal import HTTPClient
internal import OCI
public import System

/// A profile of AWS's shared files, `~/.aws/credentials` and `~/.aws/config` (AWS SDKs and Tools Reference Guide, "Shared config and
/// credentials files").
public struct AWSProfile: Sendable {
    public let name: String
    /// Where it was found, for people.
    public let source: String
    fileprivate let values: [String: String]

    subscript(_ key: String) -> String? { values[key] }

    /// What the profile sets as its region.
    public var region: String? { values["region"] }

    /// The profile that the environment names, or else `default`; `nil` when no file has it.
    public static func named(
        _ name: String? = nil,
        _ environment: AWSEnvironment,
        _ files: any FileSystem = LocalFileSystem()
    ) throws(FileError) -> AWSProfile? {
        let name = name ?? environment["AWS_PROFILE"] ?? environment["AWS_DEFAULT_PROFILE"] ?? "default"
        let folder = "\(environment.home)/.aws"
        let config = environment["AWS_CONFIG_FILE"] ?? "\(folder)/config"
        let shared = environment["AWS_SHARED_CREDENTIALS_FILE"] ?? "\(folder)/credentials"
        let settings = try section(["profile \(name)"] + (name == "default" ? ["default"] : []), config, files)
        let secrets = try section([name], shared, files)
        guard settings != nil || secrets != nil else { return nil }
        let places = [secrets == nil ? nil : shared, settings == nil ? nil : config].compactMap { $0 }
        return AWSProfile(
            name: name,
            source: places.joined(separator: " and "),
            values: (settings ?? [:]).merging(secrets ?? [:]) { $1 }
        )
    }

    /// The lines below one of these headings; `nil` when there is none.
    private static func section(
        _ headings: [String],
        _ path: String,
        _ files: any FileSystem
    ) throws(FileError) -> [String: String]? {
        guard let bytes = try files.contents(at: path) else { return nil }
        var values: [String: String]?
        var isInside = false
        for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
            let text = trimmed(line)
            if text.hasPrefix("#") || text.hasPrefix(";") { continue }
            if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
                let words = text[text.index(after: text.startIndex)..<end].split(whereSeparator: \.isWhitespace)
                isInside = headings.contains(words.joined(separator: " ").replacing("\"", with: ""))
                if isInside { values = values ?? [:] }
            } else if isInside, line.first?.isWhitespace == false, let mark = text.firstIndex(of: "=") {
                // Indented lines belong to a nested section, for example `s3 =`.
                values?[trimmed(text[..<mark]).lowercased()] = value(text[text.index(after: mark)...])
            }
        }
        return values
    }

    /// Without a comment, which begins after a blank.
    private static func value(_ text: Substring) -> String {
        var text = text
        for mark in [" #", " ;", "\t#", "\t;"] {
            if let comment = text.firstRange(of: mark) { text = text[..<comment.lowerBound] }
        }
        return trimmed(text)
    }
}

extension CredentialChain {
    func fromProfile() throws(CredentialFailure) -> IssuedCredentials? {
        guard let profile = try profile(nil) else {
            let name = environment["AWS_PROFILE"] ?? environment["AWS_DEFAULT_PROFILE"]
            if let name { throw CredentialFailure("AWS_PROFILE: there is no profile '\(name)' in AWS's files") }
            return nil
        }
        return try issue(profile, seen: [])
    }

    private func profile(_ name: String?) throws(CredentialFailure) -> AWSProfile? {
        do throws(FileError) {
            return try AWSProfile.named(name, environment, files)
        } catch {
            throw CredentialFailure("\(error)")
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
                return try assume(role, tokenFile: file, session: profile["role_session_name"], what)
            }
            let base = try sourceCredentials(of: profile, seen: seen + [profile.name], refuse)
            return try tokenService.assume(role, of: profile, with: base).named("\(what), role \(role)")
        }
        if let accessKey = profile["aws_access_key_id"] {
            guard let secretKey = profile["aws_secret_access_key"] else {
                throw refuse("aws_access_key_id stands there without aws_secret_access_key")
            }
            let token = profile["aws_session_token"].map { Secret($0) }
            let credentials = Credentials(accessKey: accessKey, secretKey: Secret(secretKey), sessionToken: token)
            return IssuedCredentials(credentials, source: what)
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
            throw refuse("there are no credentials to assume its role with")
        }
        return credentials
    }
}
