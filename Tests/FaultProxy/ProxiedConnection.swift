import Threading

/// One client's connection, and the one to the server that belongs to it.
///
/// One thread does all: a client that waits for its answer sends nothing meanwhile.
struct ProxiedConnection {
    enum End {
        case ordinary
        case reset
    }

    private static let collectedBytes = 16 << 20

    private let proxy: FaultProxy
    private let caller: Socket
    private var client: MessageReader
    private var server: MessageReader?

    init(_ proxy: FaultProxy, _ caller: Socket) {
        self.proxy = proxy
        self.caller = caller
        client = MessageReader(caller)
    }

    /// Serves requests until the connection ends.
    mutating func run() -> End {
        var end: End?
        do {
            while end == nil { end = try exchange() }
        } catch {
            // Either side is gone: so is the other then.
        }
        if let server {
            server.socket.shutDown()
            proxy.untrack(server.socket)
        }
        return end ?? .ordinary
    }

    /// One request and its answer; `nil` when the connection goes on.
    private mutating func exchange() throws -> End? {
        guard let head = try nextHead() else { return .ordinary }
        let words = head.startLine.split(separator: " ")
        guard words.count == 3 else { return .ordinary }
        var request = FaultProxy.Received(method: String(words[0]), target: String(words[1]))
        request.line = head.startLine
        for field in head.fields { request.headers[field.name] = field.value }
        let faults = proxy.faults(for: request)
        for case .delay(let duration) in faults { pauseThread(duration) }
        for case .answer(let answer) in faults { return try say(answer, to: &request, head) }
        guard proxy.target != nil else { return try say(nil, to: &request, head) }
        return try forward(head, request, faults)
    }

    /// The next request's head; `nil` when either side has ended.
    private mutating func nextHead() throws -> MessageHead? {
        if let server, !client.hasBytes {
            while true {
                let ready = Socket.waitForBytes([caller, server.socket], seconds: 60)
                // The server speaks out of turn only to say goodbye.
                if ready[1] { return nil }
                if ready[0] { break }
            }
        }
        return try client.head()
    }

    // MARK: Answers of the proxy's own

    /// - Parameter answer: `nil` asks the proxy's script, once the body is there.
    private mutating func say(
        _ answer: FaultProxy.Answer?,
        to request: inout FaultProxy.Received,
        _ head: MessageHead
    ) throws -> End? {
        if let answer, answer.isEarly {
            try send(answer, request.method)
            return answer.resets ? .reset : .ordinary
        }
        var framing = BodyFraming(request: head)
        if head.value("expect") != nil { try caller.send("HTTP/1.1 100 Continue\r\n\r\n".utf8) }
        while let piece = try client.piece(&framing, limit: 65_536) {
            proxy.countBytes(up: piece.count)
            if request.body.count < Self.collectedBytes { request.body += piece }
        }
        guard framing.isAtEnd else { return .ordinary }
        let answer = answer ?? proxy.scripted(request)
        try send(answer, request.method)
        return answer.resets ? .reset : answer.closes ? .ordinary : nil
    }

    private func send(_ answer: FaultProxy.Answer, _ method: String) throws {
        guard answer.status != 0 else { return }
        var head = "HTTP/1.1 \(answer.status) Text\r\n"
        let length = answer.length ?? answer.body.count
        if length >= 0 { head += "Content-Length: \(length)\r\n" }
        for header in answer.headers { head += "\(header.name): \(header.value)\r\n" }
        let body = method == "HEAD" ? [] : answer.body
        proxy.countBytes(down: body.count)
        try caller.send(Array((head + "\r\n").utf8) + body)
    }

    // MARK: The server's

    private mutating func forward(
        _ head: MessageHead,
        _ request: FaultProxy.Received,
        _ faults: [Fault]
    ) throws -> End? {
        if server == nil {
            guard let target = proxy.target, let callee = try? Socket.connect(port: target),  // refused there, so here
                proxy.track(callee)
            else { return .ordinary }
            server = MessageReader(callee)
        }
        let callee = server!.socket
        var head = head
        if head.value("expect") != nil {
            try caller.send("HTTP/1.1 100 Continue\r\n\r\n".utf8)
            head = head.setting("expect", nil)
        }
        try callee.send(head.bytes)
        var framing = BodyFraming(request: head)
        let troubles = faults.compactMap { if case .request(let trouble) = $0 { trouble } else { nil } }
        let outcome = try carry(&client, &framing, to: callee, troubles, stopWhenAnswered: true) { [proxy] count in
            proxy.countBytes(up: count)
        }
        switch outcome {
        case .whole: return try answer(request, head, faults)
        case .early:
            _ = try answer(request, head, faults)
            return .ordinary
        case .cut: return .ordinary
        case .reset: return .reset
        case .stall: return waitForClient()
        }
    }

