import Testing

@Suite("Deletes over raw HTTP")
struct DeletionTests {
    @Test(arguments: OriginKind.allCases)
    func aDigestTakesItsTagsWithIt(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "a")
            try repository.push(manifest: manifest, as: "b")
            try repository.pushImage(tag: "other", seed: 2)
            let digest = sha256(manifest)

            #expect(try repository.request("DELETE", "manifests/\(digest)").status == 202)
            for reference in [digest, "a", "b"] {
                expectError(try repository.request("GET", "manifests/\(reference)"), 404, "MANIFEST_UNKNOWN")
            }
            #expect(try repository.request("GET", "manifests/other").status == 200)
            #expect(try repository.request("GET", "tags/list").json()["tags"] as? [String] == ["other"])
            expectError(try repository.request("DELETE", "manifests/\(digest)"), 404, "MANIFEST_UNKNOWN")

            try forebay.restart(wipingCache: true)
            expectError(try repository.request("GET", "manifests/a"), 404, "MANIFEST_UNKNOWN")
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aTagLeavesItsManifest(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "a")
            #expect(try repository.request("DELETE", "manifests/a").status == 202)
            expectError(try repository.request("GET", "manifests/a"), 404, "MANIFEST_UNKNOWN")
            expectError(try repository.request("DELETE", "manifests/a"), 404, "MANIFEST_UNKNOWN")
            #expect(try repository.request("GET", "manifests/\(sha256(manifest))").body == manifest)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aBlobIsGoneFromDiskAndOrigin(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let digest = try repository.push(blob: noise(100_000, seed: 3))
            #expect(try repository.request("DELETE", "blobs/\(digest)").status == 202)
            expectError(try repository.request("GET", "blobs/\(digest)"), 404, "BLOB_UNKNOWN")
            expectError(try repository.request("DELETE", "blobs/\(digest)"), 404, "BLOB_UNKNOWN")
        }
    }

    @Test func deletesCanBeSwitchedOff() throws {
        try withForebay(flags: ["--deletes", "off"]) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: "a")
            for path in ["manifests/a", "manifests/\(sha256(manifest))", "blobs/\(sha256(noise(10_000, seed: 1)))"] {
                let response = try repository.request("DELETE", path)
                expectError(response, 405, "UNSUPPORTED")
                #expect(response["Allow"]?.contains("DELETE") == false)
            }
            let upload = try repository.openUpload()
            #expect(try forebay.endpoint.request("DELETE", upload).status == 204, "canceling an upload deletes nothing")
        }
    }
}
