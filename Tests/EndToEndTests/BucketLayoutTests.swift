import Foundation
import Testing

/// The seed and Forebay may serve one bucket, so every key and every byte of it is fixed.
@Suite("Bucket layout")
struct BucketLayoutTests {
    private struct Catalog: Decodable {
        struct Entry: Decodable {
            let tags: [String: String]
            let updatedAt: String
        }
        let repositories: [String: Entry]
        let updatedAt: String
    }

    private func file(_ digest: String) -> String { digest.replacingOccurrences(of: ":", with: "-") }

    @Test(arguments: OriginKind.allCases)
    func aPushWritesTheSeedsKeysAndNoOthers(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let app = Repository(forebay, "team/app")
            let tools = Repository(forebay, "team/app/tools")
            let first = try app.pushImage(tag: "v1.0", seed: 1)
            try app.push(manifest: first, as: "latest")
            let second = try tools.pushImage(tag: "v2", seed: 2)
            let byDigest = try tools.pushImage(tag: "gone", seed: 3)
            try tools.push(manifest: second, as: "gone")

            let configs = [1, 2, 3].map { Array(#"{"architecture":"amd64","os":"linux","seed":\#($0)}"#.utf8) }
            let layers = [1, 2, 3].map { noise(10_000, seed: $0) }
            let manifests = "epoch/manifests"
            let expected =
                ["epoch/catalog.json", "\(manifests)/team/app/latest.json", "\(manifests)/team/app/v1.0.json"]
                + ["\(manifests)/team/app/_digests/\(file(sha256(first))).json"]
                + ["\(manifests)/team/app/tools/v2.json", "\(manifests)/team/app/tools/gone.json"]
                + [second, byDigest].map { "\(manifests)/team/app/tools/_digests/\(file(sha256($0))).json" }
                + (configs + layers).map { "epoch/blobs/sha256/\(sha256Hex($0))" }
            let keys = try forebay.origin.keys()
            #expect(keys == expected.sorted())

            #expect(try same(forebay.origin.object("\(manifests)/team/app/v1.0.json"), first))
            #expect(
                try same(forebay.origin.object("\(manifests)/team/app/_digests/\(file(sha256(first))).json"), first)
            )
            #expect(try same(forebay.origin.object("\(manifests)/team/app/tools/gone.json"), second))
            for content in configs + layers {
                #expect(try same(forebay.origin.object("epoch/blobs/sha256/\(sha256Hex(content))"), content))
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func theCatalogIsTheSeeds(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let app = Repository(forebay, "team/app")
            let tools = Repository(forebay, "team/tools")
            let manifest = try app.pushImage(tag: "v1")
            try app.push(manifest: manifest, as: "latest")
            try tools.pushImage(tag: "v2")

            let bytes = try forebay.origin.object("epoch/catalog.json")
            let catalog = try JSONDecoder().decode(Catalog.self, from: Data(bytes))
            #expect(catalog.repositories.keys.sorted() == ["team/app", "team/tools"])
            for (name, tags) in [("team/app", ["latest", "v1"]), ("team/tools", ["v2"])] {
                let entry = try #require(catalog.repositories[name])
                #expect(entry.tags.keys.sorted() == tags)
                for tag in tags {
                    let key = try #require(entry.tags[tag])
                    // The key names the object, whether or not the reader has to put the prefix before it.
                    #expect("epoch/manifests/\(name)/\(tag).json".hasSuffix(key), "\(key)")
                    #expect(key.hasSuffix("\(tag).json"), "\(key)")
                }
            }
            let times = catalog.repositories.values.map(\.updatedAt) + [catalog.updatedAt]
            for time in times {
                #expect(
                    time.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)/) != nil,
                    "\(time)"
                )
            }
            let raw = try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any]
            #expect(raw?.keys.sorted() == ["repositories", "updatedAt"])
        }
    }

    /// Many pushes at once share one catalog; none may be lost.
    @Test(arguments: OriginKind.allCases)
    func pushesAtOnceAllReachTheCatalog(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let endpoint = forebay.endpoint
            let source = Repository(endpoint, "team/app")
            let manifest = try source.pushImage(tag: "first")
            let statuses = try inParallel(8) { index in
                try Repository(endpoint, "team/app\(index % 4)").request(
                    "PUT",
                    "manifests/v\(index)",
                    ["Content-Type": manifestType],
                    body: .bytes(manifest)
                ).status
            }
            #expect(statuses == Array(repeating: 201, count: 8))
            let bytes = try forebay.origin.object("epoch/catalog.json")
            let catalog = try JSONDecoder().decode(Catalog.self, from: Data(bytes))
            #expect(
                catalog.repositories.mapValues { $0.tags.keys.sorted() } == [
                    "team/app": ["first"], "team/app0": ["v0", "v4"], "team/app1": ["v1", "v5"],
                    "team/app2": ["v2", "v6"], "team/app3": ["v3", "v7"],
                ]
            )
        }
    }

    /// A bucket that the seed filled knows no content types; a manifest's own fields tell.
    @Test func whatTheSeedWroteIsServed() throws {
        let origin = try DirectoryOrigin()
        let config = Array("{}".utf8)
        let layer = noise(100_000, seed: 4)
        let manifest = imageManifest(config: config, layers: [layer])
        for (key, bytes) in [
            ("blobs/sha256/\(sha256Hex(config))", config), ("blobs/sha256/\(sha256Hex(layer))", layer),
            ("manifests/seed/app/v1.json", manifest),
            ("manifests/seed/app/_digests/\(file(sha256(manifest))).json", manifest),
        ] {
            try origin.write(bytes, to: "epoch/\(key)")
        }
        try withForebay(origin) { forebay in
            let repository = Repository(forebay, "seed/app")
            for reference in ["v1", sha256(manifest)] {
                let response = try repository.request("GET", "manifests/\(reference)")
                #expect(response.status == 200)
                #expect(same(response.body, manifest))
                #expect(response["Content-Type"] == manifestType)
                #expect(response["Docker-Content-Digest"] == sha256(manifest))
            }
            #expect(try same(repository.request("GET", "blobs/\(sha256(layer))").body, layer))
            #expect(try repository.request("GET", "tags/list").json()["tags"] as? [String] == ["v1"])
        }
    }

    /// What the origin holds is the truth, but a lie in it is not passed on.
    @Test func aBlobThatIsNotItsDigestIsNeverServedWhole() throws {
        let origin = try DirectoryOrigin()
        let content = noise(2_000_000, seed: 5)
        var damaged = content
        damaged[1_500_000] ^= 1
        try origin.write(damaged, to: "epoch/blobs/sha256/\(sha256Hex(content))")
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            for _ in 0..<2 {
                do {
                    let response = try repository.request("GET", "blobs/\(sha256(content))")
                    #expect(response.status != 200, "damaged bytes ended as if they were whole")
                } catch HTTPError.truncated {
                    // The connection broke before the announced length was through.
                }
            }
            try origin.write(content, to: "epoch/blobs/sha256/\(sha256Hex(content))")
            #expect(try same(repository.request("GET", "blobs/\(sha256(content))").body, content), "mended")
        }
    }
}
