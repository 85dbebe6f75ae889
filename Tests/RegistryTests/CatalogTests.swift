import Hashing
import OCI
import ObjectStorage
import Registry
import TestDoubles
import Testing
import Threading

@Suite struct CatalogTests {
    @Test(arguments: [true, false])
    func concurrentPushesLoseNoTagAndShareWrites(conditionalWrites: Bool) throws {
        let store = MemoryStore(conditionalWrites: conditionalWrites)
        let nodes = (0..<2).map { _ in Registry(store: store) }
        let failures = push(200, clients: 20, through: nodes)
        #expect(failures == [])
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

    /// Bug: where writes have no conditions, a store that denied the catalog once, or gave something else for it, had it begun anew.
    @Test(arguments: [true, false])
    func aCatalogIsNotBegunAnewForOneFalseAnswer(_ isDenied: Bool) throws {
        let store = MemoryStore(conditionalWrites: false, isFaithful: false)
        let registry = Registry(store: store)
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        let key = "epoch/catalog.json"
        let kept = store[key]
        if isDenied {
            store.intercept { _, call throws(StoreError) in
                if call.key == key, call.operation == "GET" { store[key] = nil } else { store[key] = kept }
            }
        } else {
            store.tamper(gets: 1) { _ in Array("{}".utf8) }
        }
        #expect(throws: RegistryError.self) {
            try registry.pushManifest(name: name, tag: tag("v2"), manifestBytes, mediaType: .imageIndex)
        }
        store.intercept(nil)
        #expect(store[key] == kept)
        try registry.pushManifest(name: name, tag: tag("v2"), manifestBytes, mediaType: .imageIndex)
        #expect(try registry.catalog().repositories[name.description]?.tags.keys.sorted() == ["v1", "v2"])
    }

    /// Fifty clients, five hundred tags, a catalog of twenty thousand: the writes are shared.
    @Test func fiveHundredPushesShareFiftyWrites() throws {
        let store = MemoryStore()
        store["epoch/catalog.json"] = catalog(repositories: 200, tags: 100)
        let registry = Registry(store: store)
        let failures = push(500, clients: 50, through: [registry])
        #expect(failures == [])
        let writes = store.calls.filter { $0.operation == "PUT" && $0.key == "epoch/catalog.json" }.count
        #expect(writes <= 50)
        let tags = try registry.catalog().repositories.values.reduce(0) { $0 + $1.tags.count }
        #expect(tags == 20_500)
    }

    /// A dead process's ticket is taken away by those who have waited for it long enough.
    @Test func aTicketThatNobodyUsesIsTakenAway() throws {
        let store = MemoryStore(conditionalWrites: false)
        store["epoch/_locks/catalog/1-dead"] = []
        store["epoch/_locks/catalog/0-dead2"] = []
        let time = ManualTime()
        store.intercept { _, call throws(StoreError) in
            if call.operation == "LIST" { time.advance(.seconds(10)) }
        }
        let registry = Registry(store: store, time: time)
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        #expect(!store.keys.contains { $0.contains("_locks") })
        #expect(try registry.catalog().repositories["library/debian"]?.tags.keys.sorted() == ["v1"])
    }

    /// Fails each call in turn: a failed push leaves no ticket that another would wait for.
    @Test func aFailedPushLeavesNoTicket() throws {
        for failing in 1...100 {
            let store = MemoryStore(conditionalWrites: false)
            let registry = Registry(store: store)
            store.intercept { number, call throws(StoreError) in
                if number == failing { throw MemoryStore.unreachable(call) }
            }
            let failed =
                (try? registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)) == nil
            store.intercept(nil)
            let left = store.keys.filter { $0.contains("_locks") }
            // The call that failed may have been the one to remove it.
            #expect(left.count <= 1, "call \(failing): \(left)")
            if !failed, left.isEmpty { return }
        }
        Issue.record("it never passed")
    }
}

@Suite struct UnprobedStoreTests {
    /// Two nodes that protect the catalog in different ways undo each other's changes: one that does not know yet which way it is writes nothing.
    @Test func theCatalogWaitsForTheProbe() throws {
        let store = MemoryStore(isProbed: false)
        let registry = Registry(store: store)
        store.intercept { _, call throws(StoreError) in
            if call.operation == "PROBE" { throw MemoryStore.unreachable(call) }
        }
        #expect(throws: RegistryError.self) {
            try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        }
        #expect(store["epoch/catalog.json"] == nil)
        store.intercept(nil)
        try registry.pushManifest(name: name, tag: tag("v1"), manifestBytes, mediaType: .imageIndex)
        #expect(store.capabilities.areKnown && store["epoch/catalog.json"] != nil)
        #expect(!store.calls.contains { $0.key.contains("_locks") }, "conditions are honoured")
    }
}

@Suite struct RebuildTests {
    @Test(arguments: [true, false])
    func makesTheCatalogOfAListing(conditionalWrites: Bool) throws {
        let store = MemoryStore(conditionalWrites: conditionalWrites)
        let registry = Registry(store: store)
        for text in ["v1", "v2"] {
            try registry.pushManifest(name: name, tag: tag(text), manifestBytes, mediaType: .imageIndex)
        }
        try registry.pushManifest(name: try RepositoryName("a"), tag: tag("x"), manifestBytes, mediaType: .imageIndex)
        let expected = try registry.catalog().repositories.mapValues(\.tags)
        for damaged: [UInt8]? in [nil, Array("not json".utf8), Array("{}".utf8)] {
            store["epoch/catalog.json"] = damaged
            var last = RebuildProgress()
            let catalog = try registry.rebuildCatalog { last = $0 }
            #expect(catalog.repositories.mapValues(\.tags) == expected)
            #expect(try registry.catalog().repositories.mapValues(\.tags) == expected)
            #expect(last.tags == 3 && last.repositories == 2 && last.objects > 3)
        }
    }

    @Test func whatIsPushedAndDeletedMeanwhileCounts() throws {
        let store = MemoryStore()
        let registry = Registry(store: store)
        for text in ["stays", "goes"] {
            try registry.pushManifest(name: name, tag: tag(text), manifestBytes, mediaType: .imageIndex)
        }
        let other = Registry(store: store)
        _ = try registry.rebuildCatalog { _ in
            // The listing is done, the catalog not yet written.
            do {
                try other.deleteTag(name: name, tag: tag("goes"))
                try other.pushManifest(name: name, tag: tag("comes"), manifestBytes, mediaType: .imageIndex)
            } catch {
                Issue.record(error)
            }
        }
        #expect(try registry.catalog().repositories["library/debian"]?.tags.keys.sorted() == ["comes", "stays"])
    }
}

/// Pushes that many tags at once; returns the errors.
private func push(_ count: Int, clients: Int, through nodes: [Registry]) -> [String] {
    let pool = WorkerPool(name: "push", threads: clients, queueLimit: count)
    let failures = Monitor<[any Error]>([])
    pool.forEach(below: count, width: clients) { index in
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
    return failures.withLock { $0.map { "\($0)" } }
}

private func catalog(repositories: Int, tags: Int) -> [UInt8] {
    let entries = (0..<repositories).map { number in
        let list = (0..<tags).map { "\"t\($0)\":\"manifests/r\(number)/t\($0).json\"" }.joined(separator: ",")
        return "\"r\(number)\":{\"tags\":{\(list)},\"updatedAt\":\"2026-04-23T08:15:30Z\"}"
    }
    return Array("{\"repositories\":{\(entries.joined(separator: ","))},\"updatedAt\":\"2026-04-23T08:15:30Z\"}".utf8)
}
