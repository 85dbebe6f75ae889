import FaultProxy
import HTTPClient
import Hashing
import OCI
import Synchronization
import System
import Testing

@testable import ObjectStorage

private typealias Answer = ScriptedServer.Answer
private let key = ScriptedStore.key
private let text = "0123456789abcdefghij"

/// An honest answer to a range request, cut after some bytes if so wanted.
private func part(
    _ request: ScriptedServer.Received,
    etag: String = "e1",
    cutAfter: Int? = nil
) -> ScriptedServer.Answer {
    let all = Array(text.utf8)
    var range = 0..<all.count
    var headers = [(name: "ETag", value: "\"\(etag)\"")]
    if let asked = request.headers["range"]?.dropFirst(6).split(separator: "-").compactMap({ Int($0) }) {
        range = asked[0]..<(asked.count > 1 ? min(asked[1] + 1, all.count) : all.count)
        headers.append(("Content-Range", "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(all.count)"))
    }
    var answer = Answer(status: headers.count > 1 ? 206 : 200, headers: headers, body: Array(all[range]))
    if let cutAfter {
        answer.length = range.count
        answer.body = Array(answer.body.prefix(cutAfter))
        answer.closes = true
    }
    return answer
}

@Suite struct S3DownloadFaultTests {
    @Test func aCutBodyIsContinued() throws {
        let server = ScriptedServer { request, number in part(request, cutAfter: number < 2 ? 5 : nil) }
        try server.withStore { test in
            let result = try test.read()
            #expect(result.text == text && result.begun == 1)
            #expect(test.server.requests.map { $0.headers["range"] } == [nil, "bytes=5-19", "bytes=10-19"])
        }
    }

    @Test func aCutRangeIsContinued() throws {
        let server = ScriptedServer { request, number in part(request, cutAfter: number == 0 ? 3 : nil) }
        try server.withStore { test in
            let result = try test.read(2..<12)
            #expect(result.text == "23456789ab" && result.begun == 1)
            #expect(test.server.requests.map { $0.headers["range"] } == ["bytes=2-11", "bytes=5-11"])
        }
    }

    @Test func aBodyThatIsAlwaysCutIsAnError() throws {
        let server = ScriptedServer { request, _ in part(request, cutAfter: 1) }
        try server.withStore { test in
            let error = try test.error { _ in _ = try test.read() }
            guard case .damagedBody = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(test.server.requests.count == 4)
        }
    }

    @Test func anObjectReplacedMeanwhileIsNotContinued() throws {
        let server = ScriptedServer { request, number in
            number == 0 ? part(request, cutAfter: 5) : part(request, etag: "e2")
        }
        try server.withStore { test in
            let error = try test.error { _ in _ = try test.read() }
            guard case .conflict = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(test.server.requests.count == 2)
        }
    }

    @Test func withoutAnETagNothingIsContinued() throws {
        let server = ScriptedServer { request, _ in
            var answer = part(request, cutAfter: 5)
            answer.headers = []
            return answer
        }
        try server.withStore { test in
            let error = try test.error { _ in _ = try test.read() }
            #expect(!error.isRetryable && test.server.requests.count == 1)
        }
    }

    /// Some stores ignore ranges and send everything.
    @Test(arguments: [0..<20, 0..<5, 3..<8, 15..<20, 19..<100] as [Range<Int64>])
    func aWholeAnswerToARange(_ range: Range<Int64>) throws {
        let server = ScriptedServer { _, _ in .ok(text, [("ETag", "\"e1\"")]) }
        try server.withStore { test in
            let result = try test.read(range)
            let expected = Array(text.utf8)[Int(range.lowerBound)..<Int(min(range.upperBound, 20))]
            #expect(result.text == String(decoding: expected, as: UTF8.self))
            var info = ObjectInfo(size: 20, etag: "e1")
            info.cameWhole = expected.count < 20
            #expect(result.outcome == .complete(info))
        }
    }

    /// Some stores send a part and call it everything.
    @Test(arguments: [0..<5, 3..<8, 15..<100, 0..<20] as [Range<Int64>])
    func aPartUnderStatus200(_ range: Range<Int64>) throws {
        let server = ScriptedServer { request, _ in
            var answer = part(request)
            answer.status = 200
            return answer
        }
        try server.withStore { test in
            let result = try test.read(range)
            let expected = Array(text.utf8)[Int(range.lowerBound)..<Int(min(range.upperBound, 20))]
            #expect(result.text == String(decoding: expected, as: UTF8.self))
            #expect(result.outcome == .complete(ObjectInfo(size: 20, etag: "e1")))
        }
    }

