internal import HTTPServer
internal import System
internal import Threading

/// Lines on their way from the thread that works to the one that answers the client.
final class EventPipe: Sendable {
    private struct State {
        var bytes: [UInt8] = []
        var isFinished = false
        var isAbandoned = false
    }

    enum Taken: Sendable {
        case bytes([UInt8])
        case nothingYet
        case end
    }

    /// The worker waits for a client that is so far behind.
    private static let limitBytes = 256 << 10

    private let state = Monitor(State())

    /// Waits for room; false when nobody reads any more.
    func put(_ line: [UInt8]) -> Bool {
        let isPut: Bool? = state.wait { state in
            if state.isAbandoned { return false }
            guard state.bytes.count < Self.limitBytes else { return nil }
            state.bytes += line
            return true
        }
        state.update { _ in }
        return isPut ?? false
    }

    func finish() { state.update { $0.isFinished = true } }
    func abandon() { state.update { $0.isAbandoned = true } }

    /// Everything there is; waits for something, but no longer than `limit`.
    func take(within limit: Duration) -> Taken {
        let taken: Taken? = state.wait(until: .after(limit)) { state in
            if !state.bytes.isEmpty {
                defer { state.bytes = [] }
                return .bytes(state.bytes)
            }
            return state.isFinished ? .end : nil
        }
        state.update { _ in }
        return taken ?? .nothingYet
    }
}

/// The lines as a response's body. An empty object now and then shows whether the client is still there.
final class EventBody: BodyProducer {
    private static let heartbeatInterval: Duration = .seconds(1)
    private static let heartbeat = Array("{}\n".utf8)

    private let pipe: EventPipe
    private var rest: ArraySlice<UInt8> = []

    init(_ pipe: EventPipe) {
        self.pipe = pipe
    }

    deinit { pipe.abandon() }

    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {
        if rest.isEmpty {
            switch pipe.take(within: Self.heartbeatInterval) {
            case .bytes(let bytes): rest = bytes[...]
            case .nothingYet: rest = Self.heartbeat[...]
            case .end: return
            }
        }
        rest.removeFirst(buffer.append(fitting: rest.span))
    }
}
