import Testing

/// A bucket that everybody may read, without any credentials.
@Suite("Credentials")
struct CredentialTests {
    /// A bucket as somebody without credentials sees it.
    private final class Stranger: Origin {
        let bucket: S3Origin
        let flags: [String]
        let environment: [String: String]

        init(_ bucket: S3Origin, flags: [String], environment: [String: String]) {
            self.bucket = bucket
            self.flags = bucket.flags + flags
            self.environment = environment
        }

        func keys() throws -> [String] { try bucket.keys() }
        func object(_ key: String) throws -> [UInt8] { try bucket.object(key) }
        func remove(_ key: String) throws { try bucket.remove(key) }
        func watchBlobs() { bucket.watchBlobs() }
        func blobRequests() -> [String] { bucket.blobRequests() }
        func stopWatching() {}
    }

    static let nobody = [
        "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": "/nonexistent",
    ]

    /// Told to be nobody though there are keys, and nobody for want of any.
    @Test(arguments: [true, false])
    func aPublicBucketNeedsNone(isTold: Bool) throws {
        let bucket = try S3Origin(server: S3Server.required())
        let content = noise(100_000, seed: 71)
        var digest = ""
        var manifest: [UInt8] = []
        try withForebay(bucket) { forebay in
            digest = try Repository(forebay).push(blob: content)
            manifest = try Repository(forebay).pushImage(tag: "v1")
        }
        try bucket.server.publish(bucket.bucket)
        let stranger = Stranger(
            bucket,
            flags: isTold ? ["--s3-credentials", "anonymous"] : [],
            environment: isTold ? bucket.environment : Self.nobody
        )
        try withForebay(stranger) { forebay in
            let repository = Repository(forebay)
            #expect(try same(repository.request("GET", "blobs/\(digest)").body, content))
            #expect(try same(repository.request("GET", "manifests/v1").body, manifest))
            #expect(try repository.request("GET", "tags/list").text.contains("v1"))
            #expect(try repository.request("GET", "manifests/none").status == 404)
            let push = try repository.request("POST", "blobs/uploads/?digest=\(sha256([1]))", body: .bytes([1]))
            #expect(push.status == 403 && push.errorCodes == ["DENIED"], "\(push.text)")
            let tag = try repository.request(
                "PUT",
                "manifests/v2",
                ["Content-Type": manifestType],
                body: .bytes(manifest)
            )
            #expect(tag.status == 403 && tag.errorCodes == ["DENIED"], "\(tag.text)")
            #expect(isTold || forebay.log.contains("requests are not signed"))
        }
    }

    /// Bug: the answer named files and roles of this machine.
    @Test func aClientIsNotToldWhereTheyAreLookedFor() throws {
        let bucket = try S3Origin(server: S3Server.required())
        var environment = bucket.environment.merging(Self.nobody) { $1 }
        environment["AWS_PROFILE"] = "of-nobody"
        try withForebay(Stranger(bucket, flags: [], environment: environment)) { forebay in
            let answer = try Repository(forebay).request("GET", "blobs/\(sha256([1]))")
            #expect(answer.status == 503 && answer.text.contains("no valid credentials"), "\(answer.text)")
            #expect(!answer.text.contains("of-nobody") && forebay.log.contains("of-nobody"), "\(answer.text)")
        }
    }

    /// Nothing that is secret reaches the log, an answer or the printed configuration.
    @Test func nothingSecretIsShown() throws {
        let bucket = try S3Origin(server: S3Server.required())
        let secret = "wrong-secret-0123456789"
        var environment = bucket.environment
        environment["AWS_SECRET_ACCESS_KEY"] = secret
        environment["AWS_SESSION_TOKEN"] = "wrong-token-0123456789"
        let stranger = Stranger(bucket, flags: ["--log-level", "trace"], environment: environment)
        let forebay = try Forebay(stranger)
        let process = try forebay.launch(listening: forebay.endpoint)
        #expect(try process.wait(seconds: 30).status == 69, "refused with its reason")
        let shown = try run([Settings.binary, "config"] + stranger.flags, environment: environment)
        #expect(forebay.log.contains("credentials from environment variable AWS_ACCESS_KEY_ID"))
        #expect(forebay.log.contains("check the access key"), "\(forebay.log)")
        for text in [forebay.log, shown] {
            #expect(!text.contains(secret) && !text.contains("wrong-token"))
        }
    }
}
