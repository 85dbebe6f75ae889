internal import CCurl

// libcurl calls these on the thread that runs the transfer, with the transfer as context. They hold no logic: each turns pointers
// into spans and back.

private func transfer(_ context: UnsafeMutableRawPointer?) -> Transfer {
    Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
}

private func bytes(_ start: UnsafeMutablePointer<CChar>?, _ count: Int) -> UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(UnsafeMutableRawBufferPointer(start: start, count: count).assumingMemoryBound(to: UInt8.self))
}

/// `CURLOPT_HEADERFUNCTION(3)`
func curlHeader(
    _ start: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    transfer(context).append(headerLine: bytes(start, size * count).span) ? size * count : 0
}

/// `CURLOPT_WRITEFUNCTION(3)`
func curlWrite(
    _ start: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard size * count > 0 else { return 0 }
    return transfer(context).append(body: bytes(start, size * count).span) ? size * count : 0
}

/// `CURLOPT_READFUNCTION(3)`
func curlRead(
    _ start: UnsafeMutablePointer<CChar>?,
    _ size: Int,
    _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    transfer(context).fill(UnsafeMutableBufferPointer(mutating: bytes(start, size * count))) ?? Int(CURL_READFUNC_ABORT)
}

/// `CURLOPT_SEEKFUNCTION(3)`; libcurl only ever passes `SEEK_SET`.
func curlSeek(_ context: UnsafeMutableRawPointer?, _ offset: curl_off_t, _ origin: Int32) -> Int32 {
    transfer(context).seek(to: Int64(offset)) ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL
}

/// `CURLOPT_XFERINFOFUNCTION(3)`
func curlProgress(
    _ context: UnsafeMutableRawPointer?,
    _ downloadTotal: curl_off_t,
    _ downloaded: curl_off_t,
    _ uploadTotal: curl_off_t,
    _ uploaded: curl_off_t
) -> Int32 {
    transfer(context).mayContinue() ? 0 : 1
}

/// `CURLOPT_PREREQFUNCTION(3)`
func curlRequest(
    _ context: UnsafeMutableRawPointer?,
    _ remoteAddress: UnsafeMutablePointer<CChar>?,
    _ localAddress: UnsafeMutablePointer<CChar>?,
    _ remotePort: Int32,
    _ localPort: Int32
) -> Int32 {
    let remote = address(remoteAddress.map { String(cString: $0) } ?? "", port: Int(remotePort))
    return transfer(context).begin(on: remote) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT
}

func address(_ host: String, port: Int) -> String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
