/// One request on its way: what libcurl's callbacks read and write.
///
/// Lives within one call of `perform`, on the thread that made it.
final class Transfer {
    typealias OnHead = (Response) throws -> Void
    typealias Receive = (Response, Span<UInt8>) throws -> Void

    let wire: WireRequest
    private let isCancelled: (@Sendable () -> Bool)?
    private let onHead: OnHead
    private let receive: Receive

    private(set) var head: ResponseHead
    private(set) var response: Response?
    private(set) var bytesReceived: Int64 = 0
    /// Where the next body byte of the request comes from.
    private var bodyOffset: Int64 = 0
    /// Requests sent: more than one when libcurl repeated it.
    private(set) var attempts = 0
    private var remoteAddress = ""
    /// Why a callback of ours ended the transfer.
    private(set) var stop: (kind: TransferError.Kind, detail: String)?

    init(
        _ wire: WireRequest,
        headerLimitBytes: Int,
        isCancelled: (@Sendable () -> Bool)?,
        onHead: @escaping OnHead,
        receive: @escaping Receive
    ) {
        self.wire = wire
        self.isCancelled = isCancelled
        self.onHead = onHead
        self.receive = receive
        head = ResponseHead(limitBytes: headerLimitBytes)
    }

    /// True from the moment when a connection stood and the request was about to be sent.
    var wasSent: Bool { attempts > 0 }

    var hasAnswer: Bool { head.bytes > 0 }

    /// Makes ready to be sent once more from the start.
    func rewind() {
        bodyOffset = 0
    }

    func stop(_ kind: TransferError.Kind, _ detail: String = "") {
        if stop == nil { stop = (kind, detail) }
    }

    // What follows returns false to end the transfer; `stop` then says why.

    /// A connection stands and the request comes next.
    func begin(on address: String) -> Bool {
        attempts += 1
        remoteAddress = address
        // libcurl repeats any request when a kept connection ends before it answers.
        guard attempts == 1 || wire.request.isIdempotent else {
            stop(.receiveFailed, "the kept connection was dead, and the request may not be sent twice")
            return false
        }
        return true
    }

    func append(headerLine line: Span<UInt8>) -> Bool {
        switch head.append(line) {
        case .more: return true
        case .tooLong:
            stop(.badResponse, "the head is longer than \(head.limitBytes) bytes")
            return false
        case .malformed:
            stop(.badResponse, "a header line is malformed")
            return false
        case .complete:
            let response = Response(status: head.status, headers: head.headers, remoteAddress: remoteAddress)
            self.response = response
            return receiver { try onHead(response) }
        }
    }

    func append(body: Span<UInt8>) -> Bool {
        guard let response else {
            stop(.badResponse, "a body without a head")
            return false
        }
        bytesReceived += Int64(body.count)
        return receiver { try receive(response, body) }
    }

    private func receiver(_ body: () throws -> Void) -> Bool {
        do {
            try body()
            return true
        } catch {
            stop(.receiver(error))
            return false
        }
    }

    /// Fills `memory` with what comes next of the request's body; `nil` ends the transfer.
    func fill(_ memory: UnsafeMutableBufferPointer<UInt8>) -> Int? {
        let length = wire.request.body.length
        let room = Int(min(Int64(memory.count), length - bodyOffset))
        guard room > 0 else { return 0 }
        let target = UnsafeMutableBufferPointer(rebasing: memory[..<room])
        let count: Int
        switch wire.request.body {
        case .none: return 0
        case .bytes(let bytes):
            _ = target.update(fromContentsOf: bytes[Int(bodyOffset)..<Int(bodyOffset) + room])
            count = room
        case .source(let source):
            do {
                var span = OutputSpan(buffer: target, initializedCount: 0)
                let returned = try source.read(at: bodyOffset, into: &span)
                count = span.finalize(for: target)
                precondition(returned == count, "a body source returned \(returned) for \(count) bytes")
                if count == 0 { throw SourceEndedEarly(offset: bodyOffset, length: length) }
            } catch {
                stop(.source(error))
                return nil
            }
        }
        bodyOffset += Int64(count)
        return count
    }

    func seek(to offset: Int64) -> Bool {
        guard (0...wire.request.body.length).contains(offset) else { return false }
        bodyOffset = offset
        return true
    }

    /// Asked about once a second at least, and whenever bytes move.
    func mayContinue() -> Bool {
        guard let isCancelled, isCancelled() else { return true }
        stop(.cancelled)
        return false
    }
}
