/// A configuration that cannot be used. One line: what, where it came from, and what to do.
public struct SettingsError: Error, Equatable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }

    init(_ key: SettingKey, _ setting: Setting, _ remedy: String) {
        var (shown, remedy) = (setting.text, remedy)
        if let user = user(of: shown) {
            if shown.contains("://") {
                remedy =
                    "credentials do not belong into a URL; set s3-access-key and s3-secret-key, or choose their source with "
                    + "s3-credentials"
            }
            shown.replaceSubrange(user, with: hidden)
        }
        // A signature may be in it.
        if let query = shown.firstIndex(of: "?") { shown.replaceSubrange(shown.index(after: query)..., with: hidden) }
        shown = key.isSecret ? "" : " '\(printable(shown))'"
        self.init("\(key.name): the value\(shown) from \(setting.source) is no good: \(remedy)")
    }
}

private let hidden = "********"

/// What stands before the last `@`, after a scheme if there is one: a name, and perhaps a secret, which may hold slashes.
func user(of text: String) -> Range<String.Index>? {
    guard let at = text.lastIndex(of: "@") else { return nil }
    let start = text.firstRange(of: "://")?.upperBound ?? text.startIndex
    return (start <= at ? start : text.startIndex)..<at
}

/// A message that may quote arguments, without the user of those that are URLs, and without what follows a secret's flag: one that holds a
/// blank comes as two.
public func hidingSecrets(of arguments: [String], in message: String) -> String {
    let flags = SettingKey.all.filter(\.isSecret).map { "--\($0.name)" }
    var (message, isSecret) = (message, false)
    for argument in arguments {
        if argument.hasPrefix("--") {
            isSecret = flags.contains { argument == $0 || argument.hasPrefix($0 + "=") }
        } else if isSecret {
            message = message.replacing("'\(argument)'", with: "'\(hidden)'")
        }
        if argument.contains("://"), let user = user(of: argument) {
            message = message.replacing("://\(argument[user])", with: "://\(hidden)")
        }
    }
    return message
}

/// The nearest of some names, for "did you mean".
func nearest(_ name: String, among names: [String]) -> String? {
    let best = names.map { (name: $0, distance: distance(name, $0)) }.min { $0.distance < $1.distance }
    guard let best, best.distance <= max(2, name.count / 3) else { return nil }
    return best.name
}

func printable(_ text: String) -> String {
    String(text.unicodeScalars.prefix(200).map { $0.value < 32 || $0.value == 127 ? "?" : Character($0) })
}

/// Levenshtein's.
private func distance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a), Array(b))
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var previous = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            let substituted = previous + (x == y ? 0 : 1)
            previous = row[j + 1]
            row[j + 1] = min(substituted, row[j] + 1, row[j + 1] + 1)
        }
    }
    return row[b.count]
}
