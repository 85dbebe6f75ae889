internal import CCurl
internal import System

/// libcurl said no to an option: out of memory, or built without it.
struct OptionRefused: Error {
    let code: CURLcode
}

/// How one run of `curl_easy_perform(3)` ended.
struct RunResult {
    let code: CURLcode
    /// libcurl's own words, or its standard ones for the code.
    let detail: String
    let connectionsOpened: Int
    let elapsedMicroseconds: Int64
    /// Of the request's body, given to the kernel.
    let bytesSent: Int64
    /// A proxy's, if it refused to pass a connection on.
    var refusedTunnel: (status: Int, proxy: String)?
}

extension RunResult {
    /// Nothing ran.
    init(refused code: CURLcode) {
        self.init(
            code: code,
            detail: "libcurl refused an option: \(String(cString: curl_easy_strerror(code)))",
            connectionsOpened: 0,
            elapsedMicroseconds: 0,
            bytesSent: 0
        )
    }
}

/// A `CURL *` with the connections that it keeps.
///
/// Sendable because only the thread that took it from the pool uses it, and the pool's lock orders one user after the other.
final class EasyHandle: @unchecked Sendable {
    private let handle: UnsafeMutableRawPointer
    private let errorText: UnsafeMutablePointer<CChar>

    /// `nil` when memory is short.
    init?() {
        guard let handle = curl_easy_init() else { return nil }
        self.handle = handle
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    deinit {
        curl_easy_cleanup(handle)
        errorText.deallocate()
    }

    /// Blocks until the transfer has ended. Afterwards nothing of it is left in the handle but its connection.
    func run(
        _ transfer: Transfer,
        _ configuration: ClientConfiguration,
        onFreshConnection fresh: Bool,
        totalTimeoutMilliseconds: Int?
    ) -> RunResult {
        // The list must outlive the handle's pointer to it, which goes with the reset.
        var list: UnsafeMutablePointer<curl_slist>?
        defer { curl_slist_free_all(list) }
        defer { curl_easy_reset(handle) }
        do throws(OptionRefused) {
            for line in transfer.wire.headerLines {
                guard let longer = curl_slist_append(list, line) else { throw OptionRefused(code: CURLE_OUT_OF_MEMORY) }
                list = longer
            }
            try set(configuration)
            try set(transfer, list)
            try set(CURLOPT_LOW_SPEED_TIME, transfer.wire.request.stallSeconds ?? configuration.stallSeconds)
            try set(CURLOPT_FRESH_CONNECT, fresh ? 1 : 0)
            if let totalTimeoutMilliseconds { try set(CURLOPT_TIMEOUT_MS, totalTimeoutMilliseconds) }
        } catch {
            return RunResult(refused: error.code)
        }
        errorText[0] = 0
        return result(perform(transfer))
    }

    private func perform(_ transfer: Transfer) -> CURLcode {
        guard let body = transfer.wire.smallBody else {
            return withExtendedLifetime(transfer) { curl_easy_perform(handle) }
        }
        // libcurl sends what it has as a whole in one go with the head.
        return body.withUnsafeBytes { memory in
            let code = forebay_curl_set_body(handle, memory.baseAddress, curl_off_t(memory.count))
            return code == CURLE_OK ? withExtendedLifetime(transfer) { curl_easy_perform(handle) } : code
        }
    }

    private func result(_ code: CURLcode) -> RunResult {
        var said = code == CURLE_OK ? "" : String(cString: errorText)
        // libcurl quotes a proxy's URL, which may hold a password.
        if said.hasPrefix("Unsupported proxy") {
            said = "the proxy's URL (http_proxy, https_proxy, all_proxy) is none that can be used"
        } else if said.isEmpty || said.contains("://") {
            said = String(cString: curl_easy_strerror(code))
        }
        return RunResult(
            code: code,
            detail: said,
            connectionsOpened: long(CURLINFO_NUM_CONNECTS),
            elapsedMicroseconds: offset(CURLINFO_TOTAL_TIME_T),
            bytesSent: offset(CURLINFO_SIZE_UPLOAD_T),
            refusedTunnel: code == CURLE_OK ? nil : refusedTunnel
        )
    }

    private var refusedTunnel: (status: Int, proxy: String)? {
        let status = long(CURLINFO_HTTP_CONNECTCODE)
        guard status >= 300 else { return nil }
        return (status, address(string(CURLINFO_PRIMARY_IP), port: long(CURLINFO_PRIMARY_PORT)))
    }

    /// What is the same for every request.
    func set(_ configuration: ClientConfiguration) throws(OptionRefused) {
        try check(forebay_curl_set_pointer(handle, CURLOPT_ERRORBUFFER, errorText))
        try set(CURLOPT_NOSIGNAL, 1)
        try set(CURLOPT_PROTOCOLS_STR, "http,https")
        try set(CURLOPT_FOLLOWLOCATION, 0)
        try set(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        try set(CURLOPT_PATH_AS_IS, 1)
        try set(CURLOPT_USERAGENT, configuration.userAgent)

        // A server that has moved is found again soon, and its name is not looked up for each of many connections at once.
        try set(CURLOPT_DNS_CACHE_TIMEOUT, 5)
        try set(CURLOPT_CONNECTTIMEOUT_MS, configuration.connectTimeoutMilliseconds)
        // Without it, a timeout would wait for the name lookup that it is meant to cut short.
        try set(CURLOPT_QUICK_EXIT, 1)
        try set(CURLOPT_LOW_SPEED_LIMIT, configuration.stallBytesPerSecond)
        try set(CURLOPT_MAXCONNECTS, configuration.keptConnectionsPerHandle)
        try set(CURLOPT_MAXAGE_CONN, configuration.maxConnectionIdleSeconds)
        try set(CURLOPT_TCP_NODELAY, 1)
        try set(CURLOPT_TCP_KEEPALIVE, 1)
        // A handle whose last run found no way to its proxy keeps its buffer, of this size, and refuses any.
        _ = forebay_curl_set_long(handle, CURLOPT_BUFFERSIZE, configuration.receiveBufferBytes)
        try set(CURLOPT_UPLOAD_BUFFERSIZE, configuration.uploadBufferBytes)

        try set(CURLOPT_SSL_VERIFYPEER, 1)
        try set(CURLOPT_SSL_VERIFYHOST, 2)
        try set(CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2)
        if let file = configuration.certificateAuthorityFile {
            try set(CURLOPT_CAINFO, file)
            // The system's directory of authorities would be searched beside the file.
            try set(CURLOPT_CAPATH, nil)
        }
        if let socket = configuration.unixSocket { try set(CURLOPT_UNIX_SOCKET_PATH, socket.address) }
        // A proxy's answer to CONNECT is no response of the server.
        try set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        switch configuration.proxy {
        case .environment: break
        case .none: try set(CURLOPT_PROXY, "")
        case .url(let url): try set(CURLOPT_PROXY, url)
        }
    }

    private func set(_ transfer: Transfer, _ list: UnsafeMutablePointer<curl_slist>?) throws(OptionRefused) {
        let wire = transfer.wire
        try set(CURLOPT_URL, wire.request.url)
        try check(forebay_curl_set_list(handle, CURLOPT_HTTPHEADER, list))
        if wire.request.method == "HEAD" {
            try set(CURLOPT_NOBODY, 1)
        } else {
            try set(CURLOPT_CUSTOMREQUEST, wire.request.method)
        }
        if wire.sendsBody, wire.smallBody == nil {
            try set(CURLOPT_UPLOAD, 1)
            try check(
                forebay_curl_set_offset(handle, CURLOPT_INFILESIZE_LARGE, curl_off_t(wire.request.body.length))
            )
        }
        let context = Unmanaged.passUnretained(transfer).toOpaque()
        try check(forebay_curl_on_request(handle, curlRequest, context))
        try check(forebay_curl_on_header(handle, curlHeader, context))
        try check(forebay_curl_on_write(handle, curlWrite, context))
        try check(forebay_curl_on_read(handle, curlRead, context))
        try check(forebay_curl_on_seek(handle, curlSeek, context))
        try set(CURLOPT_NOPROGRESS, 0)
        try check(forebay_curl_on_progress(handle, curlProgress, context))
    }

    private func set(_ option: CURLoption, _ value: Int) throws(OptionRefused) {
        try check(forebay_curl_set_long(handle, option, value))
    }

    private func set(_ option: CURLoption, _ value: String?) throws(OptionRefused) {
        try check(forebay_curl_set_string(handle, option, value))
    }

    private func check(_ code: CURLcode) throws(OptionRefused) {
        if code != CURLE_OK { throw OptionRefused(code: code) }
    }

    // Asking for a number that libcurl keeps cannot fail.

    private func long(_ info: CURLINFO) -> Int {
        var value = 0
        _ = forebay_curl_get_long(handle, info, &value)
        return value
    }

    private func string(_ info: CURLINFO) -> String {
        var value: UnsafePointer<CChar>?
        _ = forebay_curl_get_string(handle, info, &value)
        return value.map { String(cString: $0) } ?? ""
    }

    private func offset(_ info: CURLINFO) -> Int64 {
        var value: curl_off_t = 0
        _ = forebay_curl_get_offset(handle, info, &value)
        return Int64(value)
    }
}
