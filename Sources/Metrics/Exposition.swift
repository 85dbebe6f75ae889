/// Metrics in Prometheus's text format, version 0.0.4.
public struct Exposition: Sendable {
    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    public enum Kind: String, Sendable {
        case counter, gauge, histogram
    }

    public private(set) var text = ""

    public init() {}

    /// Begins a family; its samples follow.
    public mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(escaped(help))\n# TYPE \(name) \(kind.rawValue)\n"
    }

    public mutating func sample(_ name: String, _ labels: KeyValuePairs<String, String>, _ value: some BinaryInteger) {
        append(name, labels, "\(value)")
    }

    public mutating func sample(_ name: String, _ labels: KeyValuePairs<String, String>, seconds value: Double) {
        append(name, labels, "\(value)")
    }

    /// A family of one sample without labels.
    public mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: some BinaryInteger) {
        family(name, kind, help)
        sample(name, [:], value)
    }

    /// The series of one row; its family must have begun.
    public mutating func histogram(
        _ name: String,
        label: String,
        _ value: String,
        _ row: Int,
        of histogram: DurationHistogram
    ) {
        let (cumulative, count, nanoseconds) = histogram.snapshot(row: row)
        for (bound, total) in zip(DurationHistogram.bounds, cumulative) {
            append("\(name)_bucket", [label: value, "le": "\(Double(bound) / 1e9)"], "\(total)")
        }
        append("\(name)_bucket", [label: value, "le": "+Inf"], "\(count)")
        append("\(name)_sum", [label: value], "\(Double(nanoseconds) / 1e9)")
        append("\(name)_count", [label: value], "\(count)")
    }

    private mutating func append(_ name: String, _ labels: KeyValuePairs<String, String>, _ value: String) {
        text += name
        if !labels.isEmpty {
            text += "{\(labels.map { "\($0.key)=\"\(escaped($0.value, quote: true))\"" }.joined(separator: ","))}"
        }
        text += " \(value)\n"
    }

    private func escaped(_ text: String, quote: Bool = false) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quote: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
