/// The `Content-Range` of an upload chunk: `first-last`, both inclusive, without a unit. (distribution-spec, "Pushing a blob in chunks")
public struct ContentRange: Sendable, Hashable, CustomStringConvertible {
    public let first: Int64
    public let last: Int64

    /// `nil` for anything but two decimal numbers in order.
    public init?(_ text: some StringProtocol) {
        let parts = text.utf8.split(separator: UInt8(ascii: "-"), omittingEmptySubsequences: false)
        guard parts.count == 2, let first = Int64(digits: parts[0]), let last = Int64(digits: parts[1]), first <= last,
            last < Int64.max
        else { return nil }
        self.first = first
        self.last = last
    }

    public var count: Int64 { last - first + 1 }
    public var description: String { "\(first)-\(last)" }
}

extension Int64 {
    /// Reads decimal digits and nothing else: no sign, no space.
    public init?(digits: some Collection<UInt8>) {
        guard !digits.isEmpty, digits.count <= 19 else { return nil }
        var value: Int64 = 0
        for byte in digits {
            guard UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte else { return nil }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(Int64(byte - UInt8(ascii: "0")))
            guard !overflow, !carry else { return nil }
            value = sum
        }
        self = value
    }
}
