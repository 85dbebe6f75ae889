import FaultProxy
import Testing

/// A bucket that fails, is full, or has the blob already: what a client that pushes sees, and what the bucket.
@Suite("Origin trouble during a push")
struct OriginTroubleTests {
    /// Put as a whole.
    private static let small = noise(100_000, seed: 91)
    /// Sent in parts, the third of which is short.
    private static let large = noise(40 << 20, seed: 92)
    private static let sending: [Operation] = [.put, .createUpload, .uploadPart, .completeUpload, .copy]

    private func withBucket(_ flags: [String] = [], _ body: (Forebay, FaultProxy, S3Origin) throws -> Void) throws {
        let origin = try S3Origin(server: S3Server.required())
        try withForebay(origin, flags: flags) { try body($0, origin.relay, origin) }
    }

    private func expectStored(_ content: [UInt8], _ origin: S3Origin) throws {
        #expect(try same(origin.object("epoch/blobs/sha256/\(sha256Hex(content))"), content))
        #expect(try origin.keys().count == 1, "nothing else is left")
    }

    /// Sends `content` in one PATCH; the session's path.
    private func patch(_ content: [UInt8], _ forebay: Forebay) throws -> String {
        let session = try Repository(forebay).openUpload()
        let response = try forebay.endpoint.request("PATCH", session, body: .bytes(content))
        #expect(response.status == 202, "\(response.text)")
        return try #require(response.location)
    }

    @Test(arguments: [(500, "InternalError", 502), (503, "SlowDown", 503), (507, "InsufficientStorage", 507)])
    func aRetryOfThePutAloneFinishesThePush(_ status: Int, _ code: String, _ expected: Int) throws {
        try withBucket { forebay, relay, origin in
            for content in [Self.small, Self.large] {
                let session = try patch(content, forebay)
                for operation in Self.sending where operation != .uploadPart && operation != .createUpload {
                    relay.on(.operation(operation), .all, .answer(.status(status, code)))
                }
                let closing = adding("digest=\(sha256(content))", to: session)
                let failure = try forebay.endpoint.request("PUT", closing)
                #expect(failure.status == expected, "\(failure.text)")
                #expect(!failure.errorCodes.isEmpty)
                let progress = try forebay.endpoint.request("GET", session)
                #expect(progress.status == 204)
                #expect(progress["Range"] == "0-\(content.count - 1)")
                relay.clear()
                relay.forget()
                let success = try forebay.endpoint.request("PUT", closing)
                #expect(success.status == 201, "\(success.text)")
                if status != 507 { #expect(relay.count(.operation(.uploadPart)) == 0, "the parts were there") }
                try expectStored(content, origin)
                try origin.remove("epoch/blobs/sha256/\(sha256Hex(content))")
            }
        }
    }

    /// There is no session that could be kept: the same request does it.
    @Test func aWholeUploadInOneRequestCanBeRepeated() throws {
        try withBucket { forebay, relay, origin in
            let repository = Repository(forebay)
            let query = "blobs/uploads/?digest=\(sha256(Self.small))"
            relay.on(.operation(.put), .all, .answer(.status(500, "InternalError")))
            let failure = try repository.request("POST", query, body: .bytes(Self.small))
            #expect(failure.status == 502, "\(failure.text)")
            #expect(try repository.request("HEAD", "blobs/\(sha256(Self.small))").status == 404)
            relay.clear()
            #expect(try repository.request("POST", query, body: .bytes(Self.small)).status == 201)
            try expectStored(Self.small, origin)
        }
    }

    @Test func whatTheBucketHasIsNotSentAgain() throws {
        try withBucket(["--push-ahead", "known"]) { forebay, relay, _ in
            let repository = Repository(forebay)
            for content in [Self.small, Self.large] {
                let digest = sha256(content)
                try repository.push(blob: content)
                // Not even by a node that has never seen it.
                try forebay.restart(wipingCache: true)
                relay.forget()
                try repository.push(blob: content)
                let query = "blobs/uploads/?digest=\(digest)"
                #expect(try repository.request("POST", query, body: .bytes(content)).status == 201)
                let closing = adding("digest=\(digest)", to: try patch(content, forebay))
                #expect(try forebay.endpoint.request("PUT", closing).status == 201)
                #expect(Self.sending.allSatisfy { relay.count(.operation($0)) == 0 }, "\(relay.requestLines)")
            }
        }
    }

    /// Bug: what is no larger than a request was sent again where the origin had it.
    @Test func aSmallBlobIsNotSentAgainEither() throws {
        try withBucket { forebay, relay, origin in
            let content = noise(10_000, seed: 93)
            let query = "blobs/uploads/?digest=\(sha256(content))"
            for expected in [[Operation.head, .put], [.head]] {
                relay.forget()
                #expect(try Repository(forebay).request("POST", query, body: .bytes(content)).status == 201)
                // That the origin lacks the bucket is looked for now and then.
                #expect(relay.requests.map(\.operation).filter { $0 != .get } == expected)
                try expectStored(content, origin)
                try forebay.restart(wipingCache: true)
            }
        }
    }

    /// Who asks first does not send it at all.
    @Test func aKnownBlobIsNotAskedFor() throws {
        try withBucket { forebay, _, _ in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: Self.small)
            for path in ["blobs/uploads/?digest=\(digest)", ""] {
                let target = path.isEmpty ? adding("digest=\(digest)", to: try repository.openUpload()) : nil
                let connection = try Connection(to: forebay.endpoint)
                try connection.sendHead(
                    target == nil ? "POST" : "PUT",
                    target ?? repository.path(path),
                    ["Expect": "100-continue"],
                    body: .bytes(Self.small)
                )
                #expect(try connection.readHead().status == 201)
            }
        }
    }

