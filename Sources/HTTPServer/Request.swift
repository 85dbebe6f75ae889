internal import CGlibc
internal import CMicroHTTPD
internal import Glibc

/// One request. Valid until ``RequestHandler/ended(_:_:)`` has returned: nothing may keep it.
public final class Request {
    public let method: String
    /// The path as it came over the wire, percent-encoded.
    public let path: String
    /// Tells the path from nearly all others, as long as the process runs.
    public let pathMark: UInt64
    /// What follows the `?`, as it came; empty when there is none.
    public let query: String
    /// Of the body, in bytes; `nil` when it is chunked or there is none.
    public let contentLength: Int64?
    /// A body follows.
    public let hasBody: Bool
    /// Neither a part nor a condition is asked for.
    public let isForWhole: Bool
    /// Which of the server's loops it came to: they do not slow each other where each has its own of what changes with every request.
    public let loop: Int
    /// The handler's own, from ``RequestHandler/handle(_:)`` until ``RequestHandler/ended(_:_:)``.
    public var note: UInt64 {
        get { handlerNote }
        set { handlerNote = newValue }
    }
    /// What the handler calls it in logs.
    public var id: String {
        get { handlerName }
        set { handlerName = newValue }
    }
    // Read and written in one step.
    @exclusivity(unchecked) private var handlerNote: UInt64 = 0
    @exclusivity(unchecked) private var handlerName = ""

    private let connection: OpaquePointer

    init(
        _ connection: OpaquePointer,
        loop: Int,
        method: String,
        _ target: Target,
        _ body: Framing.Body = Framing.Body(),
        isForWhole: Bool = false
    ) {
        self.connection = connection
        self.loop = loop
        self.method = method
        path = target.path
        pathMark = target.mark
        query = target.query
        contentLength = body.contentLength
        hasBody = body.isChunked || (body.contentLength ?? 0) > 0
        self.isForWhole = isForWhole
    }

    /// The client waits for a word before it sends the body (RFC 9110, section 10.1.1).
    public var expectsContinue: Bool { header("Expect")?.lowercased() == "100-continue" }

    /// The value of a header, whatever its case; `nil` when it is not there (`MHD_lookup_connection_value`).
    public func header(_ name: String) -> String? {
        name.withCString { name in
            MHD_lookup_connection_value(connection, .HEADER_KIND, name).map { String(cString: $0) }
        }
    }

    /// All headers in their order (`MHD_get_connection_values`).
    public var headers: [(name: String, value: String)] {
        var list = HeaderList()
        withUnsafeMutablePointer(to: &list) { pointer in
            _ = MHD_get_connection_values(connection, .HEADER_KIND, collectHeader, pointer)
        }
        return list.headers
    }

    /// The query's parameters, decoded, in their order. A `+` stands for itself: media types have one.
    public var parameters: [(name: String, value: String)] {
        query.split(separator: "&").compactMap { field in
            let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = percentDecoded(String(parts[0])) else { return nil }
            guard parts.count == 2 else { return (name, "") }
            return percentDecoded(String(parts[1])).map { (name, $0) }
        }
    }

    /// The first parameter of that name; `nil` when there is none.
    public func parameter(_ name: String) -> String? {
        parameters.first { $0.name == name }?.value
    }

    /// The client sends nothing more, and most likely has left (`POLLRDHUP` of `poll(2)`). For a thread that works for the request: the
    /// connection is there as long.
    public var hasHungUp: Bool {
        var watched = pollfd(fd: forebay_mhd_socket(connection), events: forebay_POLL_HANG_UP, revents: 0)
        return poll(&watched, 1, 0) > 0
    }

    /// The client's address without its port; empty when it has none.
    public var clientAddress: String {
        guard let address = forebay_mhd_client_address(connection) else { return "" }
        let length: Int
        switch Int32(address.pointee.sa_family) {
        case AF_INET: length = MemoryLayout<sockaddr_in>.size
        case AF_INET6: length = MemoryLayout<sockaddr_in6>.size
        default: return ""
        }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { text in
            let code = getnameinfo(
                address,
                socklen_t(length),
                text.baseAddress,
                socklen_t(text.count),
                nil,
                0,
                NI_NUMERICHOST
            )
            return code == 0 ? String(cString: text.baseAddress!) : ""
        }
    }
}

private struct HeaderList {
    var headers: [(name: String, value: String)] = []
}

private func collectHeader(
    _ context: UnsafeMutableRawPointer?,
    _ kind: MHD_ValueKind,
    _ name: UnsafePointer<CChar>?,
    _ value: UnsafePointer<CChar>?
) -> MHD_Result {
    guard let context, let name else { return MHD_Result.NO }
    context.assumingMemoryBound(to: HeaderList.self).pointee.headers.append(
        (String(cString: name), value.map { String(cString: $0) } ?? "")
    )
    return MHD_Result.YES
}
