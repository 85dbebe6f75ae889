internal import CMicroHTTPD
internal import Synchronization
internal import System
internal import Threading

/// What all exchanges of a server share: who answers them, and whether they are the last.
final class Exchanges: Sendable {
    let handler: any RequestHandler
    let headerLimitBytes: Int
    /// Where handlers may block.
    let threads: ThreadCache
    let clients: Clients
    let pieceMemory = PieceMemory()
    private let draining = Atomic(false)
    private let ending = Monitor(())

    init(_ configuration: ServerConfiguration, handler: any RequestHandler) {
        self.handler = handler
        headerLimitBytes = configuration.headerLimitBytes
        threads = ThreadCache(
            name: "request",
            limit: configuration.connectionLimit,
            stackBytes: configuration.threadStackBytes
        )
        clients = Clients(
            limit: configuration.connectionLimit,
            limitPerAddress: configuration.connectionsPerAddressLimit
        )
    }

    var isDraining: Bool { draining.load(ordering: .sequentiallyConsistent) }

    func oneEnded() {
        if isDraining { ending.update { _ in } }
    }

    /// From now on answers close their connections. False when some are still under way at the deadline.
    func drain(_ deadline: Deadline, areAllOver: () -> Bool) -> Bool {
        draining.store(true, ordering: .sequentiallyConsistent)
        return ending.wait(until: deadline) { _ in areAllOver() ? true : nil } ?? false
    }
}

/// What libmicrohttpd is told.
enum Step {
    /// Go on, or wait until the connection is resumed.
    case goOn
    case prepared(PreparedResponse)
    case respond(Response, closes: Bool)
}

/// One request and its answer, from the request line until libmicrohttpd says that it is over.
///
/// Sendable because one thread at a time has it: the loop's, or while the connection is suspended the one that it was handed to. A body is
/// taken in beside it, by its ``Intake``.
final class Exchange: @unchecked Sendable {
    private enum Phase {
        case headersPending
        /// A request with a small body, which is read before anybody is asked.
        case gathering(Request)
        /// A request with a body, and what the handler says to it.
        case deciding(Request)
        case decided(Reply)
        /// No body; answered when libmicrohttpd comes back, since an answer at its first call closes the connection.
        case ready(Request)
        case receiving(Intake)
        case finished(Response)
        case answered
    }

    /// The client left before there was an answer.
    private static let unanswered = 499
    /// Up to here a body is gathered on the loop, and a thread has it all at once.
    private static let smallBodyBytes: Int64 = 64 << 10

    let loop: EventLoop
    private let target: Target
    private let startedAt = SystemTime().monotonicNanoseconds()
    private var phase = Phase.headersPending
    private var piece: [UInt8] = []
    /// Of the request's body.
    private var received: Int64 = 0
    private var isAway = false
    private var request: Request?
    private var status = unanswered
    private var length: Int64 = 0
    /// Set where the body is streamed.
    var stream: (any StreamedBody)?

    init(_ loop: EventLoop, _ target: Target) {
        self.loop = loop
        self.target = target
        loop.exchangeBegan()
    }

    private var exchanges: Exchanges { loop.exchanges }

    /// libmicrohttpd's call: with the headers, with each piece of the body, and at the end; again after each suspension.
    ///
    /// - Returns: what comes next, and how much of the piece was taken.
    func access(
        _ connection: OpaquePointer,
        method: UnsafePointer<CChar>,
        version: UnsafePointer<CChar>,
        _ bytes: UnsafeBufferPointer<UInt8>
    ) -> (Step, taken: Int) {
        isBack(connection)
        switch phase {
        case .headersPending:
            return (begin(connection, method: String(cString: method), version: version), 0)
        case .gathering:
            return bytes.isEmpty ? (handOver(connection) { $0.finish() }, 0) : (.goOn, gather(bytes))
        case .decided(.respond(let response)):
            return (answer(response, closes: true), 0)
        case .decided(.receive(let receiver)):
            phase = .receiving(Intake(receiver, exchanges))
            return (.goOn, 0)
        case .ready(let request):
            return (answerAtOnce(connection, request), 0)
        case .receiving(let intake):
            return receive(connection, bytes, intake)
        case .finished(let response):
            return (answer(response, closes: false), 0)
        case .deciding, .answered:
            preconditionFailure("a request is answered once, by one thread at a time")
        }
    }

