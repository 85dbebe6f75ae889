/// What a `Range` header asks of a body (RFC 9110, section 14.2).
public enum ByteRange: Equatable, Sendable {
    /// No range, or one that is to be ignored: several, another unit, or malformed.
    case whole
    /// Half-open, within the body.
    case partial(Range<Int64>)
    /// Wholly outside of the body.
    case unsatisfiable

    /// - Parameters:
    ///   - header: the header's value.
    ///   - size: of the whole body, in bytes. An empty body has no parts.
    public static func parse(_ header: String?, size: Int64) -> ByteRange {
        guard let header, size > 0 else { return .whole }
        let unit = "bytes="
        guard header.prefix(unit.count).lowercased() == unit else { return .whole }
        let ends = header.dropFirst(unit.count).split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2 else { return .whole }
        let (first, last) = (ends[0], ends[1])
        if first.isEmpty {
            guard let suffix = position(last) else { return .whole }
            return suffix == 0 ? .unsatisfiable : .partial(max(0, size - suffix)..<size)
        }
        guard let start = position(first) else { return .whole }
        if last.isEmpty { return start < size ? .partial(start..<size) : .unsatisfiable }
        guard let end = position(last), end >= start else { return .whole }
        return start < size ? .partial(start..<min(end, size - 1) + 1) : .unsatisfiable
    }

    /// Digits only. A number too large to hold lies beyond every body.
    private static func position(_ text: Substring) -> Int64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ 48...57 ~= $0 }) else { return nil }
        return Int64(text) ?? .max
    }
}
