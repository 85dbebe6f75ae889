import Foundation
import Testing

/// buildah and podman: both unpack what they pull into a storage, and pack what they push from it.
struct ContainersStorage: RegistryClient {
    let program: String
    let flags: [String]
    let keepsBytes = false

    static let buildah = ContainersStorage(program: "buildah", flags: [])
    static let podman = ContainersStorage(
        program: "podman",
        flags: ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    )

    func push(_ layout: ImageLayout, tag: String, to target: String) throws -> String {
        let workspace = try TemporaryDirectory()
        let isIndex = try ParsedManifest(contents(of: layout.path(layout.digest(tag: tag)))).manifests != nil
        let digestFile = workspace.path + "/digest"
        if isIndex {
            try call(workspace, ["manifest", "create", "localhost/pushed"])
            try call(workspace, ["manifest", "add", "--all", "localhost/pushed", "oci:\(layout.folder):\(tag)"])
            try call(
                workspace,
                ["manifest", "push", "--quiet", "--all", "--tls-verify=false", "--digestfile", digestFile]
                    + ["localhost/pushed", "docker://\(target)"]
            )
        } else {
            let image = "containers-storage:[\(storage(workspace))]localhost/pushed:\(tag)"
            try copy("oci:\(layout.folder):\(tag)", image)
            try call(
                workspace,
                ["push", "--quiet", "--tls-verify=false", "--digestfile", digestFile]
                    + ["localhost/pushed:\(tag)", "docker://\(target)"]
            )
        }
        return text(of: digestFile).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// The layers were unpacked: they are written out again and compared with what the configuration says of them.
    func pull(_ source: String, digest: String) throws {
        let workspace = try TemporaryDirectory()
        let image = try call(workspace, ["pull", "--quiet", "--tls-verify=false", "docker://\(source)"])
            .trimmingCharacters(in: .whitespacesAndNewlines)
        let unpacked = workspace.path + "/unpacked"
        try copy("containers-storage:[\(storage(workspace))]\(image)", "dir:\(unpacked)")
        let manifest = try ParsedManifest(contents(of: unpacked + "/manifest.json"))
        let configuration = try #require(manifest.config)
        // An image is named after its configuration, which the pulled manifest names by digest.
        #expect(configuration.digest == "sha256:\(image)")
        let hex = configuration.digest.dropFirst("sha256:".count)
        let bytes = try contents(of: "\(unpacked)/\(hex)")
        #expect(sha256(bytes) == configuration.digest)
        let layers = try JSONDecoder().decode(ParsedConfiguration.self, from: Data(bytes)).rootfs.diffIDs
        #expect(manifest.layers?.map(\.digest) == layers)
        for layer in layers {
            #expect(try sha256(ofFile: "\(unpacked)/\(layer.dropFirst("sha256:".count))") == layer)
        }
        let listed = try call(workspace, ["images", "--digests", "--no-trunc"])
        #expect(listed.contains(digest), "\(listed)")
    }

    private func storage(_ workspace: TemporaryDirectory) -> String {
        "vfs@\(workspace.path)/storage+\(workspace.path)/run"
    }

    private func copy(_ source: String, _ destination: String) throws {
        try run(["skopeo", "--insecure-policy", "copy", "--quiet", source, destination])
    }

    @discardableResult
    private func call(_ workspace: TemporaryDirectory, _ arguments: [String]) throws -> String {
        let storage = ["--root", "\(workspace.path)/storage", "--runroot", "\(workspace.path)/run"]
        return try run([program] + storage + ["--storage-driver", "vfs"] + flags + arguments)
    }
}
