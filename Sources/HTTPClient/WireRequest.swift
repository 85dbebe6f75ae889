/// A request that has been checked: nothing in it can break out of its line.
struct WireRequest {
    /// For messages: method and URL, without query, fragment and user.
    let operation: String
    let request: Request
    /// In the form of `CURLOPT_HTTPHEADER(3)`.
    let headerLines: [String]
    /// Whether the request has a `Content-Length`, if only of 0 (RFC 9110, section 8.6).
    let sendsBody: Bool
    /// It does more than read.
    var writes: Bool { !["GET", "HEAD"].contains(request.method) }
    /// A body that is sent together with the head.
    let smallBody: [UInt8]?

    /// libcurl's own limit for that (`MAX_INITIAL_POST_SIZE`).
    private static let smallBodyBytes = 64 << 10

    init(_ request: Request, headerLimitBytes: Int) throws(TransferError) {
        let operation = WireRequest.operation(request.method, request.url)
        func refuse(_ reason: String) -> TransferError { TransferError(operation, .invalid, detail: reason) }

        guard isToken(request.method) else { throw refuse("the method is no token") }
        if let reason = WireRequest.fault(inURL: request.url) { throw refuse(reason) }
        let length = request.body.length
        guard length >= 0 else { throw refuse("the body has a negative length") }
        guard request.method != "HEAD" || length == 0 else { throw refuse("HEAD takes no body") }
        if case .bytes(let bytes) = request.body, 1...Self.smallBodyBytes ~= bytes.count {
            smallBody = bytes
        } else {
            smallBody = nil
        }
        var lines = ["Expect:"]
        var size = request.method.utf8.count + request.url.utf8.count
        for (name, value) in request.headers {
            guard isToken(name) else { throw refuse("a header name is no token") }
            guard value.utf8.allSatisfy(isFieldByte) else { throw refuse("header \(name) holds a control character") }
            size += name.utf8.count + value.utf8.count + 4
            if equalIgnoringCase(name, "Content-Length") {
                guard value == String(length) else { throw refuse("Content-Length is not that of the body, \(length)") }
                continue
            }
            guard !["Transfer-Encoding", "Expect", "Trailer"].contains(where: { equalIgnoringCase($0, name) }) else {
                throw refuse("header \(name) is not for callers to set")
            }
            // libcurl takes "Name:" as a wish to leave the header out.
            lines.append(value.utf8.allSatisfy(isBlank) ? "\(name);" : "\(name): \(value)")
        }
        guard size <= headerLimitBytes else { throw refuse("the head is longer than \(headerLimitBytes) bytes") }
        // libcurl would name one of its own.
        let isTyped = request.headers.contains { equalIgnoringCase($0.name, "Content-Type") }
        if smallBody != nil, !isTyped { lines.append("Content-Type:") }
        self.operation = operation
        self.request = request
        headerLines = lines
        sendsBody = length > 0 || ["PUT", "POST", "PATCH"].contains(request.method)
    }

    private static func fault(inURL url: String) -> String? {
        guard url.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { return "the URL is not percent-encoded" }
        guard let start = authorityStart(of: url) else { return "the URL is not absolute, or neither http nor https" }
        let authority = url.utf8[start...].prefix { !"/?#".utf8.contains($0) }
        if authority.isEmpty { return "the URL has no host" }
        if authority.contains(UInt8(ascii: "@")) { return "the URL holds a user" }
        if url.utf8.contains(UInt8(ascii: "#")) { return "the URL holds a fragment" }
        return nil
    }

    private static func authorityStart(of url: String) -> String.Index? {
        for scheme in ["http://", "https://"]
        where equalIgnoringCase(String(url.utf8.prefix(scheme.utf8.count)) ?? "", scheme) {
            return url.utf8.index(url.startIndex, offsetBy: scheme.utf8.count)
        }
        return nil
    }

    /// What a message may show: one line of ASCII without secrets.
    static func operation(_ method: String, _ url: String) -> String {
        let path = url.utf8.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        var shown = String(decoding: path, as: UTF8.self)
        if let start = authorityStart(of: shown) {
            let authority = shown.utf8[start...].prefix { $0 != UInt8(ascii: "/") }
            if let at = authority.lastIndex(of: UInt8(ascii: "@")) { shown.removeSubrange(start...at) }
        } else if let at = shown.lastIndex(of: "@") {
            shown.removeSubrange(...at)
        }
        return printable(method) + " " + printable(shown)
    }

    private static func printable(_ text: String) -> String {
        String(
            decoding: text.utf8.prefix(512).map { (0x21...0x7e).contains($0) ? $0 : UInt8(ascii: "?") },
            as: UTF8.self
        )
    }
}

/// RFC 9110, section 5.6.2.
private func isToken(_ text: String) -> Bool {
    !text.isEmpty
        && text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                true
            default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
            }
        }
}

/// A byte that may stand in a field value (RFC 9110, section 5.5).
private func isFieldByte(_ byte: UInt8) -> Bool { byte == 0x09 || (byte >= 0x20 && byte != 0x7f) }

private func isBlank(_ byte: UInt8) -> Bool { byte == 0x09 || byte == 0x20 }
