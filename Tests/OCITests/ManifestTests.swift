import OCI
import Testing

@Suite struct ManifestTests {
    static let digest = "sha256:" + String(repeating: "1", count: 64)
    static let image = """
        {"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"\(digest)","size":2},
        "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"\(digest)","size":3,
        "urls":["https://example.org/x"]}],
        "subject":{"mediaType":"x","digest":"\(digest)","size":1},"annotations":{"a":"b"}}
        """

    private func parse(_ json: String, _ type: String? = nil) throws -> Manifest {
        try Manifest(parsing: Array(json.utf8), contentType: type.map { MediaType(rawValue: $0) })
    }

    @Test func readsAnImage() throws {
        let manifest = try parse(Self.image)
        #expect(manifest.mediaType == .imageManifest)
        #expect(manifest.config?.size == 2)
        #expect(manifest.layers.map(\.isNonDistributable) == [true])
        #expect(manifest.subject?.digest == (try Digest(Self.digest)))
        #expect(manifest.annotations == ["a": "b"])
    }

    @Test func contentTypeDecidesOnlyWhereTheManifestIsSilent() throws {
        let bare = "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"x\",\"digest\":\"\(Self.digest)\",\"size\":1}}"
        #expect(try parse(bare, "application/vnd.docker.distribution.manifest.v2+json").mediaType == .dockerManifest)
        #expect(try parse(bare, "application/octet-stream").mediaType == .imageManifest)
        #expect(try parse("{\"schemaVersion\":2,\"manifests\":[]}").mediaType == .imageIndex)
        #expect(
            try parse(Self.image, "application/vnd.oci.image.manifest.v1+json; charset=utf-8").mediaType
                == .imageManifest
        )
        #expect(throws: Manifest.Invalid.self) { try parse(Self.image, "application/vnd.oci.image.index.v1+json") }
    }

    @Test(arguments: [
        "", "{", "[]", "1", "null", "{\"schemaVersion\":1}", "{\"layers\":[{\"digest\":\"x\",\"size\":1}]}",
        "{\"layers\":[{\"digest\":\"\(digest)\",\"size\":-1}]}", "{\"layers\":[{\"digest\":\"\(digest)\"}]}",
        "{\"layers\":{}}", "{\"layers\":[{\"digest\":\"../../x\",\"size\":1}]}", "\u{feff}{}x",
    ])
    func refusesWhatIsNoManifest(_ json: String) {
        #expect(throws: Manifest.Invalid.self) { try parse(json) }
    }

    @Test func survivesDeepNesting() {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: Manifest.Invalid.self) { try parse("{\"layers\":" + deep) }
    }
}
