internal import CMicroHTTPD
internal import Glibc
internal import Synchronization
internal import Threading

/// Takes connections in, on a thread of its own, and spreads them evenly over the loops.
final class Acceptor: Sendable {
    /// How long it waits when the process or the system is out of descriptors or memory.
    private static let pauseWhenOut = Duration.milliseconds(50)

    private let socket: ListeningSocket
    private let loops: [EventLoop]
    private let clients: Clients
    /// Out of descriptors, `accept4` says so before it says that the socket is shut down.
    private let isStopping = Atomic(false)
    private let hasEnded = Monitor(false)

    init(_ socket: ListeningSocket, _ loops: [EventLoop], _ clients: Clients) {
        self.socket = socket
        self.loops = loops
        self.clients = clients
        spawnThread(name: "accept") { self.run() }
    }

    /// Refuses new connections from now on, and closes the socket.
    func stop() {
        isStopping.store(true, ordering: .relaxed)
        shutdown(socket.descriptor, Int32(SHUT_RDWR))
        _ = hasEnded.wait { $0 ? true : nil }
        close(socket.descriptor)
    }

    private func run() {
        while !isStopping.load(ordering: .relaxed), accept() {}
        hasEnded.update { $0 = true }
    }

    /// False when the socket is shut down.
    private func accept() -> Bool {
        let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let (descriptor, address) = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                let descriptor = accept4(socket.descriptor, address, &length, flags)
                return (descriptor, descriptor < 0 ? ClientAddress.none : ClientAddress(address))
            }
        }
        guard descriptor >= 0 else { return canGoOn(errno) }
        guard clients.enter(address) else {
            close(descriptor)
            return true
        }
        if !address.isLoopback { useTheSystemsCongestionControl(descriptor) }
        loop(for: descriptor).add(EventLoop.NewConnection(descriptor: descriptor, address: address))
        return true
    }

    /// Not where the route has its own (`congctl` of `ip-route(8)`).
    private func useTheSystemsCongestionControl(_ descriptor: Int32) {
        guard let system = socket.systemsCongestionControl, CongestionControl(of: descriptor) == .reno else { return }
        system.use(on: descriptor)
    }

    /// Connections whose packets come in on one processor share a loop, so that the clients of one thread, or of one of the network card's queues, do
    /// not wake several. But the loop with the fewest gets it where that has less than four fifths. Numbers may be out of date, which evens out.
    private func loop(for descriptor: Int32) -> EventLoop {
        func connections(_ loop: EventLoop) -> Int { loop.connections.load(ordering: .relaxed) }
        let near = loops[incomingProcessor(of: descriptor) % loops.count]
        guard let idlest = loops.min(by: { connections($0) < connections($1) }) else { return near }
        let fewest = connections(idlest)
        return connections(near) <= fewest + fewest / 4 ? near : idlest
    }

    /// `SO_INCOMING_CPU` of `socket(7)`; 0 where that is not known.
    private func incomingProcessor(of descriptor: Int32) -> Int {
        var number: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_INCOMING_CPU, &number, &length)
        return max(0, Int(number))
    }

    /// Nearly all errors are those of one connection (accept(2), "Error handling").
    private func canGoOn(_ code: Int32) -> Bool {
        switch code {
        case EMFILE, ENFILE, ENOBUFS, ENOMEM: pauseThread(Self.pauseWhenOut)
        case EINVAL, EBADF: return false
        default: break
        }
        return true
    }
}
