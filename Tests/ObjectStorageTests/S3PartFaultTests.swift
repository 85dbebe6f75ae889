import FaultProxy
import Hashing
import ObjectStorage
import Synchronization
import System
import Testing

private typealias Answer = ScriptedServer.Answer
private let key = ScriptedStore.key

/// What a store says of single parts, and of an upload, may be wrong. Its parts may be nowhere else.
@Suite struct S3PartFaultTests {
    private static let part = [UInt8](repeating: 7, count: 1_000)
    private static let wrong = [(name: "ETag", value: "\"00000000000000000000000000000000\"")]
    private static let upload = MultipartUpload(key: key, id: "u1")

    /// A store that says the truth, and has been probed, until `answer` knows better.
    private func run(
        isProbed: Bool = true,
        _ answer: @escaping @Sendable (ScriptedServer.Received, Int) -> ScriptedServer.Answer?,
        _ body: (Weather) throws -> Void
    ) throws {
        let object = Stored()
        let isProbing = Atomic(true)
        let server = ScriptedServer { request, number in
            if isProbing.load(ordering: .relaxed) { return object.answer(request, .honoursAll) }
            if let answer = answer(request, number) { return answer }
            return switch request.operation {
            case .uploadPart: .ok("", [("ETag", "\"\(hexadecimal(md5(request.body)))\"")])
            case .completeUpload: .ok("<CompleteMultipartUploadResult/>")
            case .head: Answer(headers: Self.wrong, length: 1_000)
            case .listParts: .ok("<ListPartsResult/>")
            default: .status(400)
            }
        }
        try Weather.with(server) { test in
            if isProbed { #expect(try test.store.probe(at: key).etagIsContentHash) }
            isProbing.store(false, ordering: .relaxed)
            server.forget()
            try body(test)
        }
    }

    private func send(_ test: Weather, _ body: ObjectBody = .bytes(part)) throws -> UploadedPart {
        try test.store.putPart(1, at: 0, of: Self.upload, body)
    }

    /// Bug: the upload was lost when its parts were to be joined.
    @Test(arguments: [wrong, []])
    func aPartFromMemoryWithAnotherETagIsSentAgain(_ headers: [(name: String, value: String)]) throws {
        try run { request, number in
            number == 0 ? .ok("", headers) : nil
        } _: { test in
            let part = try send(test)
            #expect(part.etag == hexadecimal(md5(Self.part)))
            #expect(test.server.requests.map(\.operation) == [.uploadPart, .uploadPart])
        }
    }

    @Test func whatIsAlwaysWrongIsAnError() throws {
        try run { _, _ in
            .ok("", Self.wrong)
        } _: { test in
            guard case .damagedBody = try test.error({ _ in _ = try send(test) }).kind else {
                Issue.record("accepted")
                return
            }
        }
    }

    /// Its bytes are still there when the store does not take it.
    @Test func aPartOfAFileIsNotCompared() throws {
        try withTemporaryDirectory { directory in
            let file = try LocalFileSystem().open("\(directory)/body", .create)
            try LocalFileSystem().write(Self.part.span, to: file, at: 0)
            try run { _, _ in
                .ok("", Self.wrong)
            } _: { test in
                let part = try send(test, .file(file, offset: 0, length: 1_000))
                #expect(part.etag.hasPrefix("0000"))
            }
        }
    }

    @Test func withoutAProbeATagIsNoMD5() throws {
        try run(isProbed: false) { _, _ in
            .ok("", Self.wrong)
        } _: { test in
            let part = try send(test)
            #expect(part.etag.hasPrefix("0000"))
            #expect(test.server.requests.count == 1)
        }
    }

    @Test(arguments: [Operation.uploadPart, .completeUpload])
    func anUploadThatIsDeniedAndListedIsThere(_ operation: Operation) throws {
        try run { request, _ in
            switch request.operation {
            case operation: .status(404, "NoSuchUpload")
            case .head: .status(404)
            default: nil
            }
        } _: { test in
            let error = try test.error { store in
                let part = try send(test)
                try store.completeUpload(Self.upload, [part], as: key)
            }
            guard case .conflict = error.kind, error.isRetryable else {
                Issue.record("\(error)")
                return
            }
            #expect(test.server.requests.last?.operation == .listParts)
        }
    }

    @Test(arguments: [Operation.uploadPart, .completeUpload])
    func oneThatIsNotListedIsGone(_ operation: Operation) throws {
        try run { request, _ in
            switch request.operation {
            case operation, .listParts: .status(404, "NoSuchUpload")
            case .head: .status(404)
            default: nil
            }
        } _: { test in
            let error = try test.error { store in
                let part = try send(test)
                try store.completeUpload(Self.upload, [part], as: key)
            }
            guard case .noSuchUpload = error.kind else {
                Issue.record("\(error)")
                return
            }
        }
    }
}
