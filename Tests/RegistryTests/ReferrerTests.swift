import Hashing
import OCI
import Registry
import TestDoubles
import Testing

@Suite struct ReferrerTests {
    let store = MemoryStore()
    let subject = Digest(of: Array("subject".utf8))

    private func manifest(_ fields: String = "") -> [UInt8] {
        let descriptor = "{\"mediaType\":\"x/y\",\"digest\":\"\(subject)\",\"size\":7}"
        return Array(
            "{\"schemaVersion\":2,\"mediaType\":\"\(MediaType.imageManifest)\",\"config\":\(descriptor),\"subject\":\(descriptor)\(fields)}"
                .utf8
        )
    }

    @Test func listsWhatRefersToAManifestThatNeedNotExist() throws {
        let registry = Registry(store: store)
        let plain = try registry.pushManifest(name: name, manifest(), mediaType: .imageManifest)
        let typed = try registry.pushManifest(
            name: name,
            manifest(",\"artifactType\":\"a/b\",\"annotations\":{\"k\":\"v\"}"),
            mediaType: .imageManifest
        )
        let found = try registry.referrers(name: name, subject: subject)
        #expect(found.map(\.digest) == [plain, typed].sorted())
        #expect(found.first { $0.digest == plain }?.artifactType == "x/y", "an image without a type has its config's")
        #expect(found.first { $0.digest == typed }?.artifactType == "a/b")
        #expect(found.first { $0.digest == typed }?.annotations == ["k": "v"])
        #expect(try registry.referrers(name: RepositoryName("other"), subject: subject) == [])
        #expect(try registry.tags(name: name) == [], "the entries are no tags")
    }

    @Test func aDeletedManifestRefersToNothing() throws {
        let registry = Registry(store: store)
        let digest = try registry.pushManifest(name: name, manifest(), mediaType: .imageManifest)
        try registry.deleteManifest(name: name, digest: digest)
        #expect(try registry.referrers(name: name, subject: subject) == [])
        #expect(store.keys == [])
    }

    @Test func fallbackTagsAreMergedAsFarAsTheyAreTrue() throws {
        let registry = Registry(store: store)
        let own = try registry.pushManifest(name: name, manifest(), mediaType: .imageManifest)
        let old = manifest(",\"annotations\":{\"old\":\"1\"}")
        store["epoch/manifests/library/debian/_digests/sha256-\(Digest(of: old).hex).json"] = old
        store["epoch/manifests/library/debian/_digests/sha256-\(Digest(of: manifestBytes).hex).json"] = manifestBytes
        let listed = [own, Digest(of: old), Digest(of: manifestBytes), Digest(of: [1])].map {
            "{\"mediaType\":\"\(MediaType.imageManifest)\",\"digest\":\"\($0)\",\"size\":1}"
        }
        store["epoch/manifests/library/debian/sha256-\(subject.hex).json"] = Array(
            "{\"schemaVersion\":2,\"manifests\":[\(listed.joined(separator: ","))]}".utf8
        )
        let found = try registry.referrers(name: name, subject: subject)
        #expect(found.map(\.digest) == [own, Digest(of: old)].sorted())
    }
}
