import FaultProxy
import ObjectStorage
import System
import Testing

private typealias Answer = ScriptedServer.Answer
private let key = ScriptedStore.key

/// What a store says of single parts, and of an upload, may be wrong. Its parts may be nowhere else.
@Suite struct S3PartFaultTests {
    private static let part = [UInt8](repeating: 7, count: 1_000)
    private static let wrong = [(name: "ETag", value: "\"00000000000000000000000000000000\"")]
    private static let upload = MultipartUpload(key: key, id: "u1")

    /// A store that says the truth until `answer` knows better.
    private func run(
        _ answer: @escaping @Sendable (ScriptedServer.Received, Int) -> ScriptedServer.Answer?,
        _ body: (Weather) throws -> Void
    ) throws {
        let server = ScriptedServer { request, number in
            if let answer = answer(request, number) { return answer }
            return switch request.operation {
            case .uploadPart: .ok("", [("ETag", "\"e1\"")])
            case .listParts: Self.listing()
            case .completeUpload: .ok("<CompleteMultipartUploadResult/>")
            case .head: Answer(headers: Self.wrong, length: 1_000)
            default: .status(400)
            }
        }
        try Weather.with(server) { test in try body(test) }
    }

    private static func listing(_ number: String = "1", _ etag: String = "&quot;e1&quot;", _ size: String = "1000")
        -> ScriptedServer.Answer
    {
        let part = "<Part><PartNumber>\(number)</PartNumber><ETag>\(etag)</ETag><Size>\(size)</Size></Part>"
        return .ok("<ListPartsResult>\(number.isEmpty ? "" : part)</ListPartsResult>")
    }

    private func send(_ test: Weather, _ body: ObjectBody = .bytes(part)) throws -> UploadedPart {
        try test.store.putPart(1, at: 0, of: Self.upload, body)
    }

    private func count(_ test: Weather, _ operation: Operation) -> Int {
        test.server.requests.count { $0.operation == operation }
    }

    /// Bug: the upload was lost when its parts were to be joined.
    @Test(arguments: [wrong, []])
    func aPartFromMemoryWithAnotherETagIsSentAgain(_ headers: [(name: String, value: String)]) throws {
        try run { request, number in
            number == 0 ? .ok("", headers) : nil
        } _: { test in
            let part = try send(test)
            #expect(part.etag == "e1" && part.length == 1_000)
            #expect(count(test, .uploadPart) == 2)
            let looks = test.server.requests.filter { $0.operation == .listParts }
            #expect(looks.allSatisfy { $0.target.contains("part-number-marker=0&") }, "\(looks)")
        }
    }

    @Test(arguments: [("", "e1", "1000"), ("2", "e1", "1000"), ("1", "e2", "1000"), ("1", "e1", "999")])
    func aPartThatIsListedInAnotherWayIsSentAgain(_ number: String, _ etag: String, _ size: String) throws {
        try run { request, requests in
            request.operation == .listParts && requests < 2 ? Self.listing(number, etag, size) : nil
        } _: { test in
            let part = try send(test)
            #expect(part.etag == "e1")
            #expect(count(test, .uploadPart) == 2)
        }
    }

    @Test func whatIsAlwaysWrongIsAnError() throws {
        try run { request, _ in
            request.operation == .uploadPart ? .ok("", Self.wrong) : nil
        } _: { test in
            let error = try test.error { _ in _ = try send(test) }
            guard case .damagedBody = error.kind, error.isRetryable else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// Then what was acknowledged counts.
    @Test(arguments: [
        ScriptedServer.Answer.status(403, "AccessDenied"), .status(501, "NotImplemented"), .status(404, "NoSuchUpload"),
        .status(500), .reset, .ok("<html/>"), .ok("nonsense"),
        .ok("<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>"),
    ])
    func aListingThatIsNotToBeHadDoesNotMatter(_ answer: ScriptedServer.Answer) throws {
        try run { request, _ in
            request.operation == .listParts ? answer : nil
        } _: { test in
            let part = try send(test)
            #expect(part.etag == "e1")
            #expect(count(test, .uploadPart) == 1)
        }
    }

    /// Its bytes are still there when the store does not take it.
    @Test func aPartOfAFileIsNotLookedFor() throws {
        try withTemporaryDirectory { directory in
            let file = try LocalFileSystem().open("\(directory)/body", .create)
            try LocalFileSystem().write(Self.part.span, to: file, at: 0)
            try run { _, _ in
                nil
            } _: { test in
                _ = try send(test, .file(file, offset: 0, length: 1_000))
                #expect(test.server.requests.map(\.operation) == [.uploadPart])
            }
        }
    }

    @Test(arguments: [Operation.uploadPart, .completeUpload])
    func anUploadThatIsDeniedAndListedIsThere(_ operation: Operation) throws {
        try expectError(where: [operation]) { error, test in
            guard case .conflict = error.kind, error.isRetryable else {
                Issue.record("\(error)")
                return
            }
            #expect(test.server.requests.last?.operation == .listParts)
        }
    }

    @Test(arguments: [Operation.uploadPart, .completeUpload])
    func oneThatIsNotListedIsGone(_ operation: Operation) throws {
        try expectError(where: [operation, .listParts]) { error, _ in
            guard case .noSuchUpload = error.kind else {
                Issue.record("\(error)")
                return
            }
        }
    }

    /// An upload that these operations know nothing of.
    private func expectError(where denying: [Operation], _ check: (StoreError, Weather) throws -> Void) throws {
        try run { request, _ in
            if denying.contains(request.operation) { return .status(404, "NoSuchUpload") }
            return [.head, .get].contains(request.operation) ? .status(404) : nil
        } _: { test in
            let error = try test.error { store in
                let part = try send(test)
                try store.completeUpload(Self.upload, [part], as: key)
            }
            try check(error, test)
        }
    }
}
