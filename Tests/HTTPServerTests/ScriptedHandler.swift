import HTTPServer
import Synchronization
import System
import TestDoubles
import Testing
import Threading

/// A server with that handler, on a port of its own, for as long as `body` runs.
func withServer<Result>(
    _ handler: ScriptedHandler = ScriptedHandler(),
    loops: Int? = 1,
    _ change: (inout ServerConfiguration) -> Void = { _ in },
    _ body: (Server, ScriptedHandler) throws -> Result
) throws -> Result {
    var configuration = ServerConfiguration(host: "127.0.0.1", port: 0)
    configuration.loops = loops
    change(&configuration)
    let server = try Server(configuration, handler: handler)
    defer {
        handler.open()
        #expect(server.stop(drain: .seconds(20)))
    }
    return try body(server, handler)
}

/// One whose file is 32 MiB, more than the kernel takes for a client that reads nothing.
func withLargeFile(_ body: (Server, ScriptedHandler) throws -> Void) throws {
    let folder = TemporaryFolder()
    // The file goes with it.
    defer { withExtendedLifetime(folder) {} }
    let file = try LocalFileSystem().open(folder.path + "/large", .create)
    try LocalFileSystem().write([UInt8](repeating: 7, count: 32 << 20).span, to: file, at: 0)
    try withServer(ScriptedHandler(file: file)) { try body($0, $1) }
}

/// Answers by path, and tells what it saw.
final class ScriptedHandler: RequestHandler {
    struct Seen: Sendable {
        var handled: [String] = []
        var threads: Set<String> = []
        var waiting = 0
        var abandoned = 0
        /// Calls of a receiver while another was under way.
        var overlaps = 0
        var producersGone = 0
        var ends: [ExchangeEnd] = []
    }

    let gate = Monitor(false)
    let seen = Monitor(Seen())
    let file: File?
    /// Called on the loop, when a request has come and when it is through.
    private let onLoop: @Sendable () -> Void
    private let prepared = PreparedResponse(
        status: 200,
        headers: [("X-Kind", "prepared")],
        bytes: Array("ready".utf8).span
    )

    init(file: File? = nil, onLoop: @escaping @Sendable () -> Void = {}) {
        self.file = file
        self.onLoop = onLoop
    }

    func open() { gate.update { $0 = true } }

    /// Blocks until ``open()``.
    func waitAtGate() {
        seen.update { $0.waiting += 1 }
        _ = gate.wait { $0 ? true : nil }
    }

    func waitForWaiting(_ count: Int) -> Bool {
        seen.wait(until: .after(.seconds(20))) { $0.waiting >= count ? true : nil } ?? false
    }

    func waitForEnds(_ count: Int) -> [ExchangeEnd]? {
        seen.wait(until: .after(.seconds(20))) { $0.ends.count >= count ? $0.ends : nil }
    }

    func answerAtOnce(_ request: Request) -> ReadyAnswer? {
        note()
        onLoop()
        switch request.path {
        case "/prepared": return prepared.map { .prepared($0) }
        case "/now": return .response(text("now"))
        case "/loop": return .response(text("\(request.loop)"))
        default: return nil
        }
    }

    func handle(_ request: Request) -> Reply {
        note()
        seen.update { $0.handled.append(request.path) }
        switch request.path {
        case "/slow":
            waitAtGate()
            return .respond(text("slow"))
        case "/until-hung-up":
            while !request.hasHungUp { pauseThread(.milliseconds(1)) }
            return .respond(text("hung up"))
        case "/refused":
            return .respond(Response(status: 403))
        case "/echo":
            return .receive(Echo(self))
        case "/stream":
            return .respond(Response(status: 200, body: .stream(length: 600_000, Pattern(self, length: 600_000))))
        case "/partly-at-hand":
            let pattern = Pattern(self, length: 600_000, atHand: { $0 % 3 == 0 })
            return .respond(Response(status: 200, body: .stream(length: 600_000, pattern)))
        case "/at-hand":
            return .respond(Response(status: 200, body: .stream(length: 600_000, AtHand())))
        case "/chunked":
            return .respond(Response(status: 200, body: .chunked(Pattern(self, length: 600_000))))
        case "/broken":
            return .respond(Response(status: 200, body: .stream(length: 700_000, Pattern(self, length: 300_000))))
        case "/gated-stream":
            return .respond(Response(status: 200, body: .stream(length: 10, Pattern(self, length: 10, waits: true))))
        case "/whole-file", "/file", "/overwritten-file", "/small-part":
            guard let file, let (opened, status) = try? LocalFileSystem().openRegular(file.path) else {
                return .respond(text("no file"))
            }
            if request.path == "/overwritten-file" { try? overwriteLater(file.path) }
            let part: Range<Int64> =
                switch request.path {
                case "/file": 3..<300_003
                case "/small-part": 3..<103
                default: 0..<status.size
                }
            let body = Response.Body.file(opened, status, offset: part.lowerBound, length: Int64(part.count))
            return .respond(Response(status: 200, body: body))
        default:
            return .respond(text(request.path))
        }
    }

