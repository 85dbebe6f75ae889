import Glibc
import HTTPServer
import Testing
import Threading

/// A child process has all descriptors until it executes its program. What such a one holds stays open when the server closes it.
@Suite("Sockets that somebody else holds open")
struct InheritedSocketTests {
    /// Bug: `epoll` went on telling of the connection, by an address where another one was.
    @Test func aConnectionThatWasClosedIsHeardOfNoMore() throws {
        try withServer { server, _ in
            for _ in 0..<20 {
                let client = try RawClient(port: server.port)
                #expect(try client.get("/now").status == 200)
                let held = try #require(duplicateOfPeer(ofPort: client.port))
                defer { close(held) }
                try client.send("GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                #expect(try client.answer().status == 200)
                let limit = Deadline.after(.seconds(20))
                while server.connections > 0, !limit.hasPassed { sched_yield() }
                try #require(server.connections == 0)
                client.close()
                let others = try (0..<3).map { _ in try RawClient(port: server.port) }
                for other in others { #expect(try other.get("/now").status == 200) }
            }
        }
    }
}

/// As fork(2) makes one: of this process's socket that is connected to a port.
private func duplicateOfPeer(ofPort port: UInt16) -> Int32? {
    for descriptor in Int32(0)..<4_096 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getpeername(descriptor, $0, &length) }
        }
        if code == 0, Int32(address.sin_family) == AF_INET, address.sin_port == port.bigEndian {
            return fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        }
    }
    return nil
}
