import Glibc
import HTTPClient
import Synchronization
import System
import Testing
import Threading

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

private final class ManualTime: TimeSource {
    private let nanoseconds = Mutex<UInt64>(0)

    func advance(seconds: UInt64) { nanoseconds.withLock { $0 += seconds * 1_000_000_000 } }
    func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }
    func wallTime() -> WallTime { WallTime(seconds: 0) }
}

/// A client with one handle, which a request holds until `release`.
private struct BusyClient {
    let client: Client
    let server: LoopbackServer
    private let gate = Monitor((arrived: false, open: false, done: false, ended: false))

    init(_ change: (inout ClientConfiguration) -> Void = { _ in }) throws {
        let server = LoopbackServer { [gate] connection in
            while connection.readRequest() != nil {
                gate.update { $0.arrived = true }
                _ = gate.wait { $0.open ? true : nil }
                connection.send(ok)
            }
            gate.update { $0.ended = true }
        }
        let client = try Client(
            .test {
                $0.maxConnections = 1
                change(&$0)
            }
        )
        spawnThread(name: "caller") { [gate] in
            let error = failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }
            #expect(error == nil)
            gate.update { $0.done = true }
        }
        _ = gate.wait { $0.arrived ? true : nil }
        (self.client, self.server) = (client, server)
    }

    /// Lets the request finish.
    func release() {
        gate.update { $0.open = true }
        _ = gate.wait { $0.done ? true : nil }
    }

    /// Whether the client has closed the connection by now, or does soon.
    var connectionEnds: Bool { gate.wait(until: .after(.seconds(30))) { $0.ended ? true : nil } == true }
}

@Suite struct ConnectionTests {
    @Test func connectionsAreReused() throws {
        let (server, _) = LoopbackServer.answering(ok)
        let client = try Client(.test())
        for _ in 0..<5 { try client.perform(Request("GET", server.url)) }
        #expect(server.accepted == 1)
        var expected = ClientStatistics()
        expected.transfers = 5
        expected.connectionsOpened = 1
        expected.connectionsReused = 4
        #expect(client.statistics == expected)
    }

    /// Bug: slow writes took every connection, and readers waited for them.
    @Test func writesLeaveConnectionsToReads() throws {
        let gate = Monitor((writes: 0, isOpen: false, ended: 0))
        let server = LoopbackServer { connection in
            while let request = connection.readRequest() {
                if request.head.hasPrefix("PUT") {
                    gate.update { $0.writes += 1 }
                    _ = gate.wait { $0.isOpen ? true : nil }
                }
                connection.send(ok)
            }
        }
        let client = try Client(
            .test {
                $0.maxConnections = 2
                $0.connectionsForReads = 1
            }
        )
        for _ in 0..<3 {
            spawnThread(name: "writer") {
                let error = failure { () throws(TransferError) in try client.perform(Request("PUT", server.url)) }
                #expect(error == nil)
                gate.update { $0.ended += 1 }
            }
        }
        _ = gate.wait { $0.writes > 0 ? true : nil }
        for _ in 0..<3 { try client.perform(Request("GET", server.url)) }
        #expect(gate.withLock { $0.writes } == 1)
        gate.update { $0.isOpen = true }
        #expect(gate.wait(until: .after(.seconds(30))) { $0.ended == 3 ? true : nil } == true)
    }

