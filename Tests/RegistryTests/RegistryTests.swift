import Hashing
import OCI
import ObjectStorage
import Registry
import TestDoubles
import Testing
import Threading

let name = try! RepositoryName("library/debian")  // A literal that parses.

func tag(_ text: String) -> OCI.Tag {
    try! OCI.Tag(text)  // Only literals that parse.
}

let manifestBytes = Array("{\"schemaVersion\":2,\"manifests\":[]}".utf8)

@Suite struct BlobTests {
    let store = MemoryStore()

    @Test func liesWhereTheSeedPutsIt() throws {
        let registry = Registry(store: store)
        let content = Array("hello".utf8)
        let digest = Digest(of: content)
        #expect(try registry.pushBlob(digest, from: .bytes(content)))
        #expect(store.keys == ["epoch/blobs/sha256/\(digest.hex)"])
        #expect(try registry.blobSize(digest) == 5)
        var read: [UInt8] = []
        try registry.streamBlob(digest) { piece in
            for index in piece.indices { read.append(piece[index]) }
        }
        #expect(read == content)
    }

    @Test func aBlobIsNotSentTwice() throws {
        let registry = Registry(store: store)
        let digest = Digest(of: [1])
        #expect(try registry.pushBlob(digest, from: .bytes([1])))
        #expect(try registry.pushBlob(digest, from: .bytes([1])) == false)
        #expect(store.calls("PUT") == 1)
    }

    @Test func notFoundIsACaseOfItsOwn() throws {
        let registry = Registry(store: store)
        let digest = Digest(of: [2])
        #expect(try registry.blobExists(digest) == false)
        let error = #expect(throws: RegistryError.self) { try registry.blobSize(digest) }
        guard case .notFound? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        try registry.deleteBlob(digest)
    }

    @Test func sha512AndOtherPrefixesHavePlacesToo() throws {
        let registry = Registry(store: store, prefix: "")
        let digest = Digest(of: [1], .sha512)
        try registry.pushBlob(digest, from: .bytes([1]))
        #expect(store.keys == ["blobs/sha512/\(digest.hex)"])
    }

    @Test func missingBlobsAreFoundTogether() throws {
        let registry = Registry(store: store)
        let digests = (0..<50).map { Digest(of: [UInt8($0)]) }
        for (index, digest) in digests.enumerated() where index % 2 == 0 {
            try registry.pushBlob(digest, from: .bytes([UInt8(index)]))
        }
        let missing = digests.enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
        #expect(try registry.missingBlobs(among: digests) == missing)
        #expect(try registry.missingBlobs(among: []) == [])
    }
}

@Suite struct ManifestTests {
    let store = MemoryStore()

