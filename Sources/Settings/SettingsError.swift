/// A configuration that cannot be used. One line: what, where it came from, and what to do.
public struct SettingsError: Error, Equatable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }

    init(_ key: SettingKey, _ setting: Setting, _ remedy: String) {
        let shown = key.isSecret ? "" : " '\(printable(setting.text))'"
        self.init("\(key.name): the value\(shown) from \(setting.source) is no good: \(remedy)")
    }
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
