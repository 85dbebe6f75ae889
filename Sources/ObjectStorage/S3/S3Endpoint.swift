internal import OCI

/// Where a bucket is, and how its requests are addressed.
public struct S3Endpoint: Sendable, Equatable, CustomStringConvertible {
    public enum Addressing: String, Sendable, CaseIterable {
        /// `https://host/bucket/key`
        case path
        /// `https://bucket.host/key`
        case virtual
    }

    public let bucket: String
    public private(set) var region: String
    public let addressing: Addressing
    public let isSecure: Bool
    /// With the bucket in front when the addressing is virtual; with the port, if it is not the scheme's.
    private(set) var host: String
    /// Begins with a slash and ends without; may be empty. With the bucket at its end when the addressing is by path.
    let basePath: String

    /// - Parameters:
    ///   - url: `http://` or `https://`, a host, and perhaps a port and a path; `nil` is AWS.
    ///   - addressing: `nil` is virtual for AWS, by path for all others, and for buckets with a dot in their names, which no certificate covers.
    ///   - secure: the scheme when `url` has none.
    public init(
        _ url: String?,
        bucket: String,
        region: String,
        addressing: Addressing? = nil,
        secure: Bool = true
    ) throws(InvalidSetting) {
        guard Self.isBucketName(bucket) else {
            throw InvalidSetting("bucket", bucket, "a bucket's name has 3 to 255 letters, digits, '.', '-' and '_'")
        }
        guard Self.isRegion(region) else {
            throw InvalidSetting("region", region, "a region is a word such as 'us-east-1'")
        }
        let text = url ?? "https://s3.\(region).amazonaws.com\(region.hasPrefix("cn-") ? ".cn" : "")"
        let address = try Address(text, secure: secure)
        self.bucket = bucket
        self.region = region
        self.addressing = addressing ?? (url == nil && !bucket.utf8.contains(UInt8(ascii: ".")) ? .virtual : .path)
        isSecure = address.isSecure
        guard self.addressing == .virtual else {
            host = address.host
            basePath = "\(address.path)/\(percentEncoded(bucket))"
            return
        }
        guard bucket.lowercased() == bucket, !bucket.utf8.contains(UInt8(ascii: "_")), bucket.utf8.count <= 63 else {
            throw InvalidSetting("bucket", bucket, "such a name is no host name; use path addressing")
        }
        host = "\(bucket).\(address.host)"
        basePath = address.path
    }

    /// The same bucket in another region; `nil` when that is no region's name. Only AWS has a host for each region.
    func moved(to region: String) -> S3Endpoint? {
        guard Self.isRegion(region) else { return nil }
        var moved = self
        moved.region = region
        let prefix = addressing == .virtual ? "\(bucket)." : ""
        let labels = host.dropFirst(prefix.utf8.count).split(separator: ".").map(String.init)
        if labels.first == "s3", let domain = labels.firstIndex(of: "amazonaws"),
            domain == 1 || (domain == 2 && labels[1] == self.region)
        {
            moved.host = "\(prefix)s3.\(region).amazonaws.com\(region.hasPrefix("cn-") ? ".cn" : "")"
        }
        return moved
    }

    private static func isRegion(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.count <= 64 && text.utf8.allSatisfy(isNameByte)
    }

    /// The percent-encoded path of an object, or of the bucket itself.
    func path(of key: ObjectKey?) -> String {
        guard let key else { return basePath.isEmpty ? "/" : basePath }
        return "\(basePath)/\(percentEncoded(key.description, keepingSlash: true))"
    }

    func url(path: String, query: String) -> String {
        "\(isSecure ? "https" : "http")://\(host)\(path)\(query.isEmpty ? "" : "?\(query)")"
    }

    public var description: String {
        let address = "\(isSecure ? "https" : "http")://\(host)\(basePath)"
        return "s3://\(bucket) (\(address), region \(region))"
    }