    /// After the last byte that was wanted, the rest is not waited for.
    @Test func aWholeAnswerIsNotReadToItsEnd() throws {
        let server = ScriptedServer { _, _ in Answer(body: Array(text.utf8.prefix(10)), length: 1 << 40, closes: true) }
        try server.withStore {
            test in
            let result = try test.read(3..<8)
            var info = ObjectInfo(size: 1 << 40)
            info.cameWhole = true
            #expect(result.text == "34567" && result.outcome == .complete(info))
            #expect(test.server.requests.count == 1)
        }
    }

    @Test func aWholeAnswerToARangePastTheEnd() throws {
        let server = ScriptedServer { _, _ in .ok(text) }
        try server.withStore { test in
            let error = try test.error { _ in _ = try test.read(20..<30) }
            guard case .invalidRange = error.kind else {
                Issue.record("\(error)")
                return
            }
        }
    }

    @Test(arguments: [
        "bytes 0-4/20", "bytes 3-7/20", "bytes 2-6/20", "bytes 2-8/20", "bytes 2-7/*", "nonsense", "",
        "bytes 2-7/99999999999999999999",
    ])
    func aWrongPart(_ range: String) throws {
        let server = ScriptedServer { _, _ in
            // As long as it claims to be, so that nothing else is wrong.
            let numbers = range.split { !$0.isNumber }.compactMap { Int($0) }
            let length = numbers.count > 1 ? numbers[1] - numbers[0] + 1 : 6
            return Answer(
                status: 206,
                headers: [("Content-Range", range)],
                body: Array(repeating: 0x78, count: length)
            )
        }
        try server.withStore { test in
            let error = try test.error { _ in _ = try test.read(2..<8) }
            if case .invalidResponse = error.kind, test.server.requests.count == 1 { return }
            Issue.record("\(error)")
        }
    }

    @Test func aPartThatNobodyAskedFor() throws {
        let server = ScriptedServer { _, _ in
            Answer(status: 206, headers: [("Content-Range", "bytes 0-5/20")], body: Array("012345".utf8))
        }
        try server.withStore { test in
            guard case .invalidResponse = try test.error({ _ in _ = try test.read() }).kind else {
                Issue.record("accepted")
                return
            }
        }
    }

    @Test func noLengthAtAll() throws {
        let server = ScriptedServer { _, _ in Answer(body: Array(text.utf8), length: -1, closes: true) }
        try server.withStore { test in
            guard case .invalidResponse = try test.error({ _ in _ = try test.read() }).kind,
                case .invalidResponse = try test.error({ _ = try $0.head(key) }).kind
            else {
                Issue.record("accepted")
                return
            }
        }
    }

    @Test(arguments: [204, 201, 304])
    func anUnexpectedStatus(_ status: Int) throws {
        let server = ScriptedServer { _, _ in Answer(status: status, length: status == 201 ? 0 : -1) }
        try server.withStore { test in
            guard case .invalidResponse = try test.error({ _ in _ = try test.read() }).kind else {
                Issue.record("accepted")
                return
            }
        }
    }
}

@Suite struct S3UploadFaultTests {
    /// A server that takes uploads in parts, but for the requests that `change` answers.
    private func uploads(
        _ change: @escaping @Sendable (ScriptedServer.Received, Int) -> ScriptedServer.Answer?
    ) -> ScriptedServer {
        ScriptedServer { request, number in
            if let answer = change(request, number) { return answer }
            switch (request.method, request.target) {
            case ("POST", let target) where target.hasSuffix("?uploads="):
                return .ok("<R><UploadId>u&amp;1</UploadId></R>")
            case ("PUT", _):
                return .ok("", [("ETag", "\"part-\(request.body.count)\"")])
            case ("POST", _):
                let result = "<CompleteMultipartUploadResult><ETag/></CompleteMultipartUploadResult>"
                return .ok("  \n <?xml version=\"1.0\"?>\(result)")
            case ("HEAD", _):
                return Answer(headers: [("ETag", "\"whole-3\"")], length: 2_500)
            default:
                return .status(204)
            }
        }
    }

