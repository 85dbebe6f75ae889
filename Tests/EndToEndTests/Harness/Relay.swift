import Foundation
import Synchronization

/// Passes TCP connections on to a port of loopback, byte for byte, and notes the request lines that go by.
///
/// The bytes stay as they are, so that a signature over the Host header still holds. Stopping it is an outage.
final class Relay: Sendable {
    private struct State {
        var listener: Socket?
        var connections: [ObjectIdentifier: Socket] = [:]
        var requestLines: [String] = []
        var onRequest: (@Sendable (String) -> Void)?
    }

    let endpoint: Endpoint
    private let target: UInt16
    private let state = Mutex(State())

    init(to target: UInt16) throws {
        self.target = target
        endpoint = Endpoint(port: try Ports.free())
        try resume()
    }

    deinit { stop() }

    /// The request lines seen so far, such as `GET /bucket/key HTTP/1.1`.
    var requestLines: [String] { state.withLock { $0.requestLines } }

    /// Those for the bytes of blobs.
    var blobRequests: [String] { requestLines.filter { $0.contains("/blobs/") } }

    func forget() { state.withLock { $0.requestLines = [] } }

    /// Called with each request line, before its bytes go on.
    func onRequest(_ action: (@Sendable (String) -> Void)?) { state.withLock { $0.onRequest = action } }

    /// Refuses new connections and breaks the open ones.
    func stop() {
        let sockets = state.withLock { state in
            defer { (state.listener, state.connections) = (nil, [:]) }
            return Array(state.connections.values) + (state.listener.map { [$0] } ?? [])
        }
        for socket in sockets { socket.shutDown() }
    }

    /// Listens again, on the same port.
    func resume() throws {
        let listener = try Socket.listen(port: endpoint.port)
        state.withLock { $0.listener = listener }
        Thread.detachNewThread { [weak self] in
            while let caller = listener.accept() {
                guard let self else { return }
                self.serve(caller)
            }
        }
    }

    private func serve(_ caller: Socket) {
        guard let callee = try? Socket.connect(port: target) else {  // refused there: refused here
            caller.shutDown()
            return
        }
        state.withLock { state in
            for socket in [caller, callee] { state.connections[ObjectIdentifier(socket)] = socket }
        }
        Thread.detachNewThread { [self] in
            var parser = RequestLines()
            pump(from: caller, to: callee) { bytes in
                for line in parser.feed(bytes) {
                    let action = state.withLock { state in
                        state.requestLines.append(line)
                        return state.onRequest
                    }
                    action?(line)
                }
            }
            callee.finishSending()
        }
        Thread.detachNewThread { [self] in
            pump(from: callee, to: caller) { _ in }
            for socket in [caller, callee] {
                socket.shutDown()
                _ = state.withLock { $0.connections.removeValue(forKey: ObjectIdentifier(socket)) }
            }
        }
    }
}

/// Carries bytes until either side ends.
private func pump(from source: Socket, to destination: Socket, _ look: ([UInt8]) -> Void) {
    while true {
        do {
            let bytes = try source.receive()
            if bytes.isEmpty { return }
            look(bytes)
            try destination.send(bytes)
        } catch let error as SocketError where error.isTimeout {
            continue  // Idle, or busy in the other direction.
        } catch {
            source.shutDown()
            destination.shutDown()
            return
        }
    }
}
