import FaultProxy
import HTTPClient
import Hashing
import ObjectStorage
import OCI
import System
import Threading

/// What is done to a store in bad weather, and how what came of it is checked against the store in good weather.
struct FaultedOperation: Sendable {
    /// Which way a body goes that a fault may strike.
    enum Direction {
        case up, down, none
    }

    let name: String
    let operation: Operation
    let direction: Direction
    /// Makes what is there before.
    let prepare: @Sendable (_ store: S3Store, _ key: ObjectKey) throws -> Void
    /// Does it; what came of it, in a word.
    let run: @Sendable (_ store: S3Store, _ key: ObjectKey) throws -> String
    /// Looks at the truth; `nil` when it agrees with what was said, an error with no word.
    let check: @Sendable (_ truth: S3Store, _ key: ObjectKey, _ word: String?) throws -> String?

    static let small = pattern(5_000, seed: 3)
    static let blob = pattern(1 << 20, seed: 4)
    static let large = pattern(11 << 20, seed: 5)

    static var all: [FaultedOperation] {
        let hasConditions = !S3TestServer.lacks.contains("conditions")
        return [
            getBlob, getSmall, head, put("put", small, .put), begin,
            putInParts(.uploadPart, "part"), putInParts(.completeUpload, "completion"), move, abort,
        ]
            + (hasConditions ? [putIfAbsent] : []) + [list, delete]
    }

    private static let getBlob = FaultedOperation(
        name: "get blob",
        operation: .get,
        direction: .down,
        prepare: { store, key in try store.put(key, .bytes(blob)) },
        run: { store, key in
            var hash = ContentHash(.sha256)
            _ = try store.get(key, range: nil, ifNoneMatch: nil, begin: { _ in }, receive: { hash.update($0) })
            // As all who read blobs do.
            return hash.digest() == Digest(of: blob) ? "done" : "refused by digest"
        },
        check: { _, _, _ in nil }
    )

    private static let getSmall = FaultedOperation(
        name: "get small",
        operation: .get,
        direction: .down,
        prepare: { store, key in try store.put(key, .bytes(small)) },
        run: { store, key in try store.contents(of: key, limitBytes: 1 << 20)?.bytes == small ? "done" : "WRONG BYTES"
        },
        check: { _, _, _ in nil }
    )

    private static let head = FaultedOperation(
        name: "head",
        operation: .head,
        direction: .none,
        prepare: { store, key in try store.put(key, .bytes(small)) },
        run: { store, key in
            guard let size = try store.head(key)?.size else { return "SAID TO BE ABSENT" }
            return size == small.count ? "done" : "believed"
        },
        check: { _, _, _ in nil }
    )

    private static func put(_ name: String, _ bytes: [UInt8], _ operation: Operation) -> FaultedOperation {
        FaultedOperation(
            name: name,
            operation: operation,
            direction: operation == .completeUpload ? .none : .up,
            prepare: { _, _ in },
            run: { store, key in
                _ = try store.put(key, .bytes(bytes))
                return "done"
            },
            check: { truth, key, word in try whole(bytes, truth, key, word) }
        )
    }

    private static func whole(_ bytes: [UInt8], _ truth: S3Store, _ key: ObjectKey, _ word: String?) throws -> String? {
        let stored = try truth.contents(of: key, limitBytes: 64 << 20)?.bytes
        if word != nil { return stored == bytes ? nil : "LOST" }
        return stored == nil || stored == bytes ? nil : "HALF WRITTEN"
    }

    private static func putInParts(_ operation: Operation, _ name: String) -> FaultedOperation {
        put(name, large, operation)
    }

    private static let begin = FaultedOperation(
        name: "begin",
        operation: .createUpload,
        direction: .none,
        prepare: { _, _ in },
        run: { store, key in
            _ = try store.beginUpload(key, contentType: nil)
            return "done"
        },
        check: { truth, key, word in
            let begun = try truth.pendingUploads(prefix: "\(key)", continuation: nil).uploads
            return word != nil && begun.isEmpty ? "LOST" : nil
        }
    )

