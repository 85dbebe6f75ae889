internal import CMicroHTTPD

// What libmicrohttpd calls. Functions at file scope, so that no actor's isolation is attached to them; they run on a loop's thread.

private func loop(_ context: UnsafeMutableRawPointer?) -> EventLoop {
    Unmanaged<EventLoop>.fromOpaque(context!).takeUnretainedValue()
}

/// `MHD_OPTION_URI_LOG_CALLBACK`: the only one that sees the target as it came, so the exchange begins here.
func onTarget(
    _ context: UnsafeMutableRawPointer?,
    _ target: UnsafePointer<CChar>?,
    _ connection: OpaquePointer?
) -> UnsafeMutableRawPointer? {
    let exchange = Exchange(loop(context), Target(target))
    return Unmanaged.passRetained(exchange).toOpaque()
}

/// `MHD_AccessHandlerCallback`.
func onAccess(
    _ context: UnsafeMutableRawPointer?,
    _ connection: OpaquePointer?,
    _ url: UnsafePointer<CChar>?,
    _ method: UnsafePointer<CChar>?,
    _ version: UnsafePointer<CChar>?,
    _ upload: UnsafePointer<CChar>?,
    _ uploadSize: UnsafeMutablePointer<Int>?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
    guard let connection, let method, let version, let uploadSize, let pointer = state?.pointee else {
        return MHD_Result.NO
    }
    let exchange = Unmanaged<Exchange>.fromOpaque(pointer).takeUnretainedValue()
    let raw = UnsafeRawBufferPointer(start: upload, count: upload == nil ? 0 : uploadSize.pointee)
    let (step, taken) = exchange.access(
        connection,
        method: method,
        version: version,
        raw.assumingMemoryBound(to: UInt8.self)
    )
    uploadSize.pointee -= taken
    switch step {
    case .goOn: return MHD_Result.YES
    case .prepared(let prepared): return prepared.queue(connection)
    case .respond(let response, let closes): return queue(connection, exchange, response, closes: closes)
    }
}

/// `MHD_OPTION_NOTIFY_COMPLETED`: always comes, also after a broken connection.
func onCompleted(
    _ context: UnsafeMutableRawPointer?,
    _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ code: MHD_RequestTerminationCode
) {
    guard let connection, let pointer = state?.pointee else { return }
    state?.pointee = nil
    Unmanaged<Exchange>.fromOpaque(pointer).takeRetainedValue().end(
        connection,
        isComplete: code == .REQUEST_TERMINATED_COMPLETED_OK
    )
    loop(context).isThrough(connection)
}

/// `MHD_OPTION_NOTIFY_CONNECTION`.
func onConnection(
    _ context: UnsafeMutableRawPointer?,
    _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ code: MHD_ConnectionNotificationCode
) {
    guard let connection else { return }
    switch code {
    case .CONNECTION_NOTIFY_STARTED: loop(context).began(connection)
    default: loop(context).closed(connection)
    }
}
