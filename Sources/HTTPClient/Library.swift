internal import CCurl
internal import Glibc

/// `curl_global_init(3)`, once for the process: it is not thread-safe everywhere.
private let globalInit: CURLcode = {
    // OpenSSL writes to sockets without MSG_NOSIGNAL, and NOSIGNAL=1 makes libcurl leave the signal alone.
    signal(SIGPIPE, SIG_IGN)
    return forebay_curl_global_init()
}()

/// Finds out now what would fail every request later.
func prepareLibrary(_ configuration: ClientConfiguration) throws(TransferError) {
    let operation = "start libcurl"
    guard globalInit == CURLE_OK, let probe = EasyHandle() else {
        throw TransferError(operation, .other, code: Int32(globalInit.rawValue), detail: "curl_global_init")
    }
    do throws(OptionRefused) {
        try probe.set(configuration)
    } catch {
        throw TransferError(
            operation,
            .other,
            code: Int32(error.code.rawValue),
            detail: RunResult(refused: error.code).detail
        )
    }
    if let file = configuration.certificateAuthorityFile, access(file, R_OK) != 0 {
        throw TransferError(
            operation,
            .invalid,
            detail: "certificate authority file \(file): \(String(cString: strerror(errno)))"
        )
    }
}