    func refusal(of request: Request, status: Int, reason: String) -> Response { text(reason, status: status) }

    func ended(_ request: Request, _ end: ExchangeEnd) {
        onLoop()
        seen.update { $0.ends.append(end) }
    }

    private func note() {
        // The name of the thread that runs this.
        let file = try? LocalFileSystem().open("/proc/thread-self/comm", .read)
        let bytes = file.flatMap { try? LocalFileSystem().read($0, at: 0, count: 16) } ?? []
        let text = String(decoding: bytes.dropLast(), as: UTF8.self)
        seen.update { _ = $0.threads.insert(text) }
    }

    private func text(_ text: String, status: Int = 200) -> Response {
        Response(status: status, headers: [("X-Kind", "plain")], body: .bytes(Array(text.utf8)))
    }
}

/// Sends back the size of a body and a sum over it, which tells pieces in the wrong order.
private final class Echo: BodyReceiver {
    private let handler: ScriptedHandler
    private var count = 0
    private var sum: UInt64 = 0
    private let isInside = Atomic(false)

    init(_ handler: ScriptedHandler) { self.handler = handler }

    private func alone(_ body: () -> Void) {
        let isAlone = !isInside.exchange(true, ordering: .acquiringAndReleasing)
        if !isAlone { handler.seen.update { $0.overlaps += 1 } }
        body()
        isInside.store(false, ordering: .releasing)
    }

    func receive(_ bytes: Span<UInt8>) { alone { take(bytes) } }

    private func take(_ bytes: Span<UInt8>) {
        for index in bytes.indices { sum = sum &* 31 &+ UInt64(bytes[index]) }
        count += bytes.count
        if bytes[0] == UInt8(ascii: "w") { handler.waitAtGate() }
    }

    func finish() -> Response {
        alone {}
        return Response(status: 201, headers: [], body: .bytes(Array("\(count) \(sum)".utf8)))
    }

    func abandon() { alone { handler.seen.update { $0.abandoned += 1 } } }
}

/// The byte at each offset is the offset. Gives each byte once: an answer that asked twice would not get its end.
private final class Pattern: BodyProducer {
    struct AskedTwice: Error {}

    private let handler: ScriptedHandler
    private let length: Int64
    private let waits: Bool
    private let isAtHand: (Int64) -> Bool
    private var next: Int64 = 0

    init(
        _ handler: ScriptedHandler,
        length: Int64,
        waits: Bool = false,
        atHand isAtHand: @escaping (Int64) -> Bool = { _ in false }
    ) {
        self.handler = handler
        self.length = length
        self.waits = waits
        self.isAtHand = isAtHand
    }

    deinit { handler.seen.update { $0.producersGone += 1 } }

    func produceAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {
        guard offset == next, isAtHand(offset) else { return }
        append(offset..<min(length, offset + 7001), to: &buffer)
    }

    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws {
        guard offset == next else { throw AskedTwice() }
        if waits { handler.waitAtGate() }
        // Less than there is room for, and no round number.
        append(offset..<min(length, offset + 99_991), to: &buffer)
    }

    private func append(_ range: Range<Int64>, to buffer: inout OutputSpan<UInt8>) {
        let end = min(range.upperBound, range.lowerBound + Int64(buffer.freeCapacity))
        for place in range.lowerBound..<end { buffer.append(UInt8(truncatingIfNeeded: place)) }
        next = end
    }
}

/// The same bytes, none of which need a thread that may wait.
private final class AtHand: BodyProducer {
    struct NeedsNoThread: Error {}

    func produceAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {
        for place in offset..<offset + Int64(buffer.freeCapacity) { buffer.append(UInt8(truncatingIfNeeded: place)) }
    }

    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws { throw NeedsNoThread() }
}