    @Test func aTagIsWrittenTwiceAndCatalogued() throws {
        let registry = Registry(store: store)
        let digest = try registry.pushManifest(
            name: name,
            tag: tag("v1"),
            manifestBytes,
            mediaType: .imageIndex
        )
        #expect(
            store.keys == [
                "epoch/catalog.json", "epoch/manifests/library/debian/_digests/sha256-\(digest.hex).json",
                "epoch/manifests/library/debian/v1.json",
            ]
        )
        #expect(store["epoch/manifests/library/debian/v1.json"] == manifestBytes)
        #expect(store.contentType("epoch/manifests/library/debian/v1.json") == MediaType.imageIndex.rawValue)
        #expect(try registry.manifest(name: name, tag: tag("v1")).digest == digest)
        #expect(try registry.manifest(name: name, digest: digest).bytes == manifestBytes)
        let catalog = try registry.catalogWithDigest()
        #expect(catalog.catalog.repositories["library/debian"]?.tags == ["v1": "manifests/library/debian/v1.json"])
        #expect(catalog.digest == Digest(of: store["epoch/catalog.json"] ?? []))
    }

    @Test func theDigestCopyComesFirst() throws {
        let registry = Registry(store: store)
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        let puts = store.calls.filter { $0.operation == "PUT" }.map(\.key)
        #expect(puts.count == 3 && puts[0].contains("_digests") && puts[1].hasSuffix("v1.json"))
    }

    @Test func byDigestOnlyLeavesTheCatalogAlone() throws {
        let registry = Registry(store: store)
        try registry.pushManifest(name: name, manifestBytes, mediaType: .imageIndex)
        #expect(store["epoch/catalog.json"] == nil)
    }

    @Test func typeOfAnObjectThatTheSeedWrote() throws {
        let registry = Registry(store: store)
        let docker = Array("{\"mediaType\":\"\(MediaType.dockerManifest)\",\"layers\":[]}".utf8)
        store["epoch/manifests/library/debian/a.json"] = docker
        store["epoch/manifests/library/debian/b.json"] = manifestBytes
        #expect(try registry.manifest(name: name, tag: tag("a")).mediaType == .dockerManifest)
        #expect(try registry.manifest(name: name, tag: tag("b")).mediaType == .imageIndex)
    }

    @Test func aDamagedDigestCopyIsNeverServed() throws {
        let registry = Registry(store: store)
        let digest = try registry.pushManifest(name: name, manifestBytes, mediaType: .imageIndex)
        store["epoch/manifests/library/debian/_digests/sha256-\(digest.hex).json"] = [1, 2, 3]
        let error = #expect(throws: RegistryError.self) { try registry.manifest(name: name, digest: digest) }
        guard case .damaged? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func anUnchangedTagIsNotSentAgain() throws {
        let registry = Registry(store: store)
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        let etag = try registry.manifest(name: name, tag: tag("v1")).etag
        guard case .unchanged = try registry.lookUp(name: name, tag: tag("v1"), unlessETag: etag) else {
            Issue.record("the tag did not change")
            return
        }
    }
}

@Suite struct TagListTests {
    let store = MemoryStore()

    /// The keys `v1.1.json` and `v1.json` sort the other way round.
    @Test func tagsSortAsTagsNotAsKeys() throws {
        let registry = Registry(store: store)
        for text in ["v1.1", "v1", "V2", "v10", "v1-rc"] {
            try registry.pushManifest(name: name, tag: tag(text), manifestBytes, mediaType: .imageIndex)
        }
        #expect(try registry.tags(name: name).map(\.description) == ["V2", "v1", "v1-rc", "v1.1", "v10"])
    }

    @Test func otherKeysAreNoTags() throws {
        let registry = Registry(store: store)
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        for key in ["x.txt", "_referrers/sha256-a/b.json", "sub/v2.json", ".json", "-bad.json"] {
            store["epoch/manifests/library/debian/\(key)"] = manifestBytes
        }
        #expect(try registry.tags(name: name) == [tag("v1")])
        #expect(try registry.tagsIfPresent(name: RepositoryName("library/deb")) == nil)
        #expect(try registry.tags(name: RepositoryName("library/debian/sub")) == [tag("v2")])
    }

    @Test func aRepositoryWithoutTagsIsKnown() throws {
        let registry = Registry(store: store)
        try registry.pushManifest(name: name, manifestBytes, mediaType: .imageIndex)
        #expect(try registry.tags(name: name) == [])
    }

    @Test func listingsArePaged() throws {
        let registry = Registry(store: store)
        let expected = (0..<2500).map { "t\($0)" }
        for text in expected { store["epoch/manifests/library/debian/\(text).json"] = manifestBytes }
        #expect(try registry.tags(name: name).map(\.description) == expected.sorted())
        #expect(store.calls("LIST") == 3)
    }
}