    /// Bug: a client that asked first was told that a blob is there of which the origin has only a part.
    @Test func aBlobThatIsThereInPartIsAskedFor() throws {
        let origin = try DirectoryOrigin()
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            for (content, isWhole) in [(Self.small, true), (Self.small, false), (Self.large, false)] {
                let (digest, key) = (sha256(content), "epoch/blobs/sha256/\(sha256Hex(content))")
                try origin.write(Array(content.dropLast(7)), to: key)
                let target =
                    isWhole
                    ? repository.path("blobs/uploads/?digest=\(digest)")
                    : adding("digest=\(digest)", to: try repository.openUpload())
                let connection = try Connection(to: forebay.endpoint)
                let method = isWhole ? "POST" : "PUT"
                try connection.sendHead(method, target, ["Expect": "100-continue"], body: .bytes(content))
                #expect(try connection.readHead().status == 100)
                try connection.socket.send(content[...])
                #expect(try connection.readResponse().status == 201)
                #expect(try same(origin.object(key), content))
                try origin.remove(key)
                try forebay.restart(wipingCache: true)
            }
        }
    }

    /// Bug: after the bucket had failed, the PUT alone was told that its digest is wrong, since the bytes are nowhere.
    @Test func whoRepeatsThePutAloneIsToldToSendTheBytes() throws {
        let origin = try S3Origin(server: S3Server.required())
        try withForebay(origin, cacheSize: "32MiB") { forebay in
            let session = try Repository(forebay).openUpload()
            let closing = adding("digest=\(sha256(Self.large))", to: session)
            origin.relay.on(.operation(.uploadPart), .all, .answer(.status(500, "InternalError")))
            let failure = try forebay.endpoint.request("PUT", closing, body: .bytes(Self.large))
            #expect(failure.status == 502, "\(failure.text)")
            origin.relay.clear()
            let refusal = try forebay.endpoint.request("PUT", closing)
            expectError(refusal, 416, "BLOB_UPLOAD_INVALID")
            #expect(refusal["Range"] == "0-0" && refusal.location == session)
            #expect(try forebay.endpoint.request("PUT", closing, body: .bytes(Self.large)).status == 201)
            try expectStored(Self.large, origin)
        }
    }

    /// Copies are quick at some stores: what was sent before the digest was known is not sent again after a kill.
    @Test(arguments: ["always", "known"])
    func partsOutliveAKill(_ policy: String) throws {
        try withBucket(["--push-ahead", policy]) { forebay, relay, origin in
            let session = try patch(Self.large, forebay)
            if policy == "always" {
                try poll(for: "a part to be there") { relay.count(.operation(.uploadPart)) > 0 ? () : nil }
            }
            forebay.kill()
            try forebay.start()
            let response = try forebay.endpoint.request("PUT", adding("digest=\(sha256(Self.large))", to: session))
            #expect(response.status == 201, "\(response.text)")
            #expect(relay.count(.operation(.createUpload)) == 1, "the upload goes on")
            try expectStored(Self.large, origin)
        }
    }

    /// What a node began that is gone for good, with its disk, is aborted by any other.
    @Test func abandonedUploadsGoAfterTheGracePeriod() throws {
        try withBucket(["--push-ahead", "always", "--upload-expiry", "10s", "--upload-grace", "11s"]) {
            forebay,
            relay,
            origin in
            let connection = try Connection(to: forebay.endpoint)
            try connection.sendHead("PATCH", try Repository(forebay).openUpload(), body: .bytes(Self.large))
            try connection.socket.send(Self.large[..<(36 << 20)])
            try poll(for: "a part to be there") { relay.count(.operation(.uploadPart)) > 0 ? () : nil }
            forebay.kill()
            try forebay.wipeCache()
            let left = try origin.server.uploads(in: origin.bucket)
            #expect(left.count == 1 && left.allSatisfy { $0.hasPrefix("epoch/_uploads/") }, "\(left)")
            try forebay.start()
            try poll(for: "the upload to be aborted") {
                try origin.server.uploads(in: origin.bucket).isEmpty ? () : nil
            }
            try poll(for: "the log to tell it") { forebay.log.contains("abandoned uploads removed") ? () : nil }
            #expect(try origin.keys() == [])
        }
    }

    /// What the disk has no room for is in the bucket alone until the push is done.
    @Test(arguments: [Operation.copy, .completeUpload, .head, .uploadPart])
    func aRetryOfThePutAloneFinishesAPushPastTheDisk(_ operation: Operation) throws {
        let origin = try S3Origin(server: S3Server.required())
        try withForebay(origin, cacheSize: "32MiB") { forebay in
            let relay = origin.relay
            let isLie = operation == .uploadPart
            let lie = Fault.header("ETag", "\"00000000000000000000000000000000\"")
            let refusal = Fault.answer(.status(403, "AccessDenied"))
            if operation == .head {
                relay.on(.target("blobs"), .all, refusal)
            } else {
                relay.on(.operation(operation), .nth(1), isLie ? lie : refusal)
            }
            let session = try patch(Self.large, forebay)
            let closing = adding("digest=\(sha256(Self.large))", to: session)
            if !isLie {
                let failure = try forebay.endpoint.request("PUT", closing)
                #expect(failure.status == 502, "\(failure.text)")
                #expect(try forebay.endpoint.request("GET", session)["Range"] == "0-\(Self.large.count - 1)")
                relay.clear()
            }
            let success = try forebay.endpoint.request("PUT", closing)
            #expect(success.status == 201, "\(success.text)")
            #expect(relay.count(.operation(.copy)) > 0, "it went past the disk")
            #expect(relay.count(.operation(.uploadPart)) == (isLie ? 4 : 3))
            try expectStored(Self.large, origin)
        }
    }

    /// The bucket's owner has given it so much room and no more.
    @Test func aFullBucketTakesThePushOnceThereIsRoom() throws {
        try withBucket { forebay, _, origin in
            try origin.server.limit(origin.bucket, toBytes: 50_000)
            for content in [Self.small, Self.large] {
                let session = try patch(content, forebay)
                let closing = adding("digest=\(sha256(content))", to: session)
                for _ in 0..<2 {
                    let failure = try forebay.endpoint.request("PUT", closing)
                    expectError(failure, 507, "DENIED")
                    #expect(failure.text.contains("no space") && failure.text.contains("QuotaExceeded"))
                }
                #expect(try forebay.endpoint.request("GET", session)["Range"] == "0-\(content.count - 1)")
                try origin.server.limit(origin.bucket, toBytes: nil)
                try poll(for: "the server to know of it") {
                    try forebay.endpoint.request("PUT", closing).status == 201 ? () : nil
                }
                try expectStored(content, origin)
                try origin.remove("epoch/blobs/sha256/\(sha256Hex(content))")
                try origin.server.limit(origin.bucket, toBytes: 50_000)
            }
        }
    }

    @Test func whatTheProbeFoundIsLogged() throws {
        try withBucket { forebay, _, _ in
            #expect(forebay.log.contains("probed the origin") && forebay.log.contains("if-none-match"))
        }
    }
}
