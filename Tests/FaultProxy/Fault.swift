/// What the proxy does to an exchange.
package enum Fault: Sendable {
    /// The server never sees the request; this is said in its place.
    case answer(FaultProxy.Answer)
    /// The server does its work, and this is said instead of what it answers.
    case replace(FaultProxy.Answer)
    /// The request waits before it goes on.
    case delay(Duration)
    /// A field of the answer gets another value, or goes. A Content-Length then lies about the body.
    case header(String, String?)
    /// Something happens to the request's body on its way.
    case request(Trouble)
    /// Something happens to the answer's body on its way.
    case response(Trouble)
}

/// What happens to a body. Offsets are in bytes from its start; the framing of chunks counts.
package enum Trouble: Sendable {
    /// The connection is closed in order.
    case cut(after: Int)
    /// The connection is reset.
    case reset(after: Int)
    /// Nothing goes on, until the client or the test gives up.
    case stall(after: Int)
    /// One bit of this byte changes.
    case flip(at: Int)
    case throttle(bytesPerSecond: Int)
}

/// Which requests a rule is for. What is `nil` does not matter.
package struct Match: Sendable {
    package var operation: Operation?
    package var method: String?
    /// A part of the path and query.
    package var target: String?

    package static let any = Match()
    package static func operation(_ operation: Operation, _ target: String? = nil) -> Match {
        Match(operation: operation, target: target)
    }
    package static func method(_ method: String, _ target: String? = nil) -> Match {
        Match(method: method, target: target)
    }
    package static func target(_ target: String) -> Match { Match(target: target) }

    func holds(for request: FaultProxy.Received) -> Bool {
        if let operation, operation != request.operation { return false }
        if let method, method != request.method { return false }
        if let target, !request.target.contains(target) { return false }
        return true
    }
}

/// Which of the requests that a rule matches it acts on; they are counted from 1.
package struct Calls: Sendable {
    let contains: @Sendable (Int) -> Bool

    package static let all = Calls { _ in true }
    package static func first(_ count: Int) -> Calls { Calls { $0 <= count } }
    package static func nth(_ number: Int) -> Calls { Calls { $0 == number } }
    package static func every(_ step: Int) -> Calls { Calls { $0 % step == 0 } }
    package static func after(_ count: Int) -> Calls { Calls { $0 > count } }
}

/// What a request asks of an S3 server that is addressed by path.
package enum Operation: String, Sendable, CaseIterable {
    case get, head, put, copy, delete, list, deleteMany
    case createUpload, uploadPart, completeUpload, abortUpload, listUploads, listParts
    /// To the bucket or the service as a whole.
    case bucket

    init(_ method: String, _ target: String, isCopy: Bool) {
        let parts = target.split(separator: "?", maxSplits: 1)
        let query = parts.count > 1 ? parts[1].split(separator: "&").map { $0.split(separator: "=").first ?? "" } : []
        let hasKey = (parts.first ?? "").split(separator: "/", maxSplits: 1).count > 1
        self =
            switch method {
            case "GET" where hasKey: query.contains("uploadId") ? .listParts : .get
            case "GET" where query.contains("uploads"): .listUploads
            case "GET" where query.contains("list-type") || query.contains("prefix"): .list
            case "HEAD" where hasKey: .head
            case "PUT" where hasKey && query.contains("partNumber"): .uploadPart
            case "PUT" where hasKey: isCopy ? .copy : .put
            case "POST" where query.contains("uploads"): .createUpload
            case "POST" where query.contains("uploadId"): .completeUpload
            case "POST" where query.contains("delete"): .deleteMany
            case "DELETE" where hasKey: query.contains("uploadId") ? .abortUpload : .delete
            default: .bucket
            }
    }
}
