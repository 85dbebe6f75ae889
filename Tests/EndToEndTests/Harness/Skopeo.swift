import Foundation
import Testing

/// skopeo, from and to OCI layouts: nothing is unpacked or packed again, so every byte can be compared.
struct Skopeo: RegistryClient {
    let keepsBytes = true

    func push(_ layout: ImageLayout, tag: String, to target: String) throws -> String {
        try copy("oci:\(layout.folder):\(tag)", "docker://\(target)", ["--dest-tls-verify=false"])
        return try layout.digest(tag: tag)
    }

    func pull(_ source: String, digest: String) throws {
        let workspace = try TemporaryDirectory()
        let pulled = ImageLayout(folder: workspace.path + "/layout")
        try copy("docker://\(source)", "oci:\(pulled.folder):pulled", ["--src-tls-verify=false"])
        #expect(try pulled.digest(tag: "pulled") == digest)
        try pulled.expectComplete(digest)
    }

    /// All images of an index, with their digests as they are.
    private func copy(_ source: String, _ destination: String, _ flags: [String]) throws {
        try run(
            ["skopeo", "--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"] + flags
                + [source, destination]
        )
    }
}