    /// The header section is in.
    private func begin(_ connection: OpaquePointer, method: String, version: UnsafePointer<CChar>) -> Step {
        let scan = HeaderScan(connection)
        let body: Framing.Body
        do throws(Framing.Refusal) {
            body = try Framing.check(target, scan, version: version, headerLimitBytes: exchanges.headerLimitBytes)
        } catch {
            request = Request(connection, loop: loop.number, method: method, target)
            return answer(refusal(status: 400, reason: error.reason), closes: true)
        }
        let request = Request(
            connection,
            loop: loop.number,
            method: method,
            target,
            body,
            isForWhole: !scan.isSelective
        )
        self.request = request
        guard request.hasBody else {
            phase = .ready(request)
            return .goOn
        }
        // Whoever asks first is answered before the body.
        if let length = request.contentLength, length <= Self.smallBodyBytes, !request.expectsContinue {
            phase = .gathering(request)
            return .goOn
        }
        phase = .deciding(request)
        return handOver(connection) { $0.decide() }
    }

    private func answerAtOnce(_ connection: OpaquePointer, _ request: Request) -> Step {
        guard !exchanges.isDraining, let ready = loop.answerAtOnce(request) else {
            return handOver(connection) { $0.finish() }
        }
        switch ready {
        case .response(let response): return answer(response, closes: false)
        case .prepared(let prepared):
            phase = .answered
            (status, length) = (prepared.status, prepared.length)
            return .prepared(prepared)
        }
    }

    /// Gathers bytes until a piece is full, which another thread takes in meanwhile. When that is still busy with the one before, the connection
    /// waits while some bytes are left, never after the last: libmicrohttpd may have more at hand and would call again at once.
    private func receive(
        _ connection: OpaquePointer,
        _ bytes: UnsafeBufferPointer<UInt8>,
        _ intake: Intake
    ) -> (Step, taken: Int) {
        guard !bytes.isEmpty else { return (finish(connection, intake), 0) }
        let taken = gather(bytes)
        let rest = UnsafeBufferPointer(rebasing: bytes[taken...])
        guard !rest.isEmpty else { return (.goOn, taken) }
        let full = takePiece()
        guard intake.isBusy else {
            intake.take(full)
            return (.goOn, taken + gather(rest))
        }
        return (wait(connection) { resume in intake.take(full, whenBegun: resume) }, taken)
    }

    /// How many of the bytes the piece has room for.
    private func gather(_ bytes: UnsafeBufferPointer<UInt8>) -> Int {
        if piece.capacity == 0 {
            piece = exchanges.pieceMemory.take(for: request?.contentLength)
        }
        let taken = min(PieceMemory.pieceBytes - piece.count, bytes.count)
        piece.append(contentsOf: bytes[..<taken])
        received += Int64(taken)
        return taken
    }

    private func takePiece() -> [UInt8] {
        defer { piece = [] }
        return piece
    }

    private func finish(_ connection: OpaquePointer, _ intake: Intake) -> Step {
        let rest = takePiece()
        return wait(connection) { [self] resume in
            intake.finish(rest) { response in
                self.phase = .finished(response)
                resume()
            }
        }
    }

    func refusal(status: Int, reason: String) -> Response {
        guard let request else { preconditionFailure("nothing is answered before its header section is in") }
        return exchanges.handler.refusal(of: request, status: status, reason: reason)
    }

