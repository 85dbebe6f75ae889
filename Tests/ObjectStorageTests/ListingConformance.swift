import ObjectStorage
import Testing

let listingCases = [
    ConformanceCase("a listing is in the order of bytes") { test in
        // A slash comes after '-' and '.', before digits: directories must be sorted among files as if they ended with one.
        let names = ["a", "a!", "a-b", "a.json", "a/b", "a/b.c", "a/c/d", "a0", "aB", "ab", "\u{E9}", "\u{1F600}"]
        for name in names where name != "a" { try test.put(name, name) }
        let listed = try pages(test, limit: 1_000).flatMap(\.objects)
        #expect(try listed.map(\.key) == names.dropFirst().map { try test.key($0) })
        for object in listed {
            let info = try #require(try test.store.head(object.key))
            #expect(object.size == info.size && object.etag == info.etag && object.lastModified != nil)
        }
    },
    ConformanceCase("pages hold everything once") { test in
        let names = (0..<23).map { "d\($0 % 3)/e\($0 % 2)/f\($0)" }.sorted()
        for name in names { try test.put(name, "") }
        for limit in [1, 2, 7, 22, 23, 24] {
            let pages = try pages(test, limit: limit)
            #expect(pages.allSatisfy { $0.objects.count <= limit })
            #expect(pages.dropLast().allSatisfy { $0.objects.count == limit })
            #expect(try pages.flatMap(\.objects).map(\.key) == names.map { try test.key($0) })
        }
    },
    ConformanceCase("a prefix is a text, not a directory") { test in
        for name in ["app/v1", "app/v10/x", "app/w", "apple"] { try test.put(name, "") }
        #expect(try list(test, "app/v1").objects == ["app/v1", "app/v10/x"])
        #expect(try list(test, "app/").objects == ["app/v1", "app/v10/x", "app/w"])
        #expect(try list(test, "app").objects == ["app/v1", "app/v10/x", "app/w", "apple"])
        #expect(try list(test, "app/v10/x").objects == ["app/v10/x"])
        #expect(try list(test, "nothing/here").objects == [])
        #expect(try list(test, "app/w/x").objects == [])
    },
    ConformanceCase("a delimiter rolls up what is below") { test in
        for name in ["r/_digests/x", "r/_digests/y", "r/a", "r/b/c/d", "r/b/e", "r/z"] { try test.put(name, "") }
        let whole = try list(test, "r/", delimiter: "/")
        #expect(whole.objects == ["r/a", "r/z"] && whole.prefixes == ["r/_digests/", "r/b/"])
        for limit in 1...4 {
            let pages = try pages(test, "r/", delimiter: "/", limit: limit)
            let count = pages.map { $0.objects.count + $0.commonPrefixes.count }
            #expect(count.allSatisfy { $0 <= limit } && count.reduce(0, +) == 4)
            #expect(pages.flatMap(\.commonPrefixes) == ["\(test.prefix)r/_digests/", "\(test.prefix)r/b/"])
        }
        let top = try list(test, "r", delimiter: "/")
        #expect(top.objects == [] && top.prefixes == ["r/"])
        let other = try list(test, "r/", delimiter: "ig")
        #expect(other.objects == ["r/a", "r/b/c/d", "r/b/e", "r/z"] && other.prefixes == ["r/_dig"])
    },
    ConformanceCase("a listing begins after a key") { test in
        for name in ["t/a", "t/b", "t/c/d", "t/e"] { try test.put(name, "") }
        #expect(try list(test, "t/", after: "t/a").objects == ["t/b", "t/c/d", "t/e"])
        #expect(try list(test, "t/", after: "t/bb").objects == ["t/c/d", "t/e"])
        #expect(try list(test, "t/", after: "t/c/d").objects == ["t/e"])
        #expect(try list(test, "t/", after: "t/zzz").objects == [])
        #expect(try list(test, "t/", after: "a").objects == ["t/a", "t/b", "t/c/d", "t/e"])
        let rolled = try list(test, "t/", delimiter: "/", after: "t/b")
        #expect(rolled.objects == ["t/e"] && rolled.prefixes == ["t/c/"])
    },
    ConformanceCase("prefixes that are no keys find nothing") { test in
        try test.put("a/b", "")
        for prefix in ["a//", "a/../", "../", "/", "a/./b", ".."] {
            #expect(try list(test, prefix).objects == [], "\(prefix)")
        }
    },
]

/// Names without the test's prefix.
private func list(
    _ test: TestStore,
    _ prefix: String,
    delimiter: String? = nil,
    after: String? = nil
) throws -> (objects: [String], prefixes: [String]) {
    let page = try test.store.list(
        prefix: test.prefix + prefix,
        delimiter: delimiter,
        after: after.map { test.prefix + $0 },
        continuation: nil,
        limit: 1_000
    )
    #expect(page.continuation == nil)
    func short(_ name: String) -> String { String(name.dropFirst(test.prefix.count)) }
    return (page.objects.map { short($0.key.description) }, page.commonPrefixes.map(short))
}

private func pages(
    _ test: TestStore,
    _ prefix: String = "",
    delimiter: String? = nil,
    limit: Int
) throws -> [ListPage] {
    var pages: [ListPage] = []
    repeat {
        pages.append(
            try test.store.list(
                prefix: test.prefix + prefix,
                delimiter: delimiter,
                after: nil,
                continuation: pages.last?.continuation,
                limit: limit
            )
        )
    } while pages.last?.continuation != nil && pages.count < 100
    return pages
}