    private static let move = FaultedOperation(
        name: "copy",
        operation: .copy,
        direction: .none,
        prepare: { _, _ in },
        run: { store, key in
            let upload = try store.beginUpload(try ObjectKey("\(key)-unnamed"), contentType: nil)
            let part = try store.putPart(1, at: 0, of: upload, .bytes(small))
            try store.completeUpload(upload, [part], as: key)
            return "done"
        },
        check: { truth, key, word in try whole(small, truth, key, word) }
    )

    private static let abort = FaultedOperation(
        name: "abort",
        operation: .abortUpload,
        direction: .none,
        prepare: { _, _ in },
        run: { store, key in
            try store.abortUpload(try store.beginUpload(key, contentType: nil))
            return "done"
        },
        check: { truth, key, word in
            let left = try truth.pendingUploads(prefix: "\(key)", continuation: nil).uploads
            return word == nil || left.isEmpty ? nil : "STILL THERE"
        }
    )

    private static let putIfAbsent = FaultedOperation(
        name: "put if absent",
        operation: .put,
        direction: .up,
        prepare: { _, _ in },
        run: { store, key in
            let outcome = try store.put(key, .bytes(small), contentType: nil, condition: .ifAbsent)
            return outcome == .conditionFailed ? "read again" : "done"
        },
        check: { truth, key, word in
            let stored = try truth.contents(of: key, limitBytes: 1 << 20)?.bytes
            if word == "done" { return stored == small ? nil : "LOST" }
            return stored == nil || stored == small ? nil : "HALF WRITTEN"
        }
    )

    private static let list = FaultedOperation(
        name: "list",
        operation: .list,
        direction: .down,
        prepare: { store, key in
            for index in 0..<3 { try store.put(try ObjectKey("\(key)/\(index)"), .bytes([1])) }
        },
        run: { store, key in
            var keys: [String] = []
            try store.listAll(prefix: "\(key)/") { keys += $0.objects.map(\.key.description) }
            return keys == (0..<3).map { "\(key)/\($0)" } ? "done" : "WRONG LIST"
        },
        check: { _, _, _ in nil }
    )

    private static let delete = FaultedOperation(
        name: "delete",
        operation: .delete,
        direction: .none,
        prepare: { store, key in try store.put(key, .bytes(small)) },
        run: { store, key in
            try store.delete(key)
            return "done"
        },
        check: { truth, key, word in
            let stored = try truth.head(key)
            return word != nil && stored != nil ? "STILL THERE" : nil
        }
    )
}

/// One kind of bad weather.
struct TableFault: Sendable {
    let name: String
    /// A single such event must do no harm.
    var passes = true
    /// `nil`: it cannot happen to that operation.
    let faults: @Sendable (FaultedOperation) -> [Fault]?

    private static func body(_ name: String, _ trouble: Trouble, passes: Bool = true) -> TableFault {
        TableFault(name: name, passes: passes) { operation in
            switch operation.direction {
            case .up: [.request(trouble)]
            case .down: [.response(trouble)]
            case .none: nil
            }
        }
    }

    private static func answer(
        _ name: String,
        _ answer: @escaping @Sendable () -> FaultProxy.Answer
    ) -> TableFault {
        TableFault(name: name) { _ in [.answer(answer())] }
    }

