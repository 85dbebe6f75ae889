import FaultProxy
import Testing

@Suite("Uploads over raw HTTP")
struct UploadTests {
    static let content = noise(300_000, seed: 21)
    static let digest = sha256(content)

    /// What a client may rely on once an upload was answered with 201.
    private func expectStored(
        _ response: Response,
        _ repository: Repository,
        digest: String = digest,
        content: [UInt8] = content,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(response.status == 201, "\(response.text)", sourceLocation: sourceLocation)
        #expect(response["Docker-Content-Digest"] == digest, sourceLocation: sourceLocation)
        let location = try #require(response.location, sourceLocation: sourceLocation)
        let stored = try repository.endpoint.request("GET", location)
        #expect(stored.status == 200, sourceLocation: sourceLocation)
        #expect(same(stored.body, content), sourceLocation: sourceLocation)
    }

    private func expectAbsent(
        _ digest: String,
        _ forebay: Forebay,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let head = try Repository(forebay).request("HEAD", "blobs/\(digest)")
        #expect(head.status == 404, sourceLocation: sourceLocation)
        let hex = String(digest.split(separator: ":")[1])
        #expect(try !forebay.origin.keys().contains { $0.contains(hex) }, sourceLocation: sourceLocation)
    }

    @Test(arguments: OriginKind.allCases)
    func oneRequestIsAWholeUpload(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let response = try repository.request(
                "POST",
                "blobs/uploads/?digest=\(Self.digest)",
                ["Content-Type": "application/octet-stream"],
                body: .bytes(Self.content)
            )
            try expectStored(response, repository)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aSessionTakesTheWholeBlobInItsPut(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let opened = try repository.request("POST", "blobs/uploads/")
            #expect(opened.status == 202)
            #expect(opened["Range"] == nil || opened["Range"] == "0-0")
            let session = try #require(opened.location)
            let response = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(Self.digest)", to: session),
                body: .bytes(Self.content)
            )
            try expectStored(response, repository)
            #expect(try forebay.endpoint.request("GET", session).status == 404, "a finished session is gone")
        }
    }

    @Test(arguments: OriginKind.allCases)
    func chunksAreJoined(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            var session = try repository.openUpload()
            for range in [0..<100_000, 100_000..<100_001, 100_001..<250_000] {
                let response = try forebay.endpoint.request(
                    "PATCH",
                    session,
                    ["Content-Range": "\(range.lowerBound)-\(range.upperBound - 1)"],
                    body: .bytes(Array(Self.content[range]))
                )
                #expect(response.status == 202, "\(response.text)")
                #expect(response["Range"] == "0-\(range.upperBound - 1)")
                session = try #require(response.location)
            }
            let response = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(Self.digest)", to: session),
                ["Content-Range": "250000-299999"],
                body: .bytes(Array(Self.content[250_000...]))
            )
            try expectStored(response, repository)
        }
    }

    @Test func aChunkOutOfOrderIsRefusedAndTheSessionGoesOn() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            var session = try repository.openUpload()
            let first = try forebay.endpoint.request(
                "PATCH",
                session,
                ["Content-Range": "0-99999"],
                body: .bytes(Array(Self.content[..<100_000]))
            )
            session = try #require(first.location)
            for start in [0, 50_000, 100_001, 200_000] {
                let response = try forebay.endpoint.request(
                    "PATCH",
                    session,
                    ["Content-Range": "\(start)-\(start + 9_999)"],
                    body: .bytes(Array(Self.content[start..<start + 10_000]))
                )
                #expect(response.status == 416, "chunk at \(start)")
            }
            let misplaced = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(Self.digest)", to: session),
                ["Content-Range": "200000-299999"],
                body: .bytes(Array(Self.content[200_000...]))
            )
            #expect(misplaced.status == 416, "the last chunk is no exception")

            let status = try forebay.endpoint.request("GET", session)
            #expect(status.status == 204)
            #expect(status["Range"] == "0-99999")
            session = try #require(status.location)
            let response = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(Self.digest)", to: session),
                ["Content-Range": "100000-299999"],
                body: .bytes(Array(Self.content[100_000...]))
            )
            try expectStored(response, repository)
        }
    }

    @Test func aContentRangeMustFitItsBody() throws {
        try withForebay { forebay in
            let session = try Repository(forebay).openUpload()
            for range in ["0-99", "0-5000", "x-y", "5-2", "-", "0-999/*junk"] {
                let response = try forebay.endpoint.request(
                    "PATCH",
                    session,
                    ["Content-Range": range],
                    body: .bytes(Array(Self.content[..<1_000]))
                )
                #expect([400, 416].contains(response.status), "\(range)")
            }
            let status = try forebay.endpoint.request("GET", session)
            #expect(status.status == 204)
            #expect(status["Range"] == nil || status["Range"] == "0-0", "nothing was taken")
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aStreamWithoutAnAnnouncedLengthIsTaken(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let session = try repository.openUpload()
            let pieces = stride(from: 0, to: 300_000, by: 70_001).map {
                Array(Self.content[$0..<min($0 + 70_001, 300_000)])
            }
            let patched = try forebay.endpoint.request("PATCH", session, body: .chunked(pieces))
            #expect(patched.status == 202)
            #expect(patched["Range"] == "0-299999")
            let next = try #require(patched.location)
            try expectStored(
                try forebay.endpoint.request("PUT", adding("digest=\(Self.digest)", to: next)),
                repository
            )
        }
    }

    @Test func aSecondStreamGoesOnWhereTheFirstEnded() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            var session = try repository.openUpload()
            for half in [Self.content[..<150_000], Self.content[150_000...]] {
                let response = try forebay.endpoint.request("PATCH", session, body: .bytes(Array(half)))
                #expect(response.status == 202)
                session = try #require(response.location)
            }
            try expectStored(
                try forebay.endpoint.request("PUT", adding("digest=\(Self.digest)", to: session)),
                repository
            )
        }
    }

    @Test func aCancelledUploadIsGone() throws {
        try withForebay { forebay in
            var session = try Repository(forebay).openUpload()
            let patched = try forebay.endpoint.request("PATCH", session, body: .bytes(Self.content))
            session = try #require(patched.location)
            #expect(try forebay.endpoint.request("DELETE", session).status == 204)
            for method in ["GET", "DELETE", "PATCH"] {
                expectError(try forebay.endpoint.request(method, session), 404, "BLOB_UPLOAD_UNKNOWN")
            }
            let put = try forebay.endpoint.request("PUT", adding("digest=\(Self.digest)", to: session))
            expectError(put, 404, "BLOB_UPLOAD_UNKNOWN")
            try expectAbsent(Self.digest, forebay)
        }
    }

    @Test func anUnknownSessionIsUnknown() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            for id in ["00000000-0000-4000-8000-000000000000", "nothing", "..%2f..%2fetc"] {
                let response = try repository.request("GET", "blobs/uploads/\(id)")
                #expect([400, 404].contains(response.status), "\(id)")
                #expect(!response.errorCodes.isEmpty, "\(id)")
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aWrongDigestLeavesNothing(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let wrong = sha256([1, 2, 3])
            let session = try repository.openUpload()
            let put = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(wrong)", to: session),
                body: .bytes(Self.content)
            )
            expectError(put, 400, "DIGEST_INVALID")
            let post = try repository.request("POST", "blobs/uploads/?digest=\(wrong)", body: .bytes(Self.content))
            expectError(post, 400, "DIGEST_INVALID")
            try expectAbsent(wrong, forebay)
            try expectAbsent(Self.digest, forebay)
        }
    }

    @Test func aMissingOrMalformedDigestIsInvalid() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let session = try repository.openUpload()
            expectError(try forebay.endpoint.request("PUT", session), 400, "DIGEST_INVALID")
            for digest in ["sha256:12", "md5:\(sha256Hex([]).prefix(32))", "x", ""] {
                let put = try forebay.endpoint.request("PUT", adding("digest=\(digest)", to: session))
                expectError(put, 400, "DIGEST_INVALID")
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func sha512IsAsGood(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let digest = sha512(Self.content)
            let whole = try repository.request("POST", "blobs/uploads/?digest=\(digest)", body: .bytes(Self.content))
            try expectStored(whole, repository, digest: digest)
            // Said at once, so that the server can hash while it receives; or only at the end.
            for (query, seed) in [("?digest-algorithm=sha512", UInt64(31)), ("", 32)] {
                let content = noise(200_000, seed: seed)
                let session = try repository.openUpload(query)
                let patched = try forebay.endpoint.request("PATCH", session, body: .bytes(content))
                let next = try #require(patched.location)
                let put = try forebay.endpoint.request("PUT", adding("digest=\(sha512(content))", to: next))
                try expectStored(put, repository, digest: sha512(content), content: content)
            }
            let wrong = try repository.request(
                "POST",
                "blobs/uploads/?digest=\(sha512([9]))",
                body: .bytes(Self.content)
            )
            expectError(wrong, 400, "DIGEST_INVALID")
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aKnownBlobIsMounted(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let source = Repository(forebay, "library/source")
            let target = Repository(forebay, "team/target")
            try source.push(blob: Self.content)
            let mounted = try target.request("POST", "blobs/uploads/?mount=\(Self.digest)&from=library/source")
            try expectStored(mounted, target)

            let missing = sha256([4, 5, 6])
            let refused = try target.request("POST", "blobs/uploads/?mount=\(missing)&from=library/source")
            #expect(refused.status == 202)
            let session = try #require(refused.location)
            let put = try forebay.endpoint.request(
                "PUT",
                adding("digest=\(missing)", to: session),
                body: .bytes([4, 5, 6])
            )
            try expectStored(put, target, digest: missing, content: [4, 5, 6])

            let unnamed = try target.request("POST", "blobs/uploads/?mount=\(Self.digest)")
            #expect([201, 202].contains(unnamed.status))
            #expect(unnamed.location != nil)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func manyUploadsOfOneBlobAtOnceAllSucceed(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let statuses = try inParallel(6) { index in
                try repository.request(
                    "POST",
                    "blobs/uploads/?digest=\(Self.digest)",
                    body: index.isMultiple(of: 2) ? .bytes(Self.content) : .chunked([Self.content])
                ).status
            }
            #expect(statuses == Array(repeating: 201, count: 6))
            #expect(try same(repository.request("GET", "blobs/\(Self.digest)").body, Self.content))
        }
    }

    @Test func aClientMayAskBeforeItSends() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let connection = try Connection(to: forebay.endpoint)
            try connection.sendHead(
                "POST",
                repository.path("blobs/uploads/?digest=\(Self.digest)"),
                ["Expect": "100-continue"],
                body: .bytes(Self.content)
            )
            #expect(try connection.readHead().status == 100)
            try connection.socket.send(Self.content)
            try expectStored(try connection.readResponse(), repository)
        }
    }

    @Test func aBrokenUploadLeavesNothing() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let connection = try Connection(to: forebay.endpoint)
            let path = repository.path("blobs/uploads/?digest=\(Self.digest)")
            try connection.sendHead("POST", path, body: .bytes(Self.content))
            try connection.socket.send(Self.content[..<100_000])
            connection.socket.shutDown()
            try expectAbsent(Self.digest, forebay)
            try repository.push(blob: Self.content)
        }
    }
}
