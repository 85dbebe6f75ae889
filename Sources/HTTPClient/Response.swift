/// The head of a response.
public struct Response: Sendable {
    public let status: Int
    /// In the order of their arrival, white space around the values removed. Bytes that are not UTF-8 become U+FFFD.
    public let headers: [(name: String, value: String)]
    /// Where it came from: `192.0.2.1:443` or `[2001:db8::1]:443`; the proxy's address where there is one.
    public let remoteAddress: String

    public init(status: Int, headers: [(name: String, value: String)], remoteAddress: String = "") {
        self.status = status
        self.headers = headers
        self.remoteAddress = remoteAddress
    }

    /// The first value under `name`, in whatever case.
    public func header(_ name: String) -> String? {
        headers.first { equalIgnoringCase($0.name, name) }?.value
    }

    /// Bytes announced by `Content-Length`, never negative; for HEAD, those that GET would send.
    public var contentLength: Int64? {
        guard let length = header("Content-Length").flatMap({ Int64($0) }), length >= 0 else { return nil }
        return length
    }
}

/// Compares ASCII letters without their case.
func equalIgnoringCase(_ a: String, _ b: String) -> Bool {
    guard a.utf8.count == b.utf8.count else { return false }
    return zip(a.utf8, b.utf8).allSatisfy { $0 == $1 || (lowered($0) == lowered($1)) }
}

private func lowered(_ byte: UInt8) -> UInt8 {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
}
