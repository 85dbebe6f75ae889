import FaultProxy
import Testing

/// Real clients push and pull a real image; the bytes must come back, from a lost disk and from a warm one.
@Suite("Real clients")
struct ClientTests {
    /// Push, lose the cache, pull twice: the second pull must not ask the origin for a single blob.
    private func expectRoundTrip(
        _ tag: String,
        _ origin: OriginKind,
        _ client: any RegistryClient,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let layout = try debianImages()
        try withForebay(origin) { forebay in
            let repository = Repository(forebay, "library/debian")
            let reference = "\(forebay.endpoint.authority)/library/debian:\(tag)"
            let digest = try client.push(layout, tag: tag, to: reference)
            let stored = try fetchedDigests(repository, tag)
            #expect(stored.contains(digest), sourceLocation: sourceLocation)
            if client.keepsBytes {
                #expect(try stored == layout.digests(tag: tag), sourceLocation: sourceLocation)
            }

            try forebay.restart(wipingCache: true)
            let relay = (forebay.origin as? S3Origin)?.relay
            relay?.forget()
            try client.pull(reference, digest: digest)
            #expect(relay?.blobRequests.isEmpty != true, "a cold pull is seen", sourceLocation: sourceLocation)
            #expect(try fetchedDigests(repository, tag) == stored, sourceLocation: sourceLocation)

            try forebay.origin.watchBlobs()
            try client.pull(reference, digest: digest)
            #expect(try fetchedDigests(repository, tag) == stored, sourceLocation: sourceLocation)
            #expect(try forebay.origin.blobRequests() == [], sourceLocation: sourceLocation)
            try forebay.origin.stopWatching()
        }
    }

    @Test(arguments: OriginKind.allCases, ClientKind.allCases)
    func anImageMakesTheRoundTrip(origin: OriginKind, client: ClientKind) throws {
        try expectRoundTrip("debian", origin, client.make())
    }

    @Test(arguments: OriginKind.allCases, [ClientKind.skopeo, .buildah, .containerd])
    func anIndexMakesTheRoundTrip(origin: OriginKind, client: ClientKind) throws {
        try expectRoundTrip("multi", origin, client.make())
    }

    @Test(arguments: [ClientKind.skopeo, .containerd])
    func zstdLayersMakeTheRoundTrip(client: ClientKind) throws {
        try expectRoundTrip("zstd", .directory, client.make())
    }

    /// Two clients push the same content at once, and others pull it.
    @Test func clientsPullWhatOthersPush() throws {
        let layout = try debianImages()
        try withForebay { forebay in
            let targets = ["a/skopeo", "b/buildah"].map { "\(forebay.endpoint.authority)/\($0):v1" }
            let digests = try inParallel(2) { index in
                let client: any RegistryClient = index == 0 ? Skopeo() : ContainersStorage.buildah
                return try client.push(layout, tag: "debian", to: targets[index])
            }
            try ClientKind.podman.make().pull(targets[0], digest: digests[0])
            try ClientKind.containerd.make().pull(targets[1], digest: digests[1])
        }
    }
}
