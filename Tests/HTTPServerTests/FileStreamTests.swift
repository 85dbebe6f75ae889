import Glibc
import HTTPServer
import Synchronization
import System
import TestDoubles
import Testing
import Threading

/// A body that comes to lie in a file, as far as a test says.
private final class GrowingBody: BodyProducer, Sendable {
    struct Failed: Error {}

    struct State {
        var landed: Int64 = 0
        /// The file gets no more.
        var isOver = false
        var fails = false
        /// Where it was asked for what the file does not get.
        var produced: [Int64] = []
        var waiting = 0
    }

    let content: [UInt8]
    private let held: Mutex<File?>
    let state = Monitor(State())

    init(_ count: Int, in folder: TemporaryFolder) throws {
        content = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
        held = Mutex(try LocalFileSystem().open(folder.path + "/growing", .create))
    }

    var file: File? { held.withLock { $0 } }

    /// As a fill that has ended in vain.
    func dropFile() { held.withLock { $0 = nil } }

    func land(_ end: Int) throws {
        let start = state.withLock { Int($0.landed) }
        try LocalFileSystem().write(content[start..<end].span, to: file!, at: Int64(start))
        state.update { $0.landed = Int64(end) }
    }

    func waitForReaders(_ count: Int) {
        #expect(state.wait(until: .after(.seconds(20))) { $0.waiting >= count ? true : nil } == true)
    }

    func countInFile(from offset: Int64) -> Int64 { state.withLock { max(0, $0.landed - offset) } }

    func waitForFile(at offset: Int64) -> Bool {
        state.update { $0.waiting += 1 }
        defer { state.update { $0.waiting -= 1 } }
        return state.wait { $0.landed > offset ? true : $0.isOver ? false : nil } ?? false
    }

    func produce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws {
        let fails = state.update { state in
            state.produced.append(offset)
            return state.fails
        }
        if fails { throw Failed() }
        buffer.append(fitting: content[Int(offset)..<min(content.count, Int(offset) + 77_777)].span)
    }
}

private struct GrowingHandler: RequestHandler {
    let body: GrowingBody
    let ends = Monitor<[ExchangeEnd]>([])

    func handle(_ request: Request) -> Reply {
        .respond(Response(status: 200, body: .stream(length: Int64(body.content.count), body)))
    }

    func refusal(of request: Request, status: Int, reason: String) -> Response { Response(status: status) }
    func ended(_ request: Request, _ end: ExchangeEnd) { ends.update { $0.append(end) } }
}

@Suite struct FileStreamTests {
    private let folder = TemporaryFolder()

    private func withGrowing(_ count: Int, _ body: (UInt16, GrowingBody, GrowingHandler) throws -> Void) throws {
        let growing = try GrowingBody(count, in: folder)
        let handler = GrowingHandler(body: growing)
        var configuration = ServerConfiguration(host: "127.0.0.1", port: 0)
        configuration.loops = 1
        let server = try Server(configuration, handler: handler)
        defer {
            growing.state.update { $0.isOver = true }
            #expect(server.stop(drain: .seconds(20)))
        }
        try body(server.port, growing, handler)
    }

    private func reader(_ port: UInt16) throws -> RawClient {
        let client = try RawClient(port: port)
        try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        return client
    }

    private func end(_ handler: GrowingHandler) throws -> ExchangeEnd {
        try #require(handler.ends.wait(until: .after(.seconds(20))) { $0.first })
    }

    /// What is in the file goes out before there is more.
    @Test func whatComesToLieInTheFileIsSentFromThere() throws {
        try withGrowing(3 << 20) { port, growing, handler in
            let client = try reader(port)
            var place = 0
            for end in [500_000, 500_001, 2_000_003, growing.content.count] {
                growing.waitForReaders(1)
                try growing.land(end)
                if place == 0 { #expect(try client.answer(hasBody: false).status == 200) }
                #expect(try client.bytes(end - place) == Array(growing.content[place..<end]))
                place = end
            }
            let end = try end(handler)
            #expect(end.isComplete && end.bodyBytes == Int64(growing.content.count))
            #expect(growing.state.withLock { $0.produced }.isEmpty)
        }
    }

    @Test func manyReadersGetItAtTheirOwnPace() throws {
        try withGrowing(6 << 20) { port, growing, handler in
            let clients = try (0..<12).map { _ in try reader(port) }
            growing.waitForReaders(clients.count)
            spawnThread(name: "lands") {
                // What does not land is missed by the readers.
                for end in stride(from: 10_007, to: growing.content.count, by: 10_007) { try? growing.land(end) }
                try? growing.land(growing.content.count)
            }
            for client in clients { #expect(try client.answer().body == growing.content) }
            #expect(growing.state.withLock { $0.produced }.isEmpty)
        }
    }

    /// As when the disk is full.
    @Test func whatTheFileDoesNotGetIsProduced() throws {
        try withGrowing(3 << 20) { port, growing, handler in
            try growing.land(1_000_000)
            growing.state.update { $0.isOver = true }
            #expect(try reader(port).answer().body == growing.content)
            #expect(try end(handler).isComplete)
            #expect(growing.state.withLock { $0.produced }.first == 1_000_000)
        }
    }

    @Test func whatTheFileHasLostIsProduced() throws {
        try withGrowing(3 << 20) { port, growing, handler in
            try growing.land(growing.content.count)
            try LocalFileSystem().truncate(growing.file!, to: 1 << 20)
            #expect(try reader(port).answer().body == growing.content)
            #expect(try end(handler).isComplete)
            #expect(!growing.state.withLock { $0.produced }.isEmpty)
        }
    }

    @Test func whatCannotBeHadBreaksTheConnection() throws {
        try withGrowing(3 << 20) { port, growing, handler in
            try growing.land(1_000_000)
            growing.state.update { ($0.isOver, $0.fails) = (true, true) }
            let client = try reader(port)
            #expect(throws: RawClient.Failure.self) { try client.answer() }
            #expect(!client.isStuck)
            let end = try end(handler)
            #expect(end.isBroken && !end.isComplete && end.bodyBytes == 1_000_000)
        }
    }

    /// Bug: libmicrohttpd had a descriptor of its own, so that a file that was deleted under its readers took room that nobody counted any more.
    @Test func aFileIsHeldAsLongAsItIsSent() throws {
        let isGone = Monitor(false)
        try withGrowing(3 << 20) { port, growing, handler in
            growing.file?.keep(Witness(isGone))
            let client = try reader(port)
            growing.waitForReaders(1)
            try growing.land(1_000_000)
            #expect(try client.answer(hasBody: false).status == 200)
            growing.waitForReaders(1)
            growing.dropFile()
            #expect(!isGone.withLock { $0 })
            growing.state.update { ($0.isOver, $0.fails) = (true, true) }
            #expect(isGone.wait(until: .after(.seconds(20))) { $0 ? true : nil } == true)
        }
    }

    @Test func aReaderThatLeavesEndsNoOther() throws {
        try withGrowing(3 << 20) { port, growing, handler in
            let clients = try (0..<2).map { _ in try reader(port) }
            growing.waitForReaders(2)
            clients[0].close()
            try growing.land(growing.content.count)
            #expect(try clients[1].answer().body == growing.content)
            let ends = try #require(handler.ends.wait(until: .after(.seconds(20))) { $0.count == 2 ? $0 : nil })
            #expect(ends.count(where: \.isComplete) == 1)
        }
    }
}
