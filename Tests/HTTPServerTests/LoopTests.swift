import CGlibc
import Glibc
import HTTPServer
import Testing
import Threading

@Suite("Which loop a connection comes to, and how it is sent to")
struct LoopTests {
    @Test func connectionsAreSpreadOverTheLoops() throws {
        try withServer(loops: 2) { server, handler in
            let clients = try (0..<4).map { _ in try RawClient(port: server.port) }
            #expect(try clients.map { try $0.get("/loop").text }.sorted() == ["0", "0", "1", "1"])
            #expect(handler.seen.withLock { $0.threads } == ["loop-0", "loop-1"])
        }
    }

    /// Bug: where the process may use one processor, there was still a loop for each that the machine has.
    @Test func thereIsALoopForEachProcessorThatMayBeUsed() throws {
        let loops = onTheLastProcessor { _ in
            try withServer(loops: nil) { server, _ in
                let clients = try (0..<4).map { _ in try RawClient(port: server.port) }
                return try clients.map { try $0.get("/loop").text }
            }
        }
        #expect(loops == ["0", "0", "0", "0"])
    }

    @Test func clientsOfOneProcessorShareALoop() throws {
        let loops = onTheLastProcessor { processor in
            try withServer(loops: processor + 1) { server, _ in
                [try RawClient(port: server.port).get("/loop").text, "\(processor)"]
            }
        }
        #expect(loops.count == 2 && loops.first == loops.last)
    }

    /// What `body` finds on a thread that runs there alone, whose number it takes; nothing where it fails.
    private func onTheLastProcessor(_ body: @escaping @Sendable (Int) throws -> [String]) -> [String] {
        let result = Monitor<[String]?>(nil)
        spawnThread(name: "one-processor") {
            let size = MemoryLayout<cpu_set_t>.size
            var set = cpu_set_t()
            sched_getaffinity(0, size, &set)
            let last: Int = withUnsafeMutableBytes(of: &set) { bytes in
                let place = bytes.lastIndex { $0 != 0 } ?? 0
                let bit = 7 - bytes[place].leadingZeroBitCount
                for index in bytes.indices { bytes[index] = index == place ? 1 << UInt8(bit) : 0 }
                return place * 8 + bit
            }
            sched_setaffinity(0, size, &set)
            let found = try? body(last)
            result.update { $0 = found ?? [] }
        }
        return result.wait { $0 } ?? []
    }

    /// Whatever the system's congestion control is: BBR's timers only cost where several files go no further than this machine.
    @Test func filesThatAreSentBesideOthersWithinTheMachineUseReno() throws {
        try withLargeFile { server, _ in
            let clients = try (0..<2).map { _ in
                let client = try RawClient(port: server.port)
                try client.send("GET /whole-file HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(try client.status() == 200)
                return client
            }
            let controls = clients.map { client in
                let ends = (0..<4096).filter {
                    port(of: $0, getsockname) == server.port && port(of: $0, getpeername) == client.port
                }
                return ends.map(congestionControl)
            }
            let fresh = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(fresh) }
            #expect(controls == [[congestionControl(of: fresh)], ["reno"]])
        }
    }

    private func port(
        of descriptor: Int32,
        _ ask: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> UInt16? {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { ask(descriptor, $0, &length) }
        }
        return code == 0 ? UInt16(bigEndian: address.sin_port) : nil
    }

    private func congestionControl(of descriptor: Int32) -> String {
        var name = [UInt8](repeating: 0, count: 16)
        var length = socklen_t(name.count)
        getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_CONGESTION, &name, &length)
        return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
    }
}
