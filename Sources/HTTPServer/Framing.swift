internal import Glibc

/// The checks that libmicrohttpd 0.9.75 leaves out: with any of these, two parties may disagree on where a request ends or what it names.
enum Framing {
    /// How the body is delimited (RFC 9112, section 6.3).
    struct Body {
        var contentLength: Int64?
        var isChunked = false
    }

    struct Refusal: Error {
        let reason: String
    }

    static func check(_ request: Request, version: String, headerLimitBytes: Int) throws(Refusal) -> Body {
        try check(path: request.path)
        let headers = request.headers
        var total = request.path.utf8.count + request.query.utf8.count
        var hosts = 0
        var lengths: [String] = []
        var codings: [String] = []
        for (name, value) in headers {
            guard !name.isEmpty, name.utf8.allSatisfy(isTokenCharacter) else {
                throw Refusal(reason: "a header name holds a character that is not allowed")
            }
            guard value.utf8.allSatisfy({ $0 >= 32 && $0 != 127 || $0 == 9 }) else {
                throw Refusal(reason: "a header value holds a control character")
            }
            total += name.utf8.count + value.utf8.count + 4
            switch name.lowercased() {
            case "host": hosts += 1
            case "content-length": lengths.append(value)
            case "transfer-encoding": codings.append(value)
            default: break
            }
        }
        guard total <= headerLimitBytes else {
            throw Refusal(reason: "the header section is larger than \(headerLimitBytes) bytes")
        }
        guard hosts == 1 || (hosts == 0 && version == "HTTP/1.0") else {
            throw Refusal(reason: "a request needs exactly one Host header")
        }
        return try body(lengths: lengths, codings: codings)
    }

    private static func body(lengths: [String], codings: [String]) throws(Refusal) -> Body {
        if let coding = codings.first {
            guard codings.count == 1, coding.lowercased() == "chunked" else {
                throw Refusal(reason: "the only transfer coding is chunked")
            }
            guard lengths.isEmpty else {
                throw Refusal(reason: "Content-Length and Transfer-Encoding exclude each other")
            }
            return Body(isChunked: true)
        }
        guard let text = lengths.first else { return Body() }
        guard lengths.count == 1 else { throw Refusal(reason: "there is more than one Content-Length") }
        guard !text.isEmpty, text.utf8.count <= 18, text.utf8.allSatisfy({ 48...57 ~= $0 }), let length = Int64(text)
        else { throw Refusal(reason: "the Content-Length is no number of bytes") }
        return Body(contentLength: length)
    }

    /// Refuses what could be another path once it is decoded.
    static func check(path: String) throws(Refusal) {
        for segment in path.split(separator: "/", omittingEmptySubsequences: false) {
            guard let decoded = percentDecoded(String(segment)) else {
                throw Refusal(reason: "the path has a bad or forbidden percent-encoding")
            }
            for part in decoded.split(separator: "/", omittingEmptySubsequences: false)
            where part == "." || part == ".." {
                throw Refusal(reason: "the path has a dot segment")
            }
        }
    }

    /// RFC 9110, section 5.6.2.
    private static func isTokenCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}