    private static func isBucketName(_ name: String) -> Bool {
        guard (3...255).contains(name.utf8.count), name.utf8.allSatisfy(isNameByte) else { return false }
        return name.utf8.first != UInt8(ascii: ".") && !name.contains("..")
    }
}

/// A setting that cannot be used.
public struct InvalidSetting: Error, Equatable, CustomStringConvertible {
    /// For example `bucket`.
    public let setting: String
    public let value: String
    public let reason: String

    init(_ setting: String, _ value: String, _ reason: String) {
        self.setting = setting
        self.value = printable(value, limit: 120)
        self.reason = reason
    }

    public var description: String { "invalid \(setting) '\(value)': \(reason)" }
}

/// The parts of an endpoint's URL.
private struct Address {
    var isSecure: Bool
    var host: String
    var path: String

    init(_ text: String, secure: Bool) throws(InvalidSetting) {
        func invalid(_ reason: String) -> InvalidSetting { InvalidSetting("endpoint", text, reason) }
        var rest = Substring(text)
        isSecure = secure
        if let separator = text.range(ofASCII: "://") {
            switch text[..<separator.lowerBound].lowercased() {
            case "https": isSecure = true
            case "http": isSecure = false
            default: throw invalid("the scheme must be http or https")
            }
            rest = rest[separator.upperBound...]
        }
        guard !rest.utf8.contains(UInt8(ascii: "@")) else {
            throw InvalidSetting("endpoint", "…@…", "credentials do not belong into it")
        }
        guard !rest.utf8.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") || $0 <= 32 }) else {
            throw invalid("it must end after the path")
        }
        let slash = rest.utf8.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
        let segments = rest[slash...].split(separator: "/")
        guard !segments.contains(where: { $0 == "." || $0 == ".." }) else { throw invalid("dots in its path") }
        path = segments.map { "/" + percentEncoded(percentDecoded(String($0)) ?? String($0)) }.joined()
        guard let host = Self.host(rest[..<slash].lowercased(), isSecure: isSecure) else {
            throw invalid("'\(rest[..<slash])' is no host with a port")
        }
        self.host = host
    }

    /// The host and the port, without the scheme's own, as the Host header has them.
    private static func host(_ text: String, isSecure: Bool) -> String? {
        let nameEnd: String.Index
        if text.hasPrefix("[") {
            guard let bracket = text.utf8.firstIndex(of: UInt8(ascii: "]")) else { return nil }
            nameEnd = text.utf8.index(after: bracket)
            let inside = text.utf8[text.utf8.index(after: text.startIndex)..<bracket]
            guard !inside.isEmpty, inside.allSatisfy({ $0 == UInt8(ascii: ":") || hexadecimalValue($0) != nil }) else {
                return nil
            }
        } else {
            nameEnd = text.utf8.firstIndex(of: UInt8(ascii: ":")) ?? text.endIndex
            guard nameEnd > text.startIndex, text[..<nameEnd].utf8.allSatisfy(isNameByte) else { return nil }
        }
        let name = text[..<nameEnd]
        guard nameEnd < text.endIndex else { return String(name) }
        guard text.utf8[nameEnd] == UInt8(ascii: ":"),
            let port = Int64(digits: text.utf8[text.utf8.index(after: nameEnd)...]),
            (1...65_535).contains(port)
        else { return nil }
        return port == (isSecure ? 443 : 80) ? String(name) : "\(name):\(port)"
    }
}

extension String {
    fileprivate func range(ofASCII text: String) -> Range<String.Index>? {
        var start = utf8.startIndex
        while start < utf8.endIndex {
            if utf8[start...].starts(with: text.utf8) { return start..<utf8.index(start, offsetBy: text.utf8.count) }
            start = utf8.index(after: start)
        }
        return nil
    }
}

/// Letters, digits, `.`, `-` and `_`.
private func isNameByte(_ byte: UInt8) -> Bool {
    percentEncoded(String(UnicodeScalar(byte))).utf8.count == 1 && byte != UInt8(ascii: "~")
}
