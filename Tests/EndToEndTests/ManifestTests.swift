import Testing

@Suite("Manifests over raw HTTP")
struct ManifestTests {
    private func expectManifest(
        _ manifest: [UInt8],
        at reference: String,
        in repository: Repository,
        type: String = manifestType,
        digest: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let digest = digest ?? sha256(manifest)
        let get = try repository.request("GET", "manifests/\(reference)", ["Accept": "text/plain"])
        let head = try repository.request("HEAD", "manifests/\(reference)")
        #expect(same(get.body, manifest), "\(reference)", sourceLocation: sourceLocation)
        for response in [get, head] {
            #expect(response.status == 200, "\(reference)", sourceLocation: sourceLocation)
            #expect(response["Content-Type"] == type, "\(reference)", sourceLocation: sourceLocation)
            #expect(response["Content-Length"] == "\(manifest.count)", sourceLocation: sourceLocation)
            #expect(response["Docker-Content-Digest"] == digest, "\(reference)", sourceLocation: sourceLocation)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aManifestComesBackByteForByte(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "v1")
            for isCold in [false, true] {
                if isCold { try forebay.restart(wipingCache: true) }
                try expectManifest(manifest, at: "v1", in: repository)
                try expectManifest(manifest, at: sha256(manifest), in: repository)
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func theContentTypeIsTheOnePushed(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let image = try repository.pushImage(tag: "image")
            let index = Array(
                """
                {"schemaVersion":2,"mediaType":"\(indexType)","manifests":[{"mediaType":"\(manifestType)",
                "digest":"\(sha256(image))","size":\(image.count)}]}
                """.utf8
            )
            try repository.push(manifest: index, as: "index", type: indexType)
            // The type is not inside: only the header told it.
            let config = Array(#"{"a":1}"#.utf8)
            try repository.push(blob: config)
            let docker = "application/vnd.docker.distribution.manifest.v2+json"
            let untyped = Array(
                """
                {"schemaVersion":2,"config":{"mediaType":"application/vnd.docker.container.image.v1+json",
                "digest":"\(sha256(config))","size":\(config.count)},"layers":[]}
                """.utf8
            )
            try repository.push(manifest: untyped, as: "docker", type: docker)
            for isCold in [false, true] {
                if isCold { try forebay.restart(wipingCache: true) }
                try expectManifest(index, at: "index", in: repository, type: indexType)
                try expectManifest(untyped, at: "docker", in: repository, type: docker)
                try expectManifest(untyped, at: sha256(untyped), in: repository, type: docker)
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aPushAnswersWithDigestAndLocation(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "v1")
            let digest = sha256(manifest)
            for reference in ["v2", digest] {
                let response = try repository.request(
                    "PUT",
                    "manifests/\(reference)",
                    ["Content-Type": manifestType],
                    body: .bytes(manifest)
                )
                #expect(response.status == 201)
                #expect(response["Docker-Content-Digest"] == digest)
                let location = try #require(response.location)
                #expect(try same(forebay.endpoint.request("GET", location).body, manifest))
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aTagMovesAndTheOldManifestStays(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let first = try repository.pushImage(tag: "latest", seed: 1)
            let second = try repository.pushImage(tag: "latest", seed: 2)
            try expectManifest(second, at: "latest", in: repository)
            try expectManifest(first, at: sha256(first), in: repository)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aPushByDigestMakesNoTag(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "v1", seed: 3)
            let copy = Repository(forebay, "library/copy")
            try copy.push(manifest: manifest, as: sha256(manifest))
            try expectManifest(manifest, at: sha256(manifest), in: copy)
            #expect(try copy.request("GET", "manifests/v1").status == 404)
        }
    }

    @Test func aDigestOtherThanTheBodysIsInvalid() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "v1")
            for wrong in [sha256([1]), sha512([1])] {
                let response = try repository.request(
                    "PUT",
                    "manifests/\(wrong)",
                    ["Content-Type": manifestType],
                    body: .bytes(manifest)
                )
                expectError(response, 400, "DIGEST_INVALID")
                #expect(try repository.request("GET", "manifests/\(wrong)").status == 404)
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aManifestOfMissingBlobsIsRefused(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let config = Array("{}".utf8)
            let layer = noise(1_000, seed: 5)
            let manifest = imageManifest(config: config, layers: [layer])
            for missing in [layer, config] {
                let response = try repository.request(
                    "PUT",
                    "manifests/v1",
                    ["Content-Type": manifestType],
                    body: .bytes(manifest)
                )
                expectError(response, 400, "MANIFEST_BLOB_UNKNOWN")
                #expect(try repository.request("GET", "manifests/v1").status == 404)
                try repository.push(blob: missing)
            }
            try repository.push(manifest: manifest, as: "v1")
        }
    }

    @Test func sparseIndexesAndForeignLayersAreAccepted() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let config = Array("{}".utf8)
            try repository.push(blob: config)
            let index = Array(
                """
                {"schemaVersion":2,"mediaType":"\(indexType)","manifests":[
                {"mediaType":"\(manifestType)","digest":"\(sha256([7]))","size":1}]}
                """.utf8
            )
            try repository.push(manifest: index, as: "sparse", type: indexType)
            let foreign = Array(
                """
                {"schemaVersion":2,"mediaType":"\(manifestType)",
                "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"\(sha256(config))","size":2},
                "layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "digest":"\(sha256([8]))","size":1,"urls":["http://127.0.0.1:9/layer"]}]}
                """.utf8
            )
            try repository.push(manifest: foreign, as: "foreign")
        }
    }

    @Test func aSubjectNeedNotExist() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let config = Array("{}".utf8)
            try repository.push(blob: config)
            let manifest = Array(
                """
                {"schemaVersion":2,"mediaType":"\(manifestType)","artifactType":"application/vnd.example",
                "config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"\(sha256(config))","size":2},
                "layers":[],"subject":{"mediaType":"\(manifestType)","digest":"\(sha256([9]))","size":1}}
                """.utf8
            )
            try repository.push(manifest: manifest, as: sha256(manifest))
            try expectManifest(manifest, at: sha256(manifest), in: repository)
        }
    }

    @Test func whatIsNoManifestIsInvalid() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            for body in [
                "", "nothing", "[]", "{", #"{"schemaVersion":2,"layers":5}"#,
                #"{"schemaVersion":2,"config":{"digest":"x"}}"#,
            ] {
                let response = try repository.request(
                    "PUT",
                    "manifests/v1",
                    ["Content-Type": manifestType],
                    body: .bytes(Array(body.utf8))
                )
                #expect(response.status == 400, "\(body)")
                #expect(!response.errorCodes.isEmpty, "\(body)")
            }
            #expect(try repository.request("GET", "manifests/v1").status == 404)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func fourMebibytesAreAccepted(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let config = Array("{}".utf8)
            try repository.push(blob: config)
            let head = """
                {"schemaVersion":2,"mediaType":"\(manifestType)","config":{"mediaType":
                "application/vnd.oci.image.config.v1+json","digest":"\(sha256(config))","size":2},"layers":[],
                "annotations":{"org.example.filler":"
                """
            let tail = "\"}}"
            let filler = String(repeating: "x", count: (4 << 20) - head.utf8.count - tail.utf8.count)
            let manifest = Array((head + filler + tail).utf8)
            try repository.push(manifest: manifest, as: "large")
            for isCold in [false, true] {
                if isCold { try forebay.restart(wipingCache: true) }
                try expectManifest(manifest, at: "large", in: repository)
            }
        }
    }

    @Test func aManifestPastTheLimitIsRefused() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let body = Array("{\"schemaVersion\":2,\"x\":\"\(String(repeating: "x", count: 64 << 20))\"}".utf8)
            let response = try repository.request(
                "PUT",
                "manifests/huge",
                ["Content-Type": manifestType],
                body: .bytes(body)
            )
            #expect(response.status == 413)
            #expect(!response.errorCodes.isEmpty)
            #expect(try repository.request("GET", "manifests/huge").status == 404)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func sha512IsAsGood(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let config = Array(#"{"os":"linux"}"#.utf8)
            let layer = noise(50_000, seed: 6)
            for bytes in [config, layer] { try repository.push(blob: bytes, as: sha512(bytes)) }
            let manifest = imageManifest(config: config, layers: [layer], digest: sha512)
            let digest = sha512(manifest)
            let response = try repository.request(
                "PUT",
                "manifests/\(digest)",
                ["Content-Type": manifestType],
                body: .bytes(manifest)
            )
            #expect(response.status == 201, "\(response.text)")
            #expect(response["Docker-Content-Digest"] == digest)
            for isCold in [false, true] {
                if isCold { try forebay.restart(wipingCache: true) }
                try expectManifest(manifest, at: digest, in: repository, digest: digest)
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func anAbsentManifestIsUnknown(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            try repository.pushImage(tag: "v1")
            for reference in ["none", sha256([1]), sha512([1])] {
                expectError(try repository.request("GET", "manifests/\(reference)"), 404, "MANIFEST_UNKNOWN")
                #expect(try repository.request("HEAD", "manifests/\(reference)").status == 404)
            }
            let elsewhere = Repository(forebay, "no/such/repository")
            expectError(try elsewhere.request("GET", "manifests/v1"), 404, "MANIFEST_UNKNOWN", "NAME_UNKNOWN")
        }
    }
}
