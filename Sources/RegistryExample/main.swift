// The Registry library without the server. `swift run registry-example DIR` works on a bucket in a directory; without DIR, on the
// bucket that the EPOCH_S3_… variables name.
import Glibc
import Hashing
import OCI
import ObjectStorage
import Registry

func run() throws {
    let registry =
        if let directory = CommandLine.arguments.dropFirst().first {
            Registry(store: try DirectoryStore(root: directory))
        } else {
            try Registry.fromEnvironment()
        }
    try registry.probe()

    let layer = Array("hello from the edge".utf8)
    let layerDigest = Digest(of: layer)
    let isNew = try registry.pushBlob(layerDigest, from: .bytes(layer))
    print("blob \(layerDigest): \(isNew ? "pushed" : "was there"), \(try registry.blobSize(layerDigest)) bytes")

    let config = Array("{}".utf8)
    try registry.pushBlob(Digest(of: config), from: .bytes(config))

    let name = try RepositoryName("example/hello")
    let manifest = Array(
        """
        {"schemaVersion":2,"mediaType":"\(MediaType.imageManifest.rawValue)",
        "config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"\(Digest(of: config))","size":\(config.count)},
        "layers":[{"mediaType":"text/plain","digest":"\(layerDigest)","size":\(layer.count)}]}
        """.utf8
    )
    let digest = try registry.pushManifest(name: name, tag: Tag("v1"), manifest, mediaType: .imageManifest)
    print("manifest \(digest), tags \(try registry.tags(name: name))")
    print("repositories \(try registry.catalog().repositories.keys.sorted())")

    try registry.streamBlob(layerDigest) { piece in
        print("content: \(try String(copying: UTF8Span(validating: piece)))")
    }

    let removed = try registry.deleteManifest(name: name, digest: digest)
    print("deleted \(digest) and its tags \(removed)")
    try registry.deleteBlob(layerDigest)
    do throws(RegistryError) {
        _ = try registry.manifest(name: name, digest: digest)
    } catch {
        // What is not there is a case of its own; all others are trouble.
        guard case .notFound(let what) = error else { throw error }
        print("\(what) is gone")
    }
}

do {
    try run()
} catch {
    print("registry-example: \(error)")
    exit(1)
}
