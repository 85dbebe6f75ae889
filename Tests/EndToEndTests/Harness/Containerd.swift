import Foundation
import Glibc
import Testing

/// containerd's `ctr`, each call with a daemon of its own.
struct Containerd: RegistryClient {
    let keepsBytes = true

    func push(_ layout: ImageLayout, tag: String, to target: String) throws -> String {
        let daemon = try Daemon()
        let archive = daemon.workspace.path + "/image.tar"
        try run(["tar", "-C", layout.folder, "-cf", archive, "."])
        try daemon.ctr("images", "import", "--no-unpack", "--all-platforms", "--base-name", "local/image", archive)
        try daemon.ctr("images", "push", "--plain-http", target, "local/image:\(tag)")
        return try layout.digest(tag: tag)
    }

    func pull(_ source: String, digest: String) throws {
        let daemon = try Daemon()
        try daemon.ctr("images", "pull", "--plain-http", "--all-platforms", "--snapshotter", "native", source)
        #expect(try daemon.ctr("images", "ls", "name==\(source)").contains(digest))
        let pulled = ImageLayout(folder: "\(daemon.workspace.path)/data/io.containerd.content.v1.content")
        try pulled.expectComplete(digest)
    }
}

/// A containerd that keeps everything in a folder of its own and runs no containers.
private final class Daemon {
    let workspace: TemporaryDirectory
    private let process: Command
    private var socket: String { "\(workspace.path)/socket" }

    init() throws {
        workspace = try TemporaryDirectory()
        let configuration = """
            version = 2
            root = "\(workspace.path)/data"
            state = "\(workspace.path)/state"
            disabled_plugins = [
              "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
              "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
              "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.overlayfs",
              "io.containerd.snapshotter.v1.zfs",
            ]
            [grpc]
            address = "\(workspace.path)/socket"
            [ttrpc]
            address = "\(workspace.path)/socket.ttrpc"
            """
        try configuration.write(toFile: workspace.path + "/config.toml", atomically: true, encoding: .utf8)
        process = try Command(
            ["containerd", "--config", workspace.path + "/config.toml"],
            log: workspace.path + "/log"
        )
        try poll(for: "containerd to answer") { [self] in
            guard process.isRunning else { throw MissingRequirement(description: text(of: process.errorsPath)) }
            return try runAllowingFailure(["ctr", "--address", socket, "version"]).status == 0 ? () : nil
        }
    }

    deinit {
        process.signal(SIGTERM)
        // A daemon that hangs is killed by `wait`; the test is over in either case.
        _ = try? process.wait(seconds: 10)
    }

    @discardableResult
    func ctr(_ arguments: String...) throws -> String {
        try run(["ctr", "--address", socket, "--namespace", "forebay"] + arguments)
    }
}