    @Test func theWarmestConnectionIsUsed() throws {
        let arrived = Monitor<[Int]>([])
        let server = LoopbackServer { connection in
            while connection.readRequest() != nil {
                arrived.update { $0.append(connection.index) }
                _ = arrived.wait { $0.count >= 2 ? true : nil }
                connection.send(ok)
            }
        }
        let client = try Client(.test())
        let done = Monitor(0)
        for _ in 0..<2 {
            spawnThread(name: "caller") {
                _ = failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }
                done.update { $0 += 1 }
            }
        }
        _ = done.wait { $0 == 2 ? true : nil }
        for _ in 0..<4 { try client.perform(Request("GET", server.url)) }
        #expect(server.accepted == 2)
        #expect(arrived.withLock { Set($0.suffix(4)).count } == 1)
    }

    /// OpenSSL writes to sockets that may be closed; the default is to end the process.
    @Test func brokenPipesRaiseNoSignal() throws {
        _ = try Client(.test())
        #expect(raise(SIGPIPE) == 0)
    }

    @Test func aConnectionThatTheServerClosedBetweenRequestsIsReplaced() throws {
        let closed = Monitor(0)
        let server = LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            connection.send(ok)
            connection.end()
            closed.update { $0 += 1 }
        }
        let client = try Client(.test())
        for round in 1...3 {
            try client.perform(Request("POST", server.url, body: .bytes([1])))
            _ = closed.wait { $0 == round ? true : nil }
        }
        #expect(server.accepted == 3)
        #expect(client.statistics.failures == 0)
    }

    /// Answers the first request of each connection, and closes it when it has read the second.
    private func closesAtTheSecondRequest(_ requests: Monitor<[String]>) -> LoopbackServer {
        LoopbackServer { connection in
            guard let first = connection.readRequest() else { return }
            requests.update { $0.append(first.lines[0]) }
            connection.send(ok)
            guard let second = connection.readRequest() else { return }
            requests.update { $0.append(second.lines[0]) }
        }
    }

    @Test(arguments: ["GET", "HEAD", "PUT", "DELETE"])
    func anIdempotentRequestOverADeadConnectionIsSentAgain(method: String) throws {
        let requests = Monitor<[String]>([])
        let server = closesAtTheSecondRequest(requests)
        let client = try Client(.test())
        try client.perform(Request("GET", server.url + "/1"))
        try client.perform(Request(method, server.url + "/2"))
        #expect(requests.withLock { $0.map { $0.split(separator: " ")[1] } } == ["/1", "/2", "/2"])
        #expect(client.statistics.repeats == 1)
        #expect(client.statistics.failures == 0)
    }

    @Test func otherRequestsAreSentOnce() throws {
        let requests = Monitor<[String]>([])
        let server = closesAtTheSecondRequest(requests)
        let client = try Client(.test())
        try client.perform(Request("GET", server.url + "/1"))
        let error = failure { () throws(TransferError) in
            try client.perform(Request("POST", server.url + "/2", body: .bytes([1])))
        }
        #expect(error?.kindName == "receiveFailed")
        #expect(error?.reachedServer == nil)
        #expect(error?.isConnectionLevel == true)
        #expect(requests.withLock { $0.map { $0.split(separator: " ")[1] } } == ["/1", "/2"])

        var known = Request("POST", server.url + "/3")
        known.isIdempotent = true
        try client.perform(Request("GET", server.url + "/1"))
        try client.perform(known)
        #expect(requests.withLock { $0.suffix(2) } == ["POST /3 HTTP/1.1", "POST /3 HTTP/1.1"])
    }

    @Test func aFreshConnectionThatDiesIsAnError() throws {
        let server = LoopbackServer { connection in _ = connection.readRequest() }
        let error = failure { () throws(TransferError) in try Client(.test()).perform(Request("GET", server.url)) }
        #expect(error?.kindName == "receiveFailed")
        #expect(error?.reachedServer == nil)
        #expect(server.accepted == 1)
    }

    @Test func transfersAreBounded() throws {
        let state = Monitor((running: 0, most: 0))
        let server = LoopbackServer { connection in
            while connection.readRequest() != nil {
                state.update { state in
                    state.running += 1
                    state.most = max(state.most, state.running)
                }
                // Nobody is answered before two run at once: the bound is reached as well as kept.
                _ = state.wait { $0.most >= 2 ? true : nil }
                state.update { $0.running -= 1 }
                connection.send(ok)
            }
        }
        let client = try Client(.test { $0.maxConnections = 2 })
        let done = Monitor(0)
        for _ in 0..<8 {
            spawnThread(name: "caller") {
                let error = failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }
                #expect(error == nil)
                done.update { $0 += 1 }
            }
        }
        _ = done.wait { $0 == 8 ? true : nil }
        #expect(state.withLock { $0.most } == 2)
        #expect(server.accepted == 2)
        #expect(client.statistics.transfers == 8)
    }

    @Test func waitingForAHandleHasALimit() throws {
        let busy = try BusyClient { $0.admissionTimeoutMilliseconds = 50 }
        let (client, server) = (busy.client, busy.server)
        let error = failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }
        guard case .timeout(.admission) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.reachedServer == false)
        #expect(error?.isConnectionLevel == false)
        busy.release()
        try client.perform(Request("GET", server.url))
    }

    @Test func waitingForAHandleCanBeCancelled() throws {
        let busy = try BusyClient()
        let (client, server) = (busy.client, busy.server)
        let asked = Atomic(0)
        let error = failure { () throws(TransferError) in
            try client.perform(
                Request("GET", server.url),
                isCancelled: { asked.add(1, ordering: .relaxed).newValue > 1 }
            )
        }
        #expect(error?.kindName == "cancelled")
        busy.release()
    }

    @Test func aClosedClientRefusesButFinishesWhatRuns() throws {
        let busy = try BusyClient()
        let (client, server) = (busy.client, busy.server)
        let waiter = Monitor<String?>(nil)
        spawnThread(name: "caller") {
            let error = failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }
            waiter.update { $0 = error?.kindName ?? "none" }
        }
        client.close()
        #expect(waiter.wait { $0 } == "closed")
        busy.release()
        #expect(busy.connectionEnds)
        #expect(client.statistics.failures == 0)
        #expect(
            failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }?.kindName == "closed"
        )
    }

    @Test func closingEndsIdleConnections() throws {
        let ended = Monitor(false)
        let server = LoopbackServer { connection in
            guard connection.readRequest() != nil else { return }
            connection.send(ok)
            connection.waitForEnd()
            ended.update { $0 = true }
        }
        let client = try Client(.test())
        try client.perform(Request("GET", server.url))
        client.close()
        #expect(ended.wait(until: .after(.seconds(30))) { $0 ? true : nil } == true)
    }

    @Test func handlesUnusedForLongAreGivenUp() throws {
        let ended = Monitor<Set<Int>>([])
        let arrived = Monitor(0)
        let server = LoopbackServer { connection in
            while connection.readRequest() != nil {
                arrived.update { $0 += 1 }
                _ = arrived.wait { $0 >= 2 ? true : nil }
                connection.send(ok)
            }
            ended.update { _ = $0.insert(connection.index) }
        }
        let time = ManualTime()
        let client = try Client(.test { $0.maxConnectionIdleSeconds = 20 }, time: time)
        let done = Monitor(0)
        for _ in 0..<2 {
            spawnThread(name: "caller") {
                _ = failure { () throws(TransferError) in try client.perform(Request("GET", server.url)) }
                done.update { $0 += 1 }
            }
        }
        _ = done.wait { $0 == 2 ? true : nil }
        time.advance(seconds: 21)
        try client.perform(Request("GET", server.url))
        #expect(ended.wait(until: .after(.seconds(30))) { $0.count == 1 ? true : nil } == true)
        #expect(server.accepted == 2)
    }

    /// Two threads that give their handles back may come in the other order than they read the clock in. That was a trap, now and then.
    @Test func aHandleMayComeBackAtAMomentBeforeTheLast() throws {
        let (server, requests) = LoopbackServer.answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        let client = try Client(.test(), time: BackwardTime())
        let get = Request("GET", server.url)
        try client.perform(get) { _, _ in
            // Takes and returns a second handle while the first is out.
            _ = try client.perform(get)
        }
        #expect(requests.withLock { $0.count } == 2)
    }
}

/// Each look at the clock is before the last one.
private final class BackwardTime: TimeSource {
    private let nanoseconds = Mutex<UInt64>(1 << 40)

    func monotonicNanoseconds() -> UInt64 {
        nanoseconds.withLock {
            $0 -= 1_000
            return $0
        }
    }

    func wallTime() -> WallTime { WallTime(seconds: 0) }
}
