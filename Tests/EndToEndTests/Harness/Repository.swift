import Foundation
import Testing

let manifestType = "application/vnd.oci.image.manifest.v1+json"
let indexType = "application/vnd.oci.image.index.v1+json"

/// One repository of a registry, spoken to by hand.
struct Repository {
    let endpoint: Endpoint
    let name: String

    init(_ endpoint: Endpoint, _ name: String = "library/test") {
        self.endpoint = endpoint
        self.name = name
    }

    init(_ forebay: Forebay, _ name: String = "library/test") { self.init(forebay.endpoint, name) }

    func path(_ rest: String) -> String { "/v2/\(name)/\(rest)" }

    func request(
        _ method: String,
        _ rest: String,
        _ headers: [String: String] = [:],
        body: RequestBody = .none
    ) throws -> Response {
        try endpoint.request(method, path(rest), headers, body: body)
    }

    /// Opens an upload session; the path of its location.
    func openUpload(_ query: String = "", sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
        let response = try request("POST", "blobs/uploads/\(query)")
        #expect(response.status == 202, sourceLocation: sourceLocation)
        return try #require(response.location, sourceLocation: sourceLocation)
    }

    /// Uploads `bytes` in one session and one request; the digest.
    @discardableResult
    func push(
        blob bytes: [UInt8],
        as digest: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let digest = digest ?? sha256(bytes)
        let session = try openUpload(sourceLocation: sourceLocation)
        let response = try endpoint.request("PUT", adding("digest=\(digest)", to: session), body: .bytes(bytes))
        #expect(response.status == 201, "\(response.text)", sourceLocation: sourceLocation)
        #expect(response["Docker-Content-Digest"] == digest, sourceLocation: sourceLocation)
        return digest
    }

    @discardableResult
    func push(
        manifest: [UInt8],
        as reference: String,
        type: String = manifestType,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let response = try request("PUT", "manifests/\(reference)", ["Content-Type": type], body: .bytes(manifest))
        #expect(response.status == 201, "\(response.text)", sourceLocation: sourceLocation)
        return sha256(manifest)
    }

    /// Pushes a config, one layer and a manifest of them; the manifest's bytes.
    @discardableResult
    func pushImage(
        tag: String,
        seed: UInt64 = 1,
        layerSize: Int = 10_000,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> [UInt8] {
        let config = Array(#"{"architecture":"amd64","os":"linux","seed":\#(seed)}"#.utf8)
        let layer = noise(layerSize, seed: seed)
        try push(blob: config, sourceLocation: sourceLocation)
        try push(blob: layer, sourceLocation: sourceLocation)
        let manifest = imageManifest(config: config, layers: [layer])
        try push(manifest: manifest, as: tag, sourceLocation: sourceLocation)
        return manifest
    }
}

/// Adds `item` to the query of `location`, which may have one already.
func adding(_ item: String, to location: String) -> String { location + (location.contains("?") ? "&" : "?") + item }

/// A manifest in the odd white space that a re-encoding would not keep.
func imageManifest(config: [UInt8], layers: [[UInt8]], digest: ([UInt8]) -> String = sha256) -> [UInt8] {
    let layers = layers.map {
        #"{ "mediaType":"application/vnd.oci.image.layer.v1.tar", "size":\#($0.count),"digest":"\#(digest($0))" }"#
    }
    return Array(
        """
        {"schemaVersion" : 2,
        \t"mediaType": "\(manifestType)",
          "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"\(digest(config))",
           "size":\(config.count)},  "layers":[\(layers.joined(separator: " , "))]  }

        """.utf8
    )
}

/// Checks that `response` is an error as the protocol has it: the status, JSON, and one of the codes.
func expectError(
    _ response: Response,
    _ status: Int,
    _ codes: String...,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(response.status == status, "\(response.text.prefix(500))", sourceLocation: sourceLocation)
    #expect(
        response["Content-Type"]?.hasPrefix("application/json") == true,
        "Content-Type is \(response["Content-Type"] ?? "missing")",
        sourceLocation: sourceLocation
    )
    #expect(
        response.errorCodes.contains { codes.contains($0) },
        "wanted \(codes), got \(response.text.prefix(500))",
        sourceLocation: sourceLocation
    )
}