    static let all: [TableFault] = [
        // The proxy refuses connections, all of them.
        TableFault(name: "connection refused") { _ in [] },
        answer("reset at once") { .reset },
        answer("no answer") { .silence },
        TableFault(name: "lost answer") { _ in [.replace(.reset)] },
        body("reset within the body", .reset(after: 500)),
        body("cut after 500 bytes", .cut(after: 500)),
        body("stall after 500 bytes", .stall(after: 500)),
        body("flipped bit", .flip(at: 300)),
        TableFault(name: "too short a length") { operation in
            operation.direction == .up ? nil : [.header("Content-Length", "100")]
        },
        TableFault(name: "too long a length") { operation in
            operation.direction == .up ? nil : [.header("Content-Length", "2000000")]
        },
        TableFault(name: "wrong ETag") { _ in [.header("ETag", "\"00000000000000000000000000000000\"")] },
        answer("200 with an error") { .status(200, "InternalError") },
        answer("500") { .status(500, "InternalError") },
        answer("503 SlowDown") { .status(503, "SlowDown") },
        answer("429") { .status(429) },
        // This machine's clock is two hours behind: the store itself refuses, and the proxy does so for ever.
        answer("403 clock skew") {
            let date = SystemTime().wallTime().httpDate
            return .status(403, "RequestTimeTooSkewed", headers: [("Date", date)])
        },
        answer("301 other region") {
            .status(301, "PermanentRedirect", headers: [("x-amz-bucket-region", S3TestServer.region)])
        },
        answer("403 denied") { .status(403, "AccessDenied") },
        // Of something before the store that has lost the way to it.
        answer("404 of another") { .status(404) },
    ]
}

/// One cell: a fault that strikes once, or each time.
struct FaultCell: Sendable {
    let operation: FaultedOperation
    let fault: TableFault
    let isLasting: Bool

    /// The outcome in a word or two; capitals are for what must never be.
    func outcome(in folder: String, serverPort: UInt16) throws -> String? {
        guard let faults = fault.faults(operation) else { return nil }
        if faults.isEmpty, !isLasting { return nil }
        let proxy = try FaultProxy(to: serverPort)
        defer { proxy.stop() }
        let store = try store(port: proxy.port)
        let truth = try S3TestServer.store(addressing: .path)
        let key = try ObjectKey("\(folder)/\(SystemRandom().token())")
        // A probe would find out by itself where some stores are, and what time it is.
        if !isSkewed, !isElsewhere { try store.probe(at: try ObjectKey("\(key)-probe")) }
        try operation.prepare(truth, key)
        if let fault = faults.first {
            let calls = isLasting ? Calls.all : isSkewed ? Calls.first(0) : Calls.nth(1)
            proxy.on(.operation(operation.operation), calls, fault)
        } else {
            proxy.stop()
        }
        proxy.forget()
        let word: String?
        let said: String
        do {
            let result = try operation.run(store, key)
            word = result
            said =
                result == "done" && (proxy.requests.count { $0.operation == operation.operation } > expectedRequests)
                ? "done again" : result
        } catch let error as StoreError {
            word = nil
            said = error.word
        }
        return try operation.check(truth, key, word) ?? said
    }

    private var isSkewed: Bool { fault.name == "403 clock skew" }
    private var isElsewhere: Bool { fault.name == "301 other region" }

    /// Without a fault.
    private var expectedRequests: Int { operation.operation == .uploadPart ? 3 : 1 }

    private func store(port: UInt16) throws -> S3Store {
        var configuration = try S3TestServer.configuration(addressing: .path)
        let region = isElsewhere && S3TestServer.region != "elsewhere" ? "elsewhere" : S3TestServer.region
        configuration.endpoint = try S3Endpoint(
            "http://127.0.0.1:\(port)",
            bucket: S3TestServer.bucket,
            region: region,
            addressing: .path
        )
        configuration.transferThreads = 2
        configuration.completionStallSeconds = 2
        var client = ClientConfiguration()
        client.proxy = .none
        client.stallSeconds = 2
        client.connectTimeoutMilliseconds = 1_000
        let time = SkewedTime(offsetSeconds: isSkewed ? -7_200 : 0)
        return S3Store(configuration, client: try Client(client), time: time, sleep: { _ in })
    }
}

/// The kernel's clocks, set wrong.
private struct SkewedTime: TimeSource {
    let offsetSeconds: Int64

    func monotonicNanoseconds() -> UInt64 { SystemTime().monotonicNanoseconds() }

    func wallTime() -> WallTime {
        var time = SystemTime().wallTime()
        time.seconds += offsetSeconds
        return time
    }
}

extension StoreError {
    /// Its kind in a word.
    fileprivate var word: String {
        if case .receiver(is TooLarge) = kind { return "too large" }
        return "\(kind)".prefix { $0 != "(" }.description
    }
}
