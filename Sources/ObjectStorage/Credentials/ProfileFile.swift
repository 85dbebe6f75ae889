internal import System

/// One of AWS's shared files, and what it says of a profile.
struct ProfileFile: Sendable {
    /// What may name the file, and whether it does.
    let variable: String
    let isNamed: Bool
    let path: String
    let isThere: Bool
    /// The lines below the profile's heading; `nil` when there is none.
    let values: [String: String]?

    /// What names both, for people.
    static let settings = "AWS_SHARED_CREDENTIALS_FILE or AWS_CONFIG_FILE"

    /// The file of credentials, which wins, and the one of settings.
    static func both(
        for profile: String,
        _ environment: AWSEnvironment,
        _ files: any FileSystem
    ) throws(FileError) -> [ProfileFile] {
        let headings = ["profile \(profile)"] + (profile == "default" ? ["default"] : [])
        return [
            try ProfileFile("AWS_SHARED_CREDENTIALS_FILE", or: "credentials", [profile], environment, files),
            try ProfileFile("AWS_CONFIG_FILE", or: "config", headings, environment, files),
        ]
    }

    private init(
        _ variable: String,
        or name: String,
        _ headings: [String],
        _ environment: AWSEnvironment,
        _ files: any FileSystem
    ) throws(FileError) {
        self.variable = variable
        path = environment.path(variable) ?? "\(environment.home)/.aws/\(name)"
        // Which is how one asks for none.
        isNamed = environment[variable] != nil && path != "/dev/null"
        let bytes = try files.contents(at: path)
        isThere = bytes != nil
        values = bytes.flatMap { Self.section(headings, of: $0) }
    }

    /// Why it gives no keys, for people.
    var lack: String {
        if !isThere { return "no file \(path)" }
        return values == nil ? "not in \(path)" : "without keys in \(path)"
    }

    /// The lines below one of these headings. What is indented deeper than the key before it goes on with that key's value: it is a nested
    /// section, for example of `s3 =`, and of no use here.
    private static func section(_ headings: [String], of bytes: [UInt8]) -> [String: String]? {
        var values: [String: String]?
        var isInside = false
        var keyIndentation: Int?
        for line in text(bytes).split(whereSeparator: \.isNewline) {
            let text = trimmed(line)
            if text.isEmpty || text.hasPrefix("#") || text.hasPrefix(";") { continue }
            let indentation = line.prefix { $0.isWhitespace }.count
            if let keyIndentation, indentation > keyIndentation { continue }
            if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
                let words = text[text.index(after: text.startIndex)..<end].split(whereSeparator: \.isWhitespace)
                isInside = headings.contains(words.joined(separator: " ").replacing("\"", with: ""))
                if isInside { values = values ?? [:] }
                keyIndentation = nil
            } else {
                keyIndentation = indentation
                guard isInside, let mark = text.firstIndex(of: "=") else { continue }
                values?[trimmed(text[..<mark]).lowercased()] = value(text[text.index(after: mark)...])
            }
        }
        return values
    }

    /// Without the byte order mark that some editors begin a file with.
    private static func text(_ bytes: [UInt8]) -> String {
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        return String(decoding: bytes.dropFirst(bytes.starts(with: mark) ? mark.count : 0), as: UTF8.self)
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
