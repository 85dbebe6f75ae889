import Foundation
import Testing

@Suite("Tag lists over raw HTTP")
struct TagTests {
    /// Told apart by what sorts differently once `.json` or `/` is appended.
    static let tags = ["1", "a", "v1", "v1-rc", "v1.0", "v1.1", "v1.json", "v10", "v2", "z_last"].shuffled()
    static let sorted = ["1", "a", "v1", "v1-rc", "v1.0", "v1.1", "v1.json", "v10", "v2", "z_last"]

    private func list(_ repository: Repository, _ query: String = "") throws -> (tags: [String]?, response: Response) {
        let response = try repository.request("GET", "tags/list\(query)")
        return (try response.json()["tags"] as? [String], response)
    }

    @Test(arguments: OriginKind.allCases)
    func tagsAreListedInOrderAndInPages(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: Self.tags[0])
            for tag in Self.tags.dropFirst() { try repository.push(manifest: manifest, as: tag) }

            let all = try list(repository)
            #expect(all.response.status == 200)
            #expect(all.tags == Self.sorted)
            #expect(try all.response.json()["name"] as? String == repository.name)
            #expect(all.response["Link"] == nil)

            #expect(try list(repository, "?n=3").tags == ["1", "a", "v1"])
            #expect(try list(repository, "?n=3&last=v1").tags == ["v1-rc", "v1.0", "v1.1"])
            #expect(try list(repository, "?last=v10").tags == ["v2", "z_last"], "last is exclusive")
            #expect(
                try list(repository, "?last=v1.5").tags == ["v1.json", "v10", "v2", "z_last"],
                "and need not exist"
            )
            #expect(try list(repository, "?last=zz").tags == [], "an empty list is no null")
            #expect(try list(repository, "?n=100").response["Link"] == nil)
            let none = try list(repository, "?n=0")
            #expect(none.tags == [])
            #expect(none.response["Link"] == nil)
        }
    }

    @Test func linksLeadThroughAllPages() throws {
        try withForebay { forebay in
            let repository = Repository(forebay)
            let manifest = try repository.pushImage(tag: Self.tags[0])
            for tag in Self.tags.dropFirst() { try repository.push(manifest: manifest, as: tag) }
            var path: String? = repository.path("tags/list?n=3")
            var seen: [String] = []
            var pages = 0
            while let next = path, pages < 10 {
                let response = try forebay.endpoint.request("GET", next)
                seen += try response.json()["tags"] as? [String] ?? []
                pages += 1
                let link = response["Link"]
                if let link { #expect(link.hasSuffix(">; rel=\"next\"")) }
                path = link.flatMap { link in
                    guard let start = link.range(of: "/v2/"), let end = link.firstIndex(of: ">") else { return nil }
                    return String(link[start.lowerBound..<end])
                }
            }
            #expect(seen == Self.sorted)
            #expect(pages == 4)
        }
    }

    @Test(arguments: OriginKind.allCases)
    func anUnknownRepositoryIsUnknown(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            try Repository(forebay, "library/test/deep").pushImage(tag: "v1")
            for name in ["none", "library/tes", "library/test", "library"] {
                expectError(try Repository(forebay, name).request("GET", "tags/list"), 404, "NAME_UNKNOWN")
            }
        }
    }

    @Test(arguments: OriginKind.allCases)
    func aNestedRepositorysTagsStayItsOwn(origin: OriginKind) throws {
        try withForebay(origin) { forebay in
            let outer = Repository(forebay, "team/app")
            let inner = Repository(forebay, "team/app/tools")
            try outer.pushImage(tag: "outer")
            try inner.pushImage(tag: "inner")
            #expect(try list(outer).tags == ["outer"])
            #expect(try list(inner).tags == ["inner"])
        }
    }
}
