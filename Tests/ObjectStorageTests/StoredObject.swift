import FaultProxy
import Hashing
import Synchronization

/// The one object of a scripted store.
final class Stored: Sendable {
    private let bytes = Mutex<[UInt8]?>(nil)

    var content: [UInt8]? { bytes.withLock { $0 } }

    func answer(_ request: ScriptedServer.Received, _ vendor: S3ProbeTests.Vendor) -> ScriptedServer.Answer {
        let current = content
        let tag = current.map { hexadecimal(md5($0)) }
        switch request.method {
        case "PUT":
            let status = refusal(request, vendor, tag)
            if status == nil || vendor == .refusesInWordsOnly { bytes.withLock { $0 = request.body } }
            if let status { return .status(status, status == 501 ? "NotImplemented" : nil) }
            return .ok("", [("ETag", "\"\(hexadecimal(md5(request.body)))\"")])
        case "DELETE":
            bytes.withLock { $0 = nil }
            return .status(204)
        default:
            guard let current, let tag else { return .status(404, request.method == "GET" ? "NoSuchKey" : nil) }
            return ScriptedServer.Answer(headers: [("ETag", "\"\(tag)\"")], body: current)
        }
    }

    private func refusal(
        _ request: ScriptedServer.Received,
        _ vendor: S3ProbeTests.Vendor,
        _ tag: String?
    ) -> Int? {
        let isForNew = request.headers["if-none-match"] != nil
        guard isForNew || request.headers["if-match"] != nil else { return nil }
        let wanted = request.headers["if-match"]
        switch vendor {
        case .ignoresAll: return nil
        case .refusesAll: return 501
        case .onlyIfAbsent where !isForNew: return nil
        case .wantsUnquotedTags where !isForNew: return wanted == tag ? nil : 412
        default: return (isForNew ? tag == nil : wanted == tag.map { "\"\($0)\"" }) ? nil : 412
        }
    }
}
