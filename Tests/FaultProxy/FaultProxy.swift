import Synchronization
import Threading

/// An HTTP/1.1 proxy on loopback that does to chosen requests what bad weather does. Without a server behind it, it answers by itself.
///
/// What no rule is for passes byte for byte, so that a signature over the Host header still holds. Stopping it is an outage.
package final class FaultProxy: Sendable {
    package struct Received: Sendable {
        package var method = ""
        /// Path and query.
        package var target = ""
        /// Names in lower case.
        package var headers: [String: String] = [:]
        /// Only of a request that the proxy answers itself, and only its first 16 MiB.
        package var body: [UInt8] = []
        /// The first line of its head.
        package var line = ""

        package init(method: String = "", target: String = "") {
            self.method = method
            self.target = target
        }

        package var text: String { String(decoding: body, as: UTF8.self) }

        package var operation: Operation {
            Operation(method, target, isCopy: headers["x-amz-copy-source"] != nil)
        }
    }

    package struct Answer: Sendable {
        package var status: Int
        package var headers: [(name: String, value: String)]
        package var body: [UInt8]
        /// Announced length, if it is not the body's; negative: none at all.
        package var length: Int?
        /// End the connection afterwards, with a reset if so wanted.
        package var closes: Bool
        package var resets: Bool
        /// Say it before the request's body is read, and read none of it.
        package var isEarly: Bool

        package init(
            status: Int = 200,
            headers: [(name: String, value: String)] = [],
            body: [UInt8] = [],
            length: Int? = nil,
            closes: Bool = false,
            resets: Bool = false,
            isEarly: Bool = false
        ) {
            self.status = status
            self.headers = headers
            self.body = body
            self.length = length
            self.closes = closes
            self.resets = resets
            self.isEarly = isEarly
        }

        package static func ok(_ body: String = "", _ headers: [(name: String, value: String)] = []) -> Answer {
            Answer(headers: headers, body: Array(body.utf8))
        }

        package static func status(
            _ status: Int,
            _ code: String? = nil,
            headers: [(name: String, value: String)] = []
        ) -> Answer {
            let body = code.map {
                "<?xml version=\"1.0\"?><Error><Code>\($0)</Code><Message>text of \($0)</Message>"
                    + "<RequestId>id-1</RequestId></Error>"
            }
            return Answer(status: status, headers: headers, body: Array((body ?? "").utf8))
        }

        /// No answer at all.
        package static let reset = Answer(status: 0, resets: true)
        /// Nor this, but the connection stays open.
        package static let silence = Answer(status: 0)
    }

    package struct Counts: Sendable, Equatable {
        package var connections = 0
        /// Open now.
        package var openConnections = 0
        package var requests = 0
        /// Of requests' bodies, from the client.
        package var bytesUp: Int64 = 0
        /// Of answers' bodies, to the client.
        package var bytesDown: Int64 = 0
    }

    private struct Rule {
        let match: Match
        let calls: Calls
        let faults: [Fault]
        var count = 0
    }

    private struct State {
        var isListening = false
        var connections: [ObjectIdentifier: Socket] = [:]
        var rules: [Rule] = []
        var log: [Received] = []
        var counts = Counts()
        var onRequest: (@Sendable (String) -> Void)?
    }

    package let port: UInt16
    /// What is behind it; `nil`: nothing.
    let target: UInt16?
    private let script: (@Sendable (Received, Int) -> Answer)?
    private let listener: Socket
    private let state = Mutex(State())

    /// - Parameters:
    ///   - target: the server's port on loopback.
    ///   - port: where to listen; 0 for any.
    package init(to target: UInt16, port: UInt16 = 0) throws {
        self.target = target
        script = nil
        listener = try Socket.listen(port: port)
        self.port = listener.port
        try resume()
    }

    /// - Parameter answer: gets each request with the number of those before it.
    package init(_ answer: @escaping @Sendable (Received, Int) -> Answer) {
        target = nil
        script = answer
        do {
            listener = try Socket.listen(port: 0)
            port = listener.port
            try resume()
        } catch {
            preconditionFailure("\(error)")
        }
    }

    deinit { stop() }

    // MARK: Rules

    /// Does `faults` to the requests that `match`; of several rules, the oldest that acts on a request wins.
    package func on(_ match: Match, _ calls: Calls = .all, _ faults: Fault...) {
        state.withLock { $0.rules.append(Rule(match: match, calls: calls, faults: faults)) }
    }

    /// Good weather again.
    package func clear() { state.withLock { $0.rules = [] } }

    /// Called with each request line, before its bytes go on.
    package func onRequest(_ action: (@Sendable (String) -> Void)?) { state.withLock { $0.onRequest = action } }

    // MARK: Counts

    /// The requests so far.
    package var requests: [Received] { state.withLock { $0.log } }

    /// Their first lines, such as `GET /bucket/key HTTP/1.1`.
    package var requestLines: [String] { requests.map(\.line) }

    package var counts: Counts { state.withLock { $0.counts } }

    package func count(_ match: Match) -> Int { requests.count { match.holds(for: $0) } }

    /// Counts from zero again.
    package func forget() {
        state.withLock { state in
            state.log = []
            state.counts = Counts(openConnections: state.counts.openConnections)
        }
    }

    // MARK: Outages

    /// Refuses new connections and breaks the open ones. Nobody else gets the port meanwhile.
    package func stop() {
        let sockets: [Socket]? = state.withLock { state in
            guard state.isListening else { return nil }
            state.isListening = false
            return Array(state.connections.values)
        }
        // A socket that is shut down once more would not listen again.
        guard let sockets else { return }
        listener.shutDown()
        for socket in sockets { socket.shutDown() }
    }

    /// Listens again.
    package func resume() throws {
        try listener.listen()
        state.withLock { $0.isListening = true }
        spawnThread(name: "fault-proxy") { [weak self, listener] in
            while let caller = listener.accept() {
                guard let self else { return }
                self.serve(caller)
            }
        }
    }

    private func serve(_ caller: Socket) {
        guard track(caller) else { return }
        state.withLock { $0.counts.connections += 1 }
        spawnThread(name: "fault-conn") { [self] in
            var connection = ProxiedConnection(self, caller)
            let end = connection.run()
            if end == .reset { caller.resetOnClose() } else { caller.shutDown() }
            untrack(caller)
        }
    }
}

