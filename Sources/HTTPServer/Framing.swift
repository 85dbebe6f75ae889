internal import CMicroHTTPD
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

    static func check(
        _ target: Target,
        _ scan: HeaderScan,
        version: UnsafePointer<CChar>,
        headerLimitBytes: Int
    ) throws(Refusal) -> Body {
        guard !target.isCut(before: version) else { throw Refusal(reason: "the target holds a control character") }
        if !target.isPlain { try check(path: target.path) }
        if let fault = scan.fault { throw Refusal(reason: fault) }
        guard target.path.utf8.count + target.query.utf8.count + scan.bytes <= headerLimitBytes else {
            throw Refusal(reason: "the header section is larger than \(headerLimitBytes) bytes")
        }
        guard scan.hosts == 1 || (scan.hosts == 0 && strcmp(version, "HTTP/1.0") == 0) else {
            throw Refusal(reason: "a request needs exactly one Host header")
        }
        return try body(scan)
    }

    private static func body(_ scan: HeaderScan) throws(Refusal) -> Body {
        if let coding = scan.coding {
            guard scan.codings == 1, String(cString: coding).lowercased() == "chunked" else {
                throw Refusal(reason: "the only transfer coding is chunked")
            }
            guard scan.lengths == 0 else {
                throw Refusal(reason: "Content-Length and Transfer-Encoding exclude each other")
            }
            return Body(isChunked: true)
        }
        guard let first = scan.length else { return Body() }
        guard scan.lengths == 1 else { throw Refusal(reason: "there is more than one Content-Length") }
        let text = String(cString: first)
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
}

/// What the checks need of a header section, gathered in one pass and without a copy (`MHD_get_connection_values_n`).
struct HeaderScan {
    private(set) var bytes = 0
    private(set) var hosts = 0
    private(set) var lengths = 0
    private(set) var codings = 0
    /// There is a `Range` or an `If-None-Match`.
    private(set) var isSelective = false
    /// The first of each, valid as long as the request.
    private(set) var length: UnsafePointer<CChar>?
    private(set) var coding: UnsafePointer<CChar>?
    private(set) var fault: String?

    init(_ connection: OpaquePointer) {
        withUnsafeMutablePointer(to: &self) { pointer in
            _ = MHD_get_connection_values_n(connection, .HEADER_KIND, scanHeader, pointer)
        }
    }

    /// - Parameter value: empty when the line has none.
    fileprivate mutating func visit(_ name: UnsafeBufferPointer<CChar>, _ value: UnsafeBufferPointer<CChar>) {
        if name.isEmpty || !name.allSatisfy({ Self.isTokenCharacter(UInt8(bitPattern: $0)) }) {
            fail("a header name holds a character that is not allowed")
        }
        let bytes = UnsafeRawBufferPointer(value)
        if bytes.hasMark(\.controls), bytes.contains(where: { $0 < 32 && $0 != 9 || $0 == 127 }) {
            fail("a header value holds a control character")
        }
        noteName(name.baseAddress ?? emptyText, name.count, value.baseAddress ?? emptyText)
        self.bytes += name.count + 4 + value.count
    }

    private mutating func noteName(_ name: UnsafePointer<CChar>, _ count: Int, _ value: UnsafePointer<CChar>) {
        switch count {
        case 4 where strcasecmp(name, "host") == 0:
            hosts += 1
        case 5 where strcasecmp(name, "range") == 0, 13 where strcasecmp(name, "if-none-match") == 0:
            isSelective = true
        case 14 where strcasecmp(name, "content-length") == 0:
            lengths += 1
            length = length ?? value
        case 17 where strcasecmp(name, "transfer-encoding") == 0:
            codings += 1
            coding = coding ?? value
        default: break
        }
    }

    private mutating func fail(_ reason: String) { fault = fault ?? reason }

    /// RFC 9110, section 5.6.2.
    private static func isTokenCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122: true
        case UInt8(ascii: "!"), UInt8(ascii: "#")...UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"),
            UInt8(ascii: "-"),
            UInt8(ascii: "."), UInt8(ascii: "^")...UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }
}

private func scanHeader(
    _ context: UnsafeMutableRawPointer?,
    _ kind: MHD_ValueKind,
    _ name: UnsafePointer<CChar>?,
    _ nameLength: Int,
    _ value: UnsafePointer<CChar>?,
    _ valueLength: Int
) -> MHD_Result {
    guard let context, let name else { return MHD_Result.NO }
    context.assumingMemoryBound(to: HeaderScan.self).pointee.visit(
        UnsafeBufferPointer(start: name, count: nameLength),
        UnsafeBufferPointer(start: value, count: valueLength)
    )
    return MHD_Result.YES
}

/// Immortal, since it is a literal.
nonisolated(unsafe) private let emptyText: UnsafePointer<CChar> = UnsafeRawPointer(StaticString("").utf8Start)
    .assumingMemoryBound(to: CChar.self)