@Suite struct DeletionTests {
    @Test(arguments: [true, false])
    func takesEveryTagThatResolvesToIt(etagIsContentHash: Bool) throws {
        let store = MemoryStore(etagIsContentHash: etagIsContentHash)
        let registry = Registry(store: store)
        let other = Array("{\"schemaVersion\":2,\"manifests\":[ ]}".utf8)
        for text in ["a", "b", "c"] {
            try registry.pushManifest(name: name, tag: tag(text), manifestBytes, mediaType: .imageIndex)
        }
        try registry.pushManifest(name: name, tag: tag("other"), other, mediaType: .imageIndex)
        let digest = Digest(of: manifestBytes)
        #expect(try registry.deleteManifest(name: name, digest: digest).count == 3)
        #expect(try registry.tags(name: name) == [tag("other")])
        #expect(try registry.catalog().repositories["library/debian"]?.tags.keys.sorted() == ["other"])
        #expect(throws: RegistryError.self) { try registry.deleteManifest(name: name, digest: digest) }
    }

    /// Fails the first, second, … call until the delete passes untouched; after each failure the same call finishes the work.
    @Test func resumesAfterAFailureAtAnyCall() throws {
        for failing in 1...1000 {
            let store = MemoryStore()
            let registry = Registry(store: store)
            for text in ["a", "b"] {
                try registry.pushManifest(name: name, tag: tag(text), manifestBytes, mediaType: .imageIndex)
            }
            let digest = Digest(of: manifestBytes)
            store.intercept { number, call throws(StoreError) in
                if number == failing {
                    throw MemoryStore.unreachable(call)
                }
            }
            let failed = (try? registry.deleteManifest(name: name, digest: digest)) == nil
            store.intercept(nil)
            if failed {
                #expect(try registry.manifestIfPresent(name: name, digest: digest) != nil, "call \(failing)")
                try registry.deleteManifest(name: name, digest: digest)
            }
            #expect(store.keys == ["epoch/catalog.json"], "call \(failing)")
            #expect(try registry.catalog().repositories.isEmpty, "call \(failing)")
            if !failed { return }
        }
        Issue.record("it never passed")
    }
}

@Suite struct CatalogTests {
    @Test(arguments: [true, false])
    func concurrentPushesLoseNoTagAndShareWrites(conditionalWrites: Bool) throws {
        let store = MemoryStore(conditionalWrites: conditionalWrites)
        // Two processes need the store's help not to overwrite each other.
        let nodes = (0..<(conditionalWrites ? 2 : 1)).map { _ in Registry(store: store) }
        let pool = WorkerPool(name: "push", threads: 20, queueLimit: 1000)
        let failures = Monitor<[any Error]>([])
        pool.forEach(below: 200, width: 20) { index in
            do {
                try nodes[index % nodes.count].pushManifest(
                    name: name,
                    tag: tag("t\(index)"),
                    manifestBytes,
                    mediaType: .imageIndex
                )
            } catch {
                failures.withLock { $0.append(error) }
            }
        }
        pool.close()
        #expect(failures.withLock { $0.map { "\($0)" } } == [])
        #expect(try nodes[0].catalog().repositories["library/debian"]?.tags.count == 200)
    }

    @Test func readsWhatGoWrites() throws {
        let store = MemoryStore()
        store["epoch/catalog.json"] = Array(
            """
            {"repositories":{"a":{"tags":null,"updatedAt":"2026-04-23T08:15:30.123456789+02:00"},
            "b":{"tags":{"x":"manifests/b/x.json"},"updatedAt":"2026-04-23T08:15:30Z"}},"updatedAt":"2026-04-23T08:15:30Z"}
            """.utf8
        )
        let registry = Registry(store: store)
        #expect(try registry.catalog().repositories["b"]?.tags == ["x": "manifests/b/x.json"])
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        #expect(try registry.catalog().repositories.keys.sorted() == ["a", "b", "library/debian"])
    }

    @Test func anUnreadableCatalogIsAnErrorNotAFreshStart() throws {
        let store = MemoryStore()
        store["epoch/catalog.json"] = Array("not json".utf8)
        let registry = Registry(store: store)
        #expect(throws: RegistryError.self) {
            try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        }
        #expect(store["epoch/catalog.json"] == Array("not json".utf8))
    }
}
