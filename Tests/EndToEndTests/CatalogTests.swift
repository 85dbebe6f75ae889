import Foundation
import Testing

@Suite("catalog rebuild")
struct CatalogRebuildTests {
    private func tags(_ origin: any Origin) throws -> NSDictionary {
        let catalog = try JSONSerialization.jsonObject(with: Data(origin.object("epoch/catalog.json")))
        let repositories = try #require((catalog as? [String: Any])?["repositories"] as? [String: [String: Any]])
        return repositories.mapValues { $0["tags"] as? [String: String] ?? [:] } as NSDictionary
    }

    @Test(arguments: OriginKind.allCases)
    func makesItOfAListing(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            for name in ["team/app", "team/app/tools"] {
                let repository = Repository(forebay, name)
                let manifest = try repository.pushImage(tag: "v1")
                try repository.push(manifest: manifest, as: "v2")
            }
            let before = try tags(forebay.origin)
            try forebay.origin.remove("epoch/catalog.json")
            let output = try run(
                [Settings.binary, "catalog", "rebuild"] + forebay.origin.flags,
                environment: forebay.origin.environment
            )
            #expect(output.contains("4 tags in 2 repositories"))
            #expect(try tags(forebay.origin) == before)
        }
    }

    @Test func namesAnOriginThatIsDown() throws {
        let result = try runAllowingFailure([
            Settings.binary, "catalog", "rebuild", "--origin", "s3://bucket", "--s3-endpoint", "http://127.0.0.1:1",
        ])
        #expect(result.status == 69)
        #expect(result.errors.contains("catalog.json") && result.errors.contains("127.0.0.1:1"), "\(result.errors)")
    }
}

@Suite("The Registry library")
struct LibraryTests {
    /// The example of the documentation, on both kinds of origin.
    @Test(arguments: OriginKind.allCases)
    func runsWithoutTheServer(kind: OriginKind) throws {
        let example = Settings.packageRoot + "/.build/debug/registry-example"
        try require(FileManager.default.isExecutableFile(atPath: example), "no \(example): build it with `swift build`")
        let output: String
        switch kind {
        case .directory:
            output = try run([example, DirectoryOrigin().folder])
        case .s3:
            let origin = try S3Origin(server: S3Server.required(), toldAsTheSeedIs: true)
            output = try run([example], environment: origin.environment)
            #expect(try origin.keys().filter { !$0.hasPrefix("epoch/blobs/") } == ["epoch/catalog.json"])
        }
        #expect(output.contains("content: hello from the edge"))
        #expect(output.contains("and its tags [v1]"))
        #expect(output.hasSuffix("is gone\n"))
    }
}
