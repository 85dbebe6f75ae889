internal import CGlibc
internal import CMicroHTTPD
internal import Glibc
internal import Synchronization
internal import System

/// Hands an answer to libmicrohttpd.
func queue(_ connection: OpaquePointer, _ exchange: Exchange, _ response: Response, closes: Bool) -> MHD_Result {
    if let made = make(response.body, connection, exchange) {
        let closes = closes || exchange.loop.exchanges.isDraining
        return queue(connection, response, made, closes: closes)
    }
    let refusal = exchange.refusal(status: 503, reason: "the content was changed before it could be sent; ask again")
    _ = exchange.answer(refusal, closes: true)
    guard let made = make(refusal.body, connection, exchange) else { return MHD_Result.NO }
    return queue(connection, refusal, made, closes: true)
}

private func queue(
    _ connection: OpaquePointer,
    _ response: Response,
    _ made: OpaquePointer,
    closes: Bool
) -> MHD_Result {
    defer { MHD_destroy_response(made) }
    addHeaders(response.headers, to: made)
    if closes { MHD_add_response_header(made, "Connection", "close") }
    return MHD_queue_response(connection, UInt32(response.status), made)
}

private func addHeaders(_ headers: [(name: String, value: String)], to made: OpaquePointer) {
    for (name, value) in headers {
        // A string given as an argument is copied first.
        name.withCString { name in
            value.withCString { value in _ = MHD_add_response_header(made, name, value) }
        }
    }
}

/// `nil` when a file is not what was promised any more.
private func make(_ body: Response.Body, _ connection: OpaquePointer, _ exchange: Exchange) -> OpaquePointer? {
    switch body {
    case .empty:
        return MHD_create_response_from_buffer(0, nil, .RESPMEM_PERSISTENT)
    case .bytes(let bytes):
        return makeCopy(bytes.span)
    case .file(let file, let status, let offset, let length):
        guard offset + length <= status.size, status.stillDescribes(file) else { return nil }
        let producer = FileProducer(file, status, offset..<offset + length)
        return makeStream(producer, from: offset, length, connection, exchange)
    case .stream(let length, let producer):
        return makeStream(producer, from: 0, length, connection, exchange)
    case .chunked(let producer):
        return BodyStream(producer, length: nil, connection, exchange).make()
    case .withheld(let length):
        return MHD_create_response_from_callback(UInt64(length), 1, readNothing, nil, nil)
    }
}

/// - Parameter start: where the body begins in the producer's file, if it has one.
private func makeStream(
    _ producer: any BodyProducer,
    from start: Int64,
    _ length: Int64,
    _ connection: OpaquePointer,
    _ exchange: Exchange
) -> OpaquePointer? {
    if SentFiles.isUsable.load(ordering: .relaxed), let file = producer.file {
        return FileStream(producer, file, from: start, length, connection, exchange).make()
    }
    return BodyStream(producer, length: length, connection, exchange).make()
}

private func makeCopy(_ bytes: Span<UInt8>) -> OpaquePointer? {
    bytes.withUnsafeBytes { memory in
        MHD_create_response_from_buffer(
            memory.count,
            UnsafeMutableRawPointer(mutating: memory.baseAddress),
            .RESPMEM_MUST_COPY
        )
    }
}

private func readNothing(
    _ context: UnsafeMutableRawPointer?,
    _ position: UInt64,
    _ buffer: UnsafeMutablePointer<CChar>?,
    _ room: Int
) -> Int { forebay_mhd_end_with_error }

// MARK: - Prepared answers

/// An answer that is made once and given many times, on any connection.
///
/// Sendable because libmicrohttpd counts its users under a lock, and nothing changes it any more.
public final class PreparedResponse: @unchecked Sendable {
    public let status: Int
    /// Of the body, in bytes.
    public let length: Int64
    private let made: OpaquePointer

    /// `nil` when there is no memory.
    public init?(status: Int, headers: [(name: String, value: String)], bytes: Span<UInt8>) {
        guard let made = makeCopy(bytes) else { return nil }
        addHeaders(headers, to: made)
        self.made = made
        self.status = status
        length = Int64(bytes.count)
    }