    private func run(_ server: ScriptedServer, _ body: (ScriptedStore) throws -> Void) throws {
        var configuration = try server.configuration()
        configuration.multipartThresholdBytes = 1_000
        configuration.partBytes = 1_000
        try server.withStore(configuration, body)
    }

    private let body = [UInt8](repeating: 7, count: 2_500)

    private func count(_ test: ScriptedStore, _ method: String, _ part: String) -> Int {
        test.server.requests.count { $0.method == method && $0.target.contains(part) }
    }

    @Test func sendsPartsAndJoinsThem() throws {
        let server = uploads { _, _ in nil }
        try run(server) { test in
            let outcome = try test.store.put(key, .bytes(body), contentType: "type/x")
            #expect(outcome == .stored(etag: "whole-3"))
            let requests = test.server.requests
            #expect(requests.first?.headers["content-type"] == "type/x")
            let parts = requests.filter { $0.method == "PUT" }.sorted { $0.target < $1.target }
            #expect(parts.map(\.body.count) == [1_000, 1_000, 500])
            #expect(parts.map(\.target) == (1...3).map { "/bucket/a/b?partNumber=\($0)&uploadId=u%261" })
            let completion = try #require(requests.first { $0.method == "POST" && !$0.target.contains("uploads") })
            let listed = [(1, 1_000), (2, 1_000), (3, 500)]
                .map { "<Part><PartNumber>\($0)</PartNumber><ETag>\"part-\($1)\"</ETag></Part>" }.joined()
            #expect(completion.text == "<CompleteMultipartUpload>\(listed)</CompleteMultipartUpload>")
        }
    }

    /// The threads that sent its parts may hold the last reference to a store.
    @Test func aStoreMayGoRightAfterAnUpload() throws {
        for _ in 0..<50 {
            try run(uploads { _, _ in nil }) { test in try test.store.put(key, .bytes(body)) }
        }
    }

    @Test func aBodyOfTheThresholdGoesInOnePiece() throws {
        let server = uploads { _, _ in nil }
        try run(server) { test in
            try test.store.put(key, .bytes(Array(body.prefix(1_000))))
            #expect(test.server.requests.map(\.target) == ["/bucket/a/b"])
        }
    }

    @Test func aFailedPartEndsTheUpload() throws {
        let server = uploads { request, _ in
            request.target.contains("partNumber=2") ? .status(403, "AccessDenied") : nil
        }
        try run(server) {
            test in
            let error = try test.error { try $0.put(key, .bytes(body)) }
            #expect(error.code == "AccessDenied")
            #expect(count(test, "DELETE", "uploadId=u%261") == 1, "aborted")
            #expect(count(test, "POST", "uploadId") == 0, "not completed")
        }
    }

    @Test func aFailedPartIsSentAgain() throws {
        let server = uploads { request, number in
            request.target.contains("partNumber=3") && number < 4 ? .status(503, "SlowDown") : nil
        }
        try run(server) { test in
            try test.store.put(key, .bytes(body))
            #expect(count(test, "DELETE", "") == 0)
        }
    }

    @Test func anErrorInACompletionWithStatus200IsRepeated() throws {
        let server = uploads { request, _ in
            request.method == "POST" && request.target.contains("uploadId") ? .status(200, "InternalError") : nil
        }
        try run(server) { test in
            let error = try test.error { try $0.put(key, .bytes(body)) }
            #expect(error.status == 200 && error.code == "InternalError")
            guard case .serverFailure = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(count(test, "POST", "uploadId") == 4 && count(test, "DELETE", "uploadId") == 1)
        }
    }

    @Test(arguments: ["", "   ", "<Complete", "text"])
    func aCompletionThatSaysNothingIsNoSuccess(_ answer: String) throws {
        let server = uploads { request, _ in
            request.method == "POST" && request.target.contains("uploadId") ? .ok(answer) : nil
        }
        try run(server) { test in
            _ = try test.error { try $0.put(key, .bytes(body)) }
        }
    }

