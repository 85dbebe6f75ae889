internal import HTTPClient
internal import Synchronization
internal import System

/// Bytes of bodies as they pass, and operations as they end, well or not.
final class Meter: Sendable {
    private let bytesPassed = Atomic<Int64>(0)
    private let operationsDone = Atomic<Int>(0)
    private let operationsFailed = Atomic<Int>(0)
    private let currentSample = Atomic<Int>(1)

    func add(bytes: Int) { bytesPassed.wrappingAdd(Int64(bytes), ordering: .relaxed) }
    func addOperation() { operationsDone.wrappingAdd(1, ordering: .relaxed) }
    func addFailure() { operationsFailed.wrappingAdd(1, ordering: .relaxed) }

    var bytes: Int64 { bytesPassed.load(ordering: .relaxed) }
    var operations: Int { operationsDone.load(ordering: .relaxed) }
    var failures: Int { operationsFailed.load(ordering: .relaxed) }

    /// That in which what passes now will be seen.
    var sampleNumber: Int {
        get { currentSample.load(ordering: .relaxed) }
        set { currentSample.store(newValue, ordering: .relaxed) }
    }
}

/// The bytes of one operation as they pass, which count only when it has succeeded.
final class Passage: Sendable {
    private let meter: Meter
    private let passed = Mutex<[Int: Int64]>([:])
    private let sent = Atomic(false)

    init(_ meter: Meter) { self.meter = meter }

    /// By the number of the sample in which they passed.
    var bytesBySample: [Int: Int64] { passed.withLock { $0 } }

    func add(bytes: Int) {
        meter.add(bytes: bytes)
        passed.withLock { $0[meter.sampleNumber, default: 0] += Int64(bytes) }
    }

    /// Something of a push has gone out, or was about to.
    var hasBegun: Bool { passed.withLock { !$0.isEmpty } }

    /// The last byte of a push has gone out.
    var isSent: Bool { sent.load(ordering: .relaxed) }
    func noteSent() { sent.store(true, ordering: .relaxed) }

    func startOver() {
        passed.withLock { $0 = [:] }
        sent.store(false, ordering: .relaxed)
    }
}

/// The body of a push, whose bytes pass by as they are sent.
struct MeteredSource: BodySource {
    let content: Content
    let passage: Passage

    var length: Int64 { content.length }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) -> Int {
        // A body that was challenged or redirected is sent once more.
        if offset == 0 { passage.startOver() }
        let count = content.read(at: offset, into: &buffer)
        passage.add(bytes: count)
        if offset + Int64(count) == length { passage.noteSent() }
        return count
    }
}
