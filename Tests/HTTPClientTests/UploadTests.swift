import HTTPClient
import Synchronization
import Testing
import Threading

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

/// Gives at most `step` bytes a time, and notes where it was asked to begin.
private final class MemorySource: BodySource {
    let bytes: [UInt8]
    let length: Int64
    private let step: Int
    private let starts = Mutex(0)

    init(_ bytes: [UInt8], step: Int = 100_003, length: Int? = nil) {
        self.bytes = bytes
        self.step = step
        self.length = Int64(length ?? bytes.count)
    }

    /// How often it was read from the start.
    var beginnings: Int { starts.withLock { $0 } }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws -> Int {
        if offset == 0 { starts.withLock { $0 += 1 } }
        let piece = bytes[Int(offset)...].prefix(min(step, buffer.freeCapacity))
        buffer.withUnsafeMutableBufferPointer { memory, count in
            _ = memory[count...].update(fromContentsOf: piece)
            count += piece.count
        }
        return piece.count
    }
}

/// As many bytes as asked for, up to an offset where it fails.
private struct MonotonousSource: BodySource {
    struct Failure: Error {}
    let length: Int64
    var failsFrom = Int64.max

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws -> Int {
        if offset >= failsFrom { throw Failure() }
        buffer.append(repeating: 1, count: buffer.freeCapacity)
        return buffer.count
    }
}

/// Blocks that differ, so that a piece in the wrong place shows.
private func content(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count)
    for block in 0...count / 4_093 {
        bytes.append(contentsOf: repeatElement(UInt8(truncatingIfNeeded: block), count: 4_093))
    }
    bytes.removeSubrange(count...)
    return bytes
}

@Suite struct UploadTests {
    /// Up to 65,536 bytes libcurl has a body as a whole, and would name a type for it.
    @Test(arguments: [0, 1, 65_535, 65_536, 65_537, 3_000_000], ["PUT", "POST", "DELETE"])
    func bytesArriveWhole(_ count: Int, _ method: String) throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let body = content(count)
        let client = try Client(.test())
        for type in [nil, "text/plain"] {
            let headers = type.map { [(name: "content-type", value: $0)] } ?? []
            try client.perform(Request(method, server.url, headers: headers, body: .bytes(body)))
            let request = try #require(requests.withLock { $0.last })
            #expect(request.body == body)
            #expect(request.values("Expect") == [])
            #expect(request.values("Content-Type") == (type.map { [$0] } ?? []))
        }
        #expect(client.statistics.bytesSent == 2 * count)
    }

    @Test func aSourceIsReadInPieces() throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let source = MemorySource(content(9_000_001))
        let client = try Client(.test())
        for _ in 0..<2 { try client.perform(Request("PUT", server.url, body: .source(source))) }
        #expect(requests.withLock { $0.allSatisfy { $0.body == source.bytes } })
        #expect(source.beginnings == 2)
        #expect(client.statistics.bytesSent == 18_000_002)
    }

    /// The server takes the request on a kept connection, then resets it. Whether libcurl sees that while it sends or while it reads
    /// is up to the race, so several rounds.
    @Test func anUploadOverADeadConnectionIsSentAgainFromItsStart() throws {
        let received = Monitor<[[UInt8]]>([])
        let server = LoopbackServer { connection in
            if let first = connection.readRequest() {
                if !first.body.isEmpty { received.update { $0.append(first.body) } }
                connection.send(ok)
            }
            guard connection.readHead() != nil, connection.readBody(200_000) != nil else { return }
            connection.reset()
        }
        let source = MemorySource(content(8_000_000))
        for round in 1...8 {
            let client = try Client(.test())
            try client.perform(Request("GET", server.url))
            try client.perform(Request("PUT", server.url, body: .source(source)))
            #expect(source.beginnings == 2 * round)
            #expect(client.statistics.repeats == 1)
            #expect(client.statistics.connectionsOpened == 2)
        }
        #expect(received.withLock { $0.count == 8 && $0.allSatisfy { $0 == source.bytes } })
    }

    @Test func aFailingSourceEndsTheRequest() throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(
                Request("PUT", server.url, body: .source(MonotonousSource(length: 10 << 20, failsFrom: 1)))
            )
        }
        guard case .source(let reason) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason is MonotonousSource.Failure)
        #expect(requests.withLock { $0.isEmpty })
    }

    @Test func aSourceThatEndsEarlyEndsTheRequest() throws {
        let (server, requests) = LoopbackServer.answering(ok)
        let source = MemorySource(content(1_000), length: 2_000)
        let error = failure { () throws(TransferError) in
            try Client(.test()).perform(Request("PUT", server.url, body: .source(source)))
        }
        guard case .source(let reason) = error?.kind else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason as? SourceEndedEarly == SourceEndedEarly(offset: 1_000, length: 2_000))
        #expect(requests.withLock { $0.isEmpty })
    }

    @Test func aSuccessBeforeTheBodyIsSentIsNone() throws {
        let server = LoopbackServer { connection in
            guard connection.readHead() != nil else { return }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.waitForEnd()
        }
        let error = failure { () throws(TransferError) in
            try Client(.test { $0.uploadBufferBytes = 64 << 10 })
                .perform(Request("PUT", server.url, body: .source(MonotonousSource(length: 64 << 20))))
        }
        #expect(error?.kindName == "badResponse", "\(String(describing: error))")
    }

    @Test func aRefusalBeforeTheBodyIsSentIsReturned() throws {
        let server = LoopbackServer { connection in
            guard connection.readHead() != nil else { return }
            connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            connection.waitForEnd()
        }
        let (response, body) = try Client(.test())
            .perform(Request("PUT", server.url, body: .source(MonotonousSource(length: 64 << 20))))
        #expect(response.status == 403)
        #expect(String(body) == "no")
    }
}