    deinit { MHD_destroy_response(made) }

    func queue(_ connection: OpaquePointer) -> MHD_Result { MHD_queue_response(connection, UInt32(status), made) }
}

// MARK: - Files

/// How many places of a large file are looked at, and how far apart those of a small one are.
private let residencySamples: Int64 = 64
private let residencyStepBytes: Int64 = 256 << 10

/// Whether `sendfile(2)` would find the part in memory, as far as samples tell (`preadv2(2)` with `RWF_NOWAIT`). From the disk it would hold up
/// every connection of the loop. Where the volume cannot say so, as overlayfs and tmpfs, its pages are asked (`mincore(2)`).
func isInMemory(_ file: File, _ offset: Int64, _ length: Int64) -> Bool {
    guard length > 0 else { return true }
    var code: Int32 = 0
    let isFound = samples(offset, length) { place in
        code = readError(file, place)
        return code == 0
    }
    return isFound || code == EOPNOTSUPP && hasPages(file, offset, length)
}

private func samples(_ offset: Int64, _ length: Int64, _ isThere: (Int64) -> Bool) -> Bool {
    let step = max(residencyStepBytes, length / residencySamples)
    for place in stride(from: offset, to: offset + length, by: Int(step)) where !isThere(place) { return false }
    return isThere(offset + length - 1)
}

/// Why a byte cannot be read at once; 0 when it can.
private func readError(_ file: File, _ offset: Int64) -> Int32 {
    var byte: UInt8 = 0
    return withUnsafeMutableBytes(of: &byte) { memory in
        var vector = iovec(iov_base: memory.baseAddress, iov_len: 1)
        let count = preadv2(file.descriptor, &vector, 1, off_t(offset), Int32(forebay_READ_NOWAIT))
        return count == 1 ? 0 : count == 0 ? EAGAIN : errno
    }
}

private func hasPages(_ file: File, _ offset: Int64, _ length: Int64) -> Bool {
    let pageBytes = Int64(sysconf(Int32(_SC_PAGESIZE)))
    let start = offset / pageBytes * pageBytes
    let size = Int(offset + length - start)
    guard let map = mmap(nil, size, PROT_READ, MAP_SHARED, file.descriptor, off_t(start)), map != MAP_FAILED else {
        return false
    }
    defer { munmap(map, size) }
    return samples(offset, length) { place in
        var page: UInt8 = 0
        return mincore(map + Int((place - start) / pageBytes * pageBytes), 1, &page) == 0 && page & 1 == 1
    }
}

/// A part of a file that is there. It is no more once somebody has touched the file.
private final class FileProducer: BodyProducer {
    private let source: File
    /// What it was when its bytes were known to be right.
    private let status: FileStatus
    private let part: Range<Int64>

    init(_ source: File, _ status: FileStatus, _ part: Range<Int64>) {
        self.source = source
        self.status = status
        self.part = part
    }

    var file: File? { source }

    func countInFile(from offset: Int64) -> Int64 {
        status.stillDescribes(source) ? part.upperBound - part.lowerBound - offset : 0
    }

    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws {
        try LocalFileSystem().read(source, at: part.lowerBound + offset, into: &buffer)
        guard status.stillDescribes(source) else { throw FileError.overwritten(source.path, "pread") }
    }
}

extension FileStatus {
    /// Nobody has touched the file since, as far as can be told.
    fileprivate func stillDescribes(_ file: File) -> Bool {
        (try? LocalFileSystem().status(of: file)).map { stillDescribes($0) } ?? false
    }
}

/// How many bytes of what was sent on a connection its client has yet to acknowledge (`SIOCOUTQ` of `tcp(7)`).
func unacknowledgedBytes(_ connection: OpaquePointer) -> Int64 {
    var count: Int32 = 0
    return ioctl(forebay_mhd_socket(connection), UInt(TIOCOUTQ), &count) == 0 ? Int64(count) : 0
}
