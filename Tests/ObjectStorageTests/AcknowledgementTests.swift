import FaultProxy
import Hashing
import ObjectStorage
import Synchronization
import Testing

private let key = ScriptedStore.key
private typealias Answer = ScriptedServer.Answer

/// What a store says that it did, and what is made of it.
@Suite struct AcknowledgementTests {
    private static let body = Array("0123456789".utf8)
    private static let tag = "\"\(hexadecimal(md5(body)))\""

    private func expectSuccess(
        after lie: Answer,
        sourceLocation: SourceLocation = #_sourceLocation,
        _ put: (S3Store) throws -> PutOutcome
    ) throws {
        let isProbed = Atomic(false)
        let object = Stored()
        let server = ScriptedServer { request, number in
            guard isProbed.load(ordering: .relaxed) else { return object.answer(request, .honoursAll) }
            return number == 0 ? lie : .ok("", [("ETag", Self.tag)])
        }
        try server.withStore { test in
            try test.store.probe(at: key)
            isProbed.store(true, ordering: .relaxed)
            server.forget()
            #expect(try put(test.store) == .stored(etag: hexadecimal(md5(Self.body))), sourceLocation: sourceLocation)
            #expect(server.requests.count == 2, sourceLocation: sourceLocation)
        }
    }

    /// Something between us and the store answers in its place, or the store kept other bytes: nothing is acknowledged for it.
    @Test(arguments: [
        FaultProxy.Answer.ok(""), .ok("<html></html>"), .status(204), .ok("", [("ETag", "\"\"")]),
        .ok("", [("ETag", "\"d41d8cd98f00b204e9800998ecf8427e\"")]),
    ])
    func aPutThatStoredSomethingElseIsRepeated(_ lie: FaultProxy.Answer) throws {
        try expectSuccess(after: lie) { try $0.put(key, .bytes(Self.body)) }
    }

    /// What is there under the same name and with the same length may still be something else.
    @Test(arguments: [("0123456789", true), ("0123456788", false), ("012345678", false)])
    func anObjectIsComparedByItsMD5(_ there: String, _ isHeld: Bool) throws {
        let object = Stored()
        let server = ScriptedServer { request, _ in object.answer(request, .honoursAll) }
        try server.withStore { test in
            try test.store.probe(at: key)
            try test.store.put(key, .bytes(Array(there.utf8)))
            #expect(try test.store.holds(key, .bytes(Self.body)) == isHeld)
        }
    }

    @Test func aLieThatIsRepeatedIsAnError() throws {
        let server = ScriptedServer { _, _ in .ok("") }
        try server.withStore { test in
            let error = try test.error { try $0.put(key, .bytes(Self.body)) }
            guard case .invalidResponse = error.kind else {
                Issue.record("\(error)")
                return
            }
            #expect(error.isRetryable)
        }
    }

    @Test func aPageIsNoDelete() throws {
        let server = ScriptedServer { _, number in number == 0 ? .ok("<html></html>") : .status(204) }
        try server.withStore { test in
            try test.store.delete(key)
            #expect(server.requests.count == 2)
        }
    }

    /// A byte that changed on the way during the probe would cost a node conditional writes for as long as it runs.
    @Test(arguments: 0..<12)
    func oneFlippedAnswerDoesNotSpoilTheProbe(_ flipped: Int) throws {
        let object = Stored()
        let server = ScriptedServer { request, number in
            var answer = object.answer(request, .honoursAll)
            if number == flipped, !answer.body.isEmpty { answer.body[0] ^= 1 }
            return answer
        }
        try server.withStore { test in
            let found = try test.store.probe(at: key)
            #expect(found.ifAbsent && found.ifMatch && found.etagIsContentHash)
        }
    }

    @Test func eachRequestIsTold() throws {
        let server = ScriptedServer { _, number in
            switch number {
            case 0: .status(500, "InternalError")
            case 1: .status(503, "SlowDown")
            case 3, 4: .status(404, "NoSuchKey")
            default: .ok("", [("ETag", Self.tag)])
            }
        }
        let told = Mutex<[String]>([])
        var configuration = try server.configuration()
        configuration.requested = { operation, code in told.withLock { $0.append("\(operation) \(code)") } }
        try server.withStore(configuration) { test in
            try test.store.put(key, .bytes(Self.body))
            // Bug: that a HEAD's 404 is confirmed by a GET was counted nowhere.
            #expect(try test.store.head(key) == nil)
            #expect(told.withLock { $0 } == ["put 500", "put 503", "put 200", "head 404", "head 404"])
        }
    }

    /// A bucket that everybody may read and nobody may list denies what is missing.
    @Test(arguments: [true, false])
    func aMissingObjectOfABucketThatMayNotBeListed(isAnonymous: Bool) throws {
        let server = ScriptedServer { request, _ in
            if request.target.contains("there") { return .ok("", [("ETag", "\"1\"")]) }
            return request.method == "HEAD" ? .status(403) : .status(403, "AccessDenied")
        }
        var configuration = try server.configuration()
        if isAnonymous { configuration.credentials = .anonymous }
        try server.withStore(configuration) { test in
            #expect(throws: StoreError.self) { try test.store.head(key) }
            #expect(throws: StoreError.self) { try test.store.check() }
            let write = try test.error { try $0.put(key, .bytes(Self.body)) }
            if case .anonymous = write.kind {
                #expect(isAnonymous)
            } else if case .denied = write.kind {
                #expect(!isAnonymous)
            } else {
                Issue.record("\(write)")
            }
            // Bug: a bucket of which nothing may be read looked empty.
            #expect(throws: StoreError.self) { try test.store.head(key) }
            #expect(throws: StoreError.self) { try test.store.contents(of: key, limitBytes: 10) }
            #expect(try test.store.head(ObjectKey("there")) != nil)
            if isAnonymous {
                let (info, object) = (try test.store.head(key), try test.store.contents(of: key, limitBytes: 10))
                #expect(info == nil && object == nil)
            } else {
                #expect(throws: StoreError.self) { try test.store.head(key) }
                #expect(throws: StoreError.self) { try test.store.contents(of: key, limitBytes: 10) }
            }
        }
    }
}