    private mutating func answer(
        _ request: FaultProxy.Received,
        _ requestHead: MessageHead,
        _ faults: [Fault]
    ) throws -> End? {
        guard var head = try server!.head() else { return .ordinary }
        while head.status == 100 {
            guard let next = try server!.head() else { return .ordinary }
            head = next
        }
        var framing = BodyFraming(response: head, toMethod: request.method)
        for case .replace(let answer) in faults {
            while try server!.piece(&framing, limit: 65_536) != nil {}
            try send(answer, request.method)
            return answer.resets ? .reset : answer.closes ? .ordinary : nil
        }
        let endsHere = head.endsConnection || requestHead.endsConnection
        for case .header(let name, let value) in faults { head = head.setting(name, value) }
        try caller.send(head.bytes)
        let troubles = faults.compactMap { if case .response(let trouble) = $0 { trouble } else { nil } }
        let outcome = try carry(&server!, &framing, to: caller, troubles, stopWhenAnswered: false) { [proxy] count in
            proxy.countBytes(down: count)
        }
        switch outcome {
        case .whole: return endsHere ? .ordinary : nil
        case .early, .cut: return .ordinary
        case .reset: return .reset
        case .stall: return waitForClient()
        }
    }

    /// Lets nothing through, until the client has had enough or the proxy stops.
    private mutating func waitForClient() -> End {
        var framing = BodyFraming.endOfConnection
        // Whatever ends it, it ends.
        while (try? client.piece(&framing, limit: 65_536)) != nil {}
        return .ordinary
    }
}

/// How a body's journey ended.
private enum Outcome: Equatable {
    case whole
    /// The sender broke off, or the server answers before it has all.
    case early
    case cut
    case reset
    case stall
}

/// Carries a body from one side to the other, as far as its troubles let it come.
private func carry(
    _ source: inout MessageReader,
    _ framing: inout BodyFraming,
    to destination: Socket,
    _ troubles: [Trouble],
    stopWhenAnswered: Bool,
    count: (Int) -> Void
) throws -> Outcome {
    let stop = Stop(troubles)
    var limit = 65_536
    var pause: Duration?
    for case .throttle(let bytesPerSecond) in troubles {
        limit = max(1, min(limit, bytesPerSecond / 10))
        pause = .seconds(1) * Double(limit) / Double(bytesPerSecond)
    }
    var offset = 0
    while true {
        if let outcome = stop?.outcome, offset >= stop!.offset { return outcome }
        if stopWhenAnswered, !framing.isAtEnd, !source.hasBytes {
            let ready = Socket.waitForBytes([source.socket, destination], seconds: 60)
            if ready[1] { return .early }
            if !ready[0] { continue }
        }
        let room = min(limit, stop.map { $0.offset - offset } ?? limit)
        guard var piece = try source.piece(&framing, limit: room) else {
            if case .endOfConnection = framing { return .early }
            return framing.isAtEnd ? .whole : .early
        }
        for case .flip(let position) in troubles where (offset..<offset + piece.count).contains(position) {
            piece[position - offset] ^= 1
        }
        offset += piece.count
        count(piece.count)
        try destination.send(piece)
        if let pause { pauseThread(pause) }
    }
}

/// Where a body's journey is to end.
private struct Stop {
    var offset: Int
    var outcome: Outcome

    init?(_ troubles: [Trouble]) {
        for trouble in troubles {
            switch trouble {
            case .cut(let after): self.init(offset: after, outcome: .cut)
            case .reset(let after): self.init(offset: after, outcome: .reset)
            case .stall(let after): self.init(offset: after, outcome: .stall)
            case .flip, .throttle: continue
            }
            return
        }
        return nil
    }

    private init(offset: Int, outcome: Outcome) {
        self.offset = offset
        self.outcome = outcome
    }
}
