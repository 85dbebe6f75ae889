/// A part of the disk: so many bytes, or a percentage of the file system.
public enum CacheSize: Sendable, Equatable {
    case bytes(Int64)
    case percent(Int)
}

/// Reads the forms that people write.
public enum Values {
    /// `512`, `100MiB`, `2TiB`, `10GB`: binary and decimal units.
    public static func size(_ text: String) -> Int64? {
        let units: [(String, Int64)] = [
            ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("KB", 1000), ("kB", 1000),
            ("MB", 1_000_000), ("GB", 1_000_000_000), ("TB", 1_000_000_000_000), ("B", 1), ("", 1),
        ]
        for (unit, factor) in units where text.hasSuffix(unit) {
            guard let number = digits(text.dropLast(unit.count)) else { return nil }
            let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
            return overflow ? nil : bytes
        }
        return nil
    }

    static func cacheSize(_ text: String) -> CacheSize? {
        guard text.hasSuffix("%") else { return size(text).map { .bytes($0) } }
        return percent(text).map { .percent($0) }
    }

    /// `1%` to `100%`.
    static func percent(_ text: String) -> Int? {
        guard text.hasSuffix("%"), let percent = digits(text.dropLast()), 1...100 ~= percent else { return nil }
        return Int(percent)
    }

    /// `500ms`, `10s`, `5m`, `24h`, `7d`; a bare 0.
    public static func duration(_ text: String) -> Duration? {
        let units: [(String, Int64)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
        if text == "0" { return .zero }
        for (unit, milliseconds) in units where text.hasSuffix(unit) {
            guard let number = digits(text.dropLast(unit.count)), number <= 1_000_000_000 else { return nil }
            return .milliseconds(number * milliseconds)
        }
        return nil
    }

    public static func count(_ text: String) -> Int? { digits(text).map { Int($0) } }

    /// `127.0.0.1:5000`, `[::1]:5000`, `:5000` for all addresses.
    static func address(_ text: String) -> (host: String, port: UInt16)? {
        guard let colon = text.lastIndex(of: ":"), let port = digits(text[text.index(after: colon)...]), port <= 65535
        else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
        } else if host.contains(":") {
            return nil
        }
        let isPlain = host.utf8.allSatisfy { 33...126 ~= $0 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "@") }
        guard isPlain else { return nil }
        return (host.isEmpty ? "0.0.0.0" : host, UInt16(port))
    }

    private static func digits(_ text: some StringProtocol) -> Int64? {
        guard !text.isEmpty, text.utf8.count <= 18, text.utf8.allSatisfy({ 48...57 ~= $0 }) else { return nil }
        return Int64(String(text))
    }
}