// MARK: - What a connection asks

extension FaultProxy {
    /// False when there is an outage; breaks `socket` then.
    func track(_ socket: Socket) -> Bool {
        let isWelcome = state.withLock { state in
            guard state.isListening else { return false }
            state.connections[ObjectIdentifier(socket)] = socket
            state.counts.openConnections = state.connections.count
            return true
        }
        if !isWelcome { socket.shutDown() }
        return isWelcome
    }

    func untrack(_ socket: Socket) {
        // The reference must go after the lock: it closes the socket.
        let last = state.withLock { state in
            defer { state.counts.openConnections = state.connections.count }
            return state.connections.removeValue(forKey: ObjectIdentifier(socket))
        }
        withExtendedLifetime(last) {}
    }

    /// What to do with a request whose head is there.
    func faults(for request: Received) -> [Fault] {
        let (faults, action) = state.withLock { state in
            state.counts.requests += 1
            var faults: [Fault]?
            for index in state.rules.indices where state.rules[index].match.holds(for: request) {
                state.rules[index].count += 1
                let rule = state.rules[index]
                if faults == nil, rule.calls.contains(rule.count) { faults = rule.faults }
            }
            // A scripted request is noted once its body is there.
            if target != nil { state.log.append(request) }
            return (faults ?? [], state.onRequest)
        }
        action?(request.line)
        return faults
    }

    /// The answer of a proxy without a server.
    func scripted(_ request: Received) -> Answer {
        let number = state.withLock { state in
            state.log.append(request)
            return state.log.count - 1
        }
        guard let script else { preconditionFailure("a proxy with a server does not answer by itself") }
        return script(request, number)
    }

    func countBytes(up: Int = 0, down: Int = 0) {
        state.withLock { state in
            state.counts.bytesUp += Int64(up)
            state.counts.bytesDown += Int64(down)
        }
    }
}
