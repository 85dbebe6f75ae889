internal import CMicroHTTPD
internal import Synchronization

/// An answer's body that arrives while it is sent.
protocol StreamedBody: AnyObject {
    /// So many bytes were had of it.
    var produced: Int64 { get }
    /// The producer had no more, and the connection was broken for it.
    var hasFailed: Bool { get }
    /// libmicrohttpd is through with it.
    func ended()
}

/// How much is asked of a producer at a time: a large block for the first few, so that a GiB takes an eighth of the steps, which is given back at the end.
/// Each streamed answer takes the memory of one, however slow its client.
final class StreamBlock {
    private static let smallBytes = 32 << 10
    private static let largeBytes = 256 << 10
    private static let largeLimit = 64
    private static let large = Atomic(0)

    let bytes: Int

    /// - Parameter length: of the body, where that is known.
    init(for length: Int64?) {
        guard let length, length > Self.smallBytes else {
            bytes = Self.smallBytes
            return
        }
        let isLarge = Self.large.add(1, ordering: .relaxed).newValue <= Self.largeLimit
        if !isLarge { Self.large.subtract(1, ordering: .relaxed) }
        bytes = isLarge ? Self.largeBytes : Self.smallBytes
    }

    deinit {
        if bytes == Self.largeBytes { Self.large.subtract(1, ordering: .relaxed) }
    }
}

/// A body that is produced block by block: what is at hand at once, the rest by a thread that may wait, while the connection is suspended.
///
/// Sendable because one thread at a time has it, as its exchange.
final class BodyStream: StreamedBody, @unchecked Sendable {
    private enum State {
        case idle
        /// So many bytes lie in libmicrohttpd's buffer, at this address.
        case filled(Int, at: UnsafeMutableRawPointer)
        case failed
    }

    /// `nil` when nobody knows it.
    let length: Int64?
    private(set) var produced: Int64 = 0
    private(set) var hasFailed = false
    /// Gone with the answer, so that it hears of a client that left.
    private var producer: (any BodyProducer)?
    private let connection: OpaquePointer
    private let exchange: Exchange
    private var state = State.idle
    private let block: StreamBlock

    init(_ producer: any BodyProducer, length: Int64?, _ connection: OpaquePointer, _ exchange: Exchange) {
        self.producer = producer
        self.length = length
        self.connection = connection
        self.exchange = exchange
        block = StreamBlock(for: length)
    }

    func make() -> OpaquePointer? {
        exchange.stream = self
        let box = Unmanaged.passRetained(self)
        let bytes = Int(clamping: min(Int64(block.bytes), max(1, length ?? .max)))
        let size = length.map { UInt64($0) } ?? forebay_mhd_size_unknown
        let made = MHD_create_response_from_callback(size, bytes, readStream, box.toOpaque(), freeStream)
        if made == nil { box.release() }
        return made
    }

    /// libmicrohttpd wants bytes: those that are there, or none and the connection waits.
    fileprivate func read(at position: Int64, into buffer: UnsafeMutableRawPointer, room: Int) -> Int {
        exchange.isBack(connection)
        let found = state
        // Before another thread may have it again.
        state = .idle
        switch found {
        case .failed:
            return fail()
        case .filled(let count, at: let address):
            // It asks again with the same buffer; anything else would send what is not there.
            guard address == buffer, count <= room else { return fail() }
            produced += Int64(count)
            if count > 0 { return count }
            return length == nil ? forebay_mhd_end_of_stream : fail()
        case .idle:
            break
        }
        let wanted = min(room, length.map { Int(clamping: $0 - position) } ?? room)
        let target = Room(UnsafeMutableRawBufferPointer(start: buffer, count: wanted))
        let ready = produceAtOnce(at: position, into: target)
        return ready > 0 ? ready : produceElsewhere(at: position, into: target)
    }

    private func produceAtOnce(at position: Int64, into target: Room) -> Int {
        let memory = target.memory.bindMemory(to: UInt8.self)
        var output = OutputSpan(buffer: memory, initializedCount: 0)
        producer?.produceAtOnce(at: position, into: &output)
        let count = output.finalize(for: memory)
        produced += Int64(count)
        return count
    }

    private func produceElsewhere(at position: Int64, into target: Room) -> Int {
        guard !exchange.loop.refusesWork else { return fail() }
        _ = exchange.handOver(connection) { [self] _ in produce(at: position, into: target) }
        return 0
    }

    private func produce(at position: Int64, into target: Room) {
        let memory = target.memory.bindMemory(to: UInt8.self)
        var output = OutputSpan(buffer: memory, initializedCount: 0)
        do {
            try producer?.produce(at: position, into: &output)
            state = .filled(output.finalize(for: memory), at: target.memory.baseAddress!)
        } catch {
            // The producer has said why; a broken connection is all that can still be told the client.
            state = .failed
        }
    }

    private func fail() -> Int {
        hasFailed = true
        return forebay_mhd_end_with_error
    }

    func ended() {}

    fileprivate func end() { producer = nil }
}

/// Sendable because libmicrohttpd leaves the buffer alone while the connection is suspended.
private struct Room: @unchecked Sendable {
    let memory: UnsafeMutableRawBufferPointer

    init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }
}

private func readStream(
    _ context: UnsafeMutableRawPointer?,
    _ position: UInt64,
    _ buffer: UnsafeMutablePointer<CChar>?,
    _ room: Int
) -> Int {
    guard let context, let buffer else { return forebay_mhd_end_with_error }
    let stream = Unmanaged<BodyStream>.fromOpaque(context).takeUnretainedValue()
    return stream.read(at: Int64(position), into: UnsafeMutableRawPointer(buffer), room: room)
}

private func freeStream(_ context: UnsafeMutableRawPointer?) {
    guard let context else { return }
    Unmanaged<BodyStream>.fromOpaque(context).takeRetainedValue().end()
}
