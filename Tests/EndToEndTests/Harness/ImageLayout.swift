import Foundation
import Testing

/// Where a manifest says some content is (image-spec, descriptor.md).
struct Descriptor: Decodable, Hashable {
    let mediaType: String
    let digest: String
    let size: Int
    var annotations: [String: String]?
}

/// An image manifest or an index, as far as the tests look into one.
struct ParsedManifest: Decodable {
    var config: Descriptor?
    var layers: [Descriptor]?
    var manifests: [Descriptor]?

    init(_ bytes: [UInt8]) throws { self = try JSONDecoder().decode(Self.self, from: Data(bytes)) }
}

/// What an image configuration says of its layers: the digests of the unpacked tar files.
struct ParsedConfiguration: Decodable {
    struct RootFS: Decodable {
        let diffIDs: [String]

        private enum CodingKeys: String, CodingKey {
            case diffIDs = "diff_ids"
        }
    }
    let rootfs: RootFS
}

/// Images in a folder, each blob a file (image-spec, image-layout.md).
struct ImageLayout: Sendable {
    let folder: String

    /// The images every client pushes, built on first use.
    static let debian = Result { ImageLayout(folder: try Settings.fixture(by: "build-image")) }

    func path(_ digest: String) -> String {
        "\(folder)/blobs/\(digest.replacingOccurrences(of: ":", with: "/"))"
    }

    func digest(tag: String) throws -> String {
        let index = try ParsedManifest(contents(of: "\(folder)/index.json"))
        let found = index.manifests?.first { $0.annotations?["org.opencontainers.image.ref.name"] == tag }
        return try #require(found?.digest)
    }

    /// The digests of all that hangs on a tag, and of the manifest itself.
    func digests(tag: String) throws -> Set<String> { try reachable(from: digest(tag: tag)) }

    /// Checks that all that hangs on `digest` is here, byte for byte.
    func expectComplete(_ digest: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        for content in try reachable(from: digest) {
            #expect(try sha256(ofFile: path(content)) == content, sourceLocation: sourceLocation)
        }
    }

    private func reachable(from digest: String) throws -> Set<String> {
        let manifest = try ParsedManifest(contents(of: path(digest)))
        var digests: Set = [digest]
        for child in manifest.manifests ?? [] { try digests.formUnion(reachable(from: child.digest)) }
        for blob in (manifest.config.map { [$0] } ?? []) + (manifest.layers ?? []) { digests.insert(blob.digest) }
        return digests
    }
}

/// Fetches an image over raw HTTP and hashes every byte of it: the digests of all that hangs on `reference`.
func fetchedDigests(_ repository: Repository, _ reference: String) throws -> Set<String> {
    let response = try repository.request(
        "GET",
        "manifests/\(reference)",
        ["Accept": "\(manifestType), \(indexType)"]
    )
    try #require(response.status == 200, "\(reference): \(response.text)")
    let digest = sha256(response.body)
    #expect(response["Docker-Content-Digest"] == digest)
    let manifest = try ParsedManifest(response.body)
    var digests: Set = [digest]
    for child in manifest.manifests ?? [] { try digests.formUnion(fetchedDigests(repository, child.digest)) }
    for blob in (manifest.config.map { [$0] } ?? []) + (manifest.layers ?? []) {
        let response = try repository.request("GET", "blobs/\(blob.digest)")
        try #require(response.status == 200, "\(blob.digest): \(response.text)")
        #expect(response.body.count == blob.size)
        digests.insert(sha256(response.body))
    }
    return digests
}
