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

    /// Bug: files were switched to Reno when they were sent, but a connection that once had BBR goes on sending by timers.
    @Test(.enabled(if: isBBRTheSystems, "the system's congestion control is not BBR"), arguments: hostsOfTheLoopback)
    func noTimersSendOverTheLoopback(host: String) throws {
        try withServer { configuration in
            configuration.address = .tcp(host: host, port: 0)
        } _: { server, _ in
            let found = try controls(of: RawClient(port: server.port), at: server)
            #expect(found == ["reno"])
        }
    }

    @Test(
        .enabled(if: isBBRTheSystems, "the system's congestion control is not BBR"),
        .enabled(if: anotherAddress != nil, "this machine has no address but the loopback's")
    )
    func connectionsFromOtherAddressesUseTheSystemsCongestionControl() throws {
        try withServer { configuration in
            configuration.address = .tcp(host: "0.0.0.0", port: 0)
        } _: { server, _ in
            let client = try RawClient(anotherAddress, port: server.port)
            let found = try controls(of: client, at: server)
            #expect(found == ["bbr"])
        }
    }

    /// Bug: a loop that yielded went on, as its usual time slice was not over; clients waited for some milliseconds.
    @Test(
        .enabled(if: areTimeSlicesKnown, "a kernel before 6.12, or one that does not tell of time slices")
    )
    func loopsHaveShortTimeSlicesAndTheThreadsTheyStartDoNot() throws {
        let usual = timeSliceNanoseconds()
        let found = Monitor<[Int?]>([])
        let handler = ScriptedHandler(onLoop: {
            let own = timeSliceNanoseconds()
            spawnThread(name: "of-a-loop") { found.update { $0 += [own, timeSliceNanoseconds()] } }
        })
        try withServer(handler) { server, _ in
            #expect(try RawClient(port: server.port).get("/loop").status == 200)
            let slices = try #require(found.wait(until: .after(.seconds(20))) { $0.count >= 2 ? $0 : nil })
            #expect(slices.prefix(2) == [100_000, usual])
        }
    }

    /// What the server's end of the connection uses.
    private func controls(of client: RawClient, at server: Server) throws -> [String] {
        #expect(try client.get("/loop").status == 200)
        return (0..<4096).filter {
            port(of: $0, getsockname) == server.port && port(of: $0, getpeername) == client.port
        }.map(congestionControl)
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
}

private func congestionControl(of descriptor: Int32) -> String {
    var name = [UInt8](repeating: 0, count: 16)
    var length = socklen_t(name.count)
    getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_CONGESTION, &name, &length)
    return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
}

private let isBBRTheSystems: Bool = {
    let fresh = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(fresh) }
    return congestionControl(of: fresh) == "bbr"
}()

/// Clients of IPv4 come to the last one as IPv6 writes their addresses.
private let hostsOfTheLoopback: [String] = {
    let fresh = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(fresh) }
    return fresh < 0 ? ["127.0.0.1"] : ["127.0.0.1", "::"]
}()

/// Not asked of what is tested here: if that did nothing, the test would be left out.
private let areTimeSlicesKnown: Bool = {
    var system = utsname()
    guard uname(&system) == 0, timeSliceNanoseconds() != nil else { return false }
    let release = withUnsafeBytes(of: system.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
    return numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 12)
}()

/// For how long this thread may have the processor, as the kernel tells.
private func timeSliceNanoseconds() -> Int? {
    guard let file = fopen("/proc/thread-self/sched", "r") else { return nil }
    defer { fclose(file) }
    var text = [UInt8](repeating: 0, count: 16 << 10)
    let count = fread(&text, 1, text.count, file)
    let lines = String(decoding: text.prefix(count), as: UTF8.self).split(separator: "\n")
    let line = lines.first { $0.hasPrefix("se.slice") }
    return (line?.split(separator: " ").last).flatMap { Int($0) }
}

/// An IPv4 address of this machine beside the loopback's.
private let anotherAddress: in_addr? = {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&first) == 0 else { return nil }
    defer { freeifaddrs(first) }
    let addresses = sequence(first: first) { $0?.pointee.ifa_next }.compactMap { $0?.pointee }
    let usable = addresses.first {
        let flags = Int32(bitPattern: $0.ifa_flags)
        return flags & Int32(IFF_UP) != 0 && flags & Int32(IFF_LOOPBACK) == 0
            && $0.ifa_addr?.pointee.sa_family == sa_family_t(AF_INET)
    }
    return usable?.ifa_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr }
}()