    /// This answer is on its way.
    func answer(_ response: Response, closes: Bool) -> Step {
        phase = .answered
        status = response.status
        length =
            switch response.body {
            case .bytes(let bytes): Int64(bytes.count)
            case .file(_, _, _, let length), .stream(let length, _): length
            case .empty, .withheld, .chunked: 0
            }
        return .respond(response, closes: closes)
    }

    /// libmicrohttpd is through with the request, whatever became of it.
    func end(_ connection: OpaquePointer, isComplete: Bool) {
        isBack(connection)
        if status == Self.unanswered { noteForeignAnswer(connection) }
        if let request {
            let end = ExchangeEnd(
                status: status,
                receivedBytes: received,
                bodyBytes: isComplete ? stream?.produced ?? length : lengthSent(connection),
                nanoseconds: SystemTime().monotonicNanoseconds() - startedAt,
                isComplete: isComplete && status != Self.unanswered,
                isBroken: stream?.hasFailed ?? false
            )
            loop.ended(request, end)
        }
        stream?.ended()
        stream = nil
        switch phase {
        case .receiving(let intake): abandon(intake)
        case .decided(.receive(let receiver)): abandon(Intake(receiver, exchanges))
        default: loop.exchangeEnded()
        }
        phase = .answered
    }

    /// libmicrohttpd itself refuses header sections and chunks that it cannot read, with a page of its own and without asking.
    private func noteForeignAnswer(_ connection: OpaquePointer) {
        let answered = Int(forebay_mhd_status(connection))
        guard answered > 0 else { return }
        status = answered
        // Its method may not have been read.
        request = request ?? Request(connection, loop: loop.number, method: "", target)
    }

    /// Of a body that was broken off: what its client has or, where we did it, is to get. Of one that is neither a file nor streamed it is not known.
    private func lengthSent(_ connection: OpaquePointer) -> Int64 {
        guard let stream else { return 0 }
        return stream.hasFailed ? stream.produced : max(0, stream.produced - unacknowledgedBytes(connection))
    }

    private func abandon(_ intake: Intake) {
        intake.abandon { [loop] in loop.exchangeEnded() }
    }
}

// MARK: - On threads that may block

extension Exchange {
    /// Suspends the connection and runs `job` on a thread that may block; then libmicrohttpd calls again.
    func handOver(_ connection: OpaquePointer, _ job: @escaping @Sendable (Exchange) -> Void) -> Step {
        wait(connection) { [self] resume in
            exchanges.threads.run {
                job(self)
                resume()
            }
        }
    }

    /// Suspends the connection until what `begin` gets is called, once and on any thread.
    private func wait(_ connection: OpaquePointer, _ begin: (@escaping @Sendable () -> Void) -> Void) -> Step {
        if loop.refusesWork {
            if case .receiving(let intake) = phase { intake.abandon {} }
            return answer(refusal(status: 503, reason: "the server is stopping"), closes: true)
        }
        isAway = true
        begin(loop.suspend(connection))
        return .goOn
    }

    /// The loop has it again.
    func isBack(_ connection: OpaquePointer) {
        guard isAway else { return }
        isAway = false
        loop.isBack(connection)
    }

    private func decide() {
        guard case .deciding(let request) = phase else { return }
        phase = .decided(exchanges.handler.handle(request))
    }

    /// The request is complete.
    private func finish() {
        switch phase {
        case .ready(let request):
            switch exchanges.handler.handle(request) {
            case .respond(let response): phase = .finished(response)
            case .receive(let receiver): phase = .finished(receiver.finish())
            }
        case .gathering(let request):
            let body = takePiece()
            switch exchanges.handler.handle(request) {
            case .respond(let response): phase = .finished(response)
            case .receive(let receiver):
                receiver.receive(body.span)
                phase = .finished(receiver.finish())
            }
        default:
            preconditionFailure("a request is answered once, after its headers")
        }
    }
}
