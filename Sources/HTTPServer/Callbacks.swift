internal import CMicroHTTPD
internal import Glibc
internal import System

// What libmicrohttpd calls. Functions at file scope, so that no actor's isolation is attached to them; they run on its threads.

private func exchanges(_ context: UnsafeMutableRawPointer?) -> Exchanges {
    Unmanaged<Exchanges>.fromOpaque(context!).takeUnretainedValue()
}

/// `MHD_OPTION_URI_LOG_CALLBACK`: the only one that sees the target as it came, so the exchange begins here.
func onTarget(
    _ context: UnsafeMutableRawPointer?,
    _ target: UnsafePointer<CChar>?,
    _ connection: OpaquePointer?
) -> UnsafeMutableRawPointer? {
    let exchange = Exchange(exchanges(context), target: target.map { String(cString: $0) } ?? "")
    return Unmanaged.passRetained(exchange).toOpaque()
}

/// `MHD_AccessHandlerCallback`: once with the headers, once for each piece of a body, and once at the end.
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
    if exchange.needsBegin {
        let refusal = exchange.begin(connection, method: String(cString: method), version: String(cString: version))
        guard let refusal else { return MHD_Result.YES }
        return answer(connection, exchange, refusal, exchanges(context), closes: true)
    }
    if uploadSize.pointee > 0, let upload {
        let bytes = UnsafeRawBufferPointer(start: upload, count: uploadSize.pointee)
        exchange.receive(bytes.assumingMemoryBound(to: UInt8.self).span)
        uploadSize.pointee = 0
        return MHD_Result.YES
    }
    return answer(connection, exchange, exchange.finish(), exchanges(context), closes: false)
}

/// `MHD_OPTION_NOTIFY_COMPLETED`: always comes, also after a broken connection.
func onCompleted(
    _ context: UnsafeMutableRawPointer?,
    _ connection: OpaquePointer?,
    _ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?,
    _ code: MHD_RequestTerminationCode
) {
    guard let pointer = state?.pointee else { return }
    state?.pointee = nil
    Unmanaged<Exchange>.fromOpaque(pointer).takeRetainedValue().end(isComplete: code.rawValue == 0)
}

// MARK: - Answers

private func answer(
    _ connection: OpaquePointer,
    _ exchange: Exchange,
    _ response: Response,
    _ exchanges: Exchanges,
    closes: Bool
) -> MHD_Result {
    var response = response
    exchange.isAnswered(response)
    guard let made = make(response.body, exchange) else {
        // The file is shorter than the answer would announce: the client would wait for ever for the rest.
        response = exchanges.handler.refusal(status: 500, reason: "the content changed while it was opened")
        exchange.isAnswered(response)
        guard let refusal = make(response.body, exchange) else { return MHD_Result.NO }
        return queue(connection, response, refusal, closes: true)
    }
    return queue(connection, response, made, closes: closes || exchanges.isDraining)
}

private func queue(
    _ connection: OpaquePointer,
    _ response: Response,
    _ made: OpaquePointer,
    closes: Bool
) -> MHD_Result {
    defer { MHD_destroy_response(made) }
    for (name, value) in response.headers { MHD_add_response_header(made, name, value) }
    if closes { MHD_add_response_header(made, "Connection", "close") }
    return MHD_queue_response(connection, UInt32(response.status), made)
}

/// `nil` when a file does not have the bytes that were promised.
private func make(_ body: Response.Body, _ exchange: Exchange) -> OpaquePointer? {
    switch body {
    case .empty:
        return MHD_create_response_from_buffer(0, nil, .RESPMEM_PERSISTENT)
    case .bytes(let bytes):
        return bytes.withUnsafeBytes { memory in
            MHD_create_response_from_buffer(
                memory.count,
                UnsafeMutableRawPointer(mutating: memory.baseAddress),
                .RESPMEM_MUST_COPY
            )
        }
    case .file(let file, let offset, let length):
        var status = stat()
        guard fstat(file.descriptor, &status) == 0, Int64(status.st_size) >= offset + length else { return nil }
        let descriptor = file.takeDescriptor()
        let made = MHD_create_response_from_fd_at_offset64(UInt64(length), descriptor, UInt64(offset))
        if made == nil { close(descriptor) }
        return made
    case .stream(let length, let producer):
        return make(Stream(producer, length: length), length: UInt64(length))
    case .chunked(let producer):
        let stream = Stream(producer, length: nil)
        exchange.stream = stream
        return make(stream, length: forebay_mhd_size_unknown)
    case .withheld(let length):
        return MHD_create_response_from_callback(UInt64(length), 1, readNothing, nil, nil)
    }
}

// MARK: - Streamed bodies

/// How much is asked of a producer at a time. Memory: one for each streamed answer, however slow its client.
private let streamBlockBytes = 32 << 10

final class Stream {
    /// Gone with the answer, so that it hears of a client that left.
    fileprivate var producer: (any BodyProducer)?
    fileprivate let length: Int64?
    fileprivate(set) var produced: Int64 = 0

    init(_ producer: any BodyProducer, length: Int64?) {
        self.producer = producer
        self.length = length
    }
}

private func make(_ stream: Stream, length: UInt64) -> OpaquePointer? {
    let box = Unmanaged.passRetained(stream)
    let block = min(streamBlockBytes, max(1, Int(stream.length ?? .max)))
    let made = MHD_create_response_from_callback(length, block, readStream, box.toOpaque(), freeStream)
    if made == nil { box.release() }
    return made
}

private func readStream(
    _ context: UnsafeMutableRawPointer?,
    _ position: UInt64,
    _ buffer: UnsafeMutablePointer<CChar>?,
    _ room: Int
) -> Int {
    guard let context, let buffer else { return forebay_mhd_end_with_error }
    let stream = Unmanaged<Stream>.fromOpaque(context).takeUnretainedValue()
    let wanted = min(room, stream.length.map { Int($0 - Int64(position)) } ?? room)
    return buffer.withMemoryRebound(to: UInt8.self, capacity: wanted) { memory in
        let target = UnsafeMutableBufferPointer(start: memory, count: wanted)
        var output = OutputSpan(buffer: target, initializedCount: 0)
        do {
            try stream.producer?.produce(at: Int64(position), into: &output)
        } catch {
            // The producer has said why; a broken connection is all that can still be told the client.
            return forebay_mhd_end_with_error
        }
        let count = output.finalize(for: target)
        stream.produced += Int64(count)
        if count > 0 { return count }
        return stream.length == nil ? forebay_mhd_end_of_stream : forebay_mhd_end_with_error
    }
}

private func freeStream(_ context: UnsafeMutableRawPointer?) {
    guard let context else { return }
    Unmanaged<Stream>.fromOpaque(context).takeRetainedValue().producer = nil
}

private func readNothing(
    _ context: UnsafeMutableRawPointer?,
    _ position: UInt64,
    _ buffer: UnsafeMutablePointer<CChar>?,
    _ room: Int
) -> Int { forebay_mhd_end_with_error }