    @Test func aCompletionWhoseAnswerWasLostIsFound() throws {
        let isJoined = Atomic(false)
        let server = uploads { request, _ in
            guard request.operation == .completeUpload else { return nil }
            let wasJoined = isJoined.exchange(true, ordering: .relaxed)
            return wasJoined ? .status(404, "NoSuchUpload") : .status(500, "InternalError")
        }
        try run(server) { test in
            let outcome = try test.store.put(key, .bytes(body))
            #expect(outcome == .stored(etag: "whole-3"))
        }
    }

    @Test func anUploadThatIsUnknownAtOnceIsAnError() throws {
        let server = uploads { request, _ in
            request.method == "POST" && request.target.contains("uploadId") ? .status(404, "NoSuchUpload") : nil
        }
        try run(server) { test in
            let error = try test.error { try $0.put(key, .bytes(body)) }
            #expect(error.code == "NoSuchUpload")
        }
    }

    @Test func aStoredObjectOfAnotherSizeIsAnError() throws {
        let server = uploads { request, _ in request.method == "HEAD" ? Answer(length: 2_499) : nil }
        try run(server) { test in
            guard case .damagedBody = try test.error({ try $0.put(key, .bytes(body)) }).kind else {
                Issue.record("accepted")
                return
            }
        }
    }

    @Test func aConditionIsNeverSentInParts() throws {
        let server = uploads { _, _ in nil }
        try run(server) { test in
            _ = try test.store.put(key, .bytes(body), contentType: nil, condition: .ifAbsent)
            #expect(test.server.requests.map(\.target) == ["/bucket/a/b"])
            #expect(test.server.requests.first?.headers["if-none-match"] == "*")
        }
    }

    @Test func aFileThatEndsEarlyIsNotStored() throws {
        try withTemporaryDirectory { directory in
            let fileSystem = LocalFileSystem()
            let file = try fileSystem.open("\(directory)/body", .create)
            try fileSystem.write(body.span, to: file, at: 0)
            let server = uploads { _, _ in nil }
            try run(server) { test in
                let error = try test.error { try $0.put(key, .file(file, offset: 2_000, length: 501)) }
                guard case .damagedBody = error.kind else {
                    Issue.record("\(error)")
                    return
                }
                #expect(!test.server.requests.contains { $0.method == "PUT" }, "never sent whole")
            }
        }
    }

    @Test func aKnownDigestIsSignedAsItIs() throws {
        try withTemporaryDirectory { directory in
            let file = try LocalFileSystem().open("\(directory)/body", .create)
            try LocalFileSystem().write(body.span, to: file, at: 0)
            let digest = try Digest("sha256:" + String(repeating: "ab", count: 32))
            let server = uploads { _, _ in nil }
            try run(server) { test in
                try test.store.put(key, .file(file, offset: 0, length: 900, digest: digest))
                #expect(test.server.requests.first?.headers["x-amz-content-sha256"] == digest.hex)
                #expect(test.server.requests.first?.headers["x-amz-security-token"] == "token-text")
                #expect(test.server.requests.first?.body.count == 900)
            }
        }
    }

    @Test(arguments: [
        ("http", S3Configuration.PayloadSigning.always, true), ("http", .notOverTLS, true), ("https", .always, true),
        ("https", .notOverTLS, false),
    ])
    func bodiesAreHashedUnlessTLSProtectsThem(
        _ scheme: String,
        _ signing: S3Configuration.PayloadSigning,
        _ isHashed: Bool
    ) throws {
        var configuration = S3Configuration(
            endpoint: try S3Endpoint("\(scheme)://127.0.0.1", bucket: "bucket", region: "r"),
            credentials: .anonymous
        )
        configuration.payloadSigning = signing
        let store = S3Store(configuration, client: try Client(ClientConfiguration()))
        let payload = try store.payload(.bytes(body), S3Request(.put, "PUT", key))
        #expect(payload.hash == (isHashed ? Digest(of: body).hex : "UNSIGNED-PAYLOAD"))
    }

    @Test func anonymousRequestsAreNotSigned() throws {
        let server = ScriptedServer { _, _ in .ok() }
        var configuration = try server.configuration()
        configuration.credentials = .anonymous
        try server.withStore(configuration) { test in
            _ = try test.store.head(key)
            let headers = try #require(test.server.requests.first).headers
            #expect(headers["authorization"] == nil && headers["x-amz-date"] == nil)
        }
    }
}
