import Foundation
import Testing

/// A program that pushes images to a registry and pulls them.
protocol RegistryClient {
    /// Whether a push sends the layout's bytes, not ones that are packed anew.
    var keepsBytes: Bool { get }

    /// Pushes the image that the layout has under `tag`; the digest of the manifest now in the registry.
    func push(_ layout: ImageLayout, tag: String, to target: String) throws -> String

    /// Pulls into an empty storage of its own, and checks that all content is what `digest` says.
    func pull(_ source: String, digest: String) throws
}

enum ClientKind: String, CaseIterable, CustomTestStringConvertible {
    case skopeo
    case buildah
    case podman
    case containerd
    case oras

    var testDescription: String { rawValue }

    /// Skips the test when the client is not installed.
    func make() throws -> any RegistryClient {
        switch self {
        case .skopeo:
            try require(tools: "skopeo")
            return Skopeo()
        case .buildah:
            try require(tools: "buildah", "skopeo")
            try requireRoot()
            return ContainersStorage.buildah
        case .podman:
            try require(tools: "podman", "skopeo")
            try requireRoot()
            return ContainersStorage.podman
        case .containerd:
            try require(tools: "containerd", "ctr")
            try requireRoot()
            return Containerd()
        case .oras:
            return try Oras()
        }
    }
}

/// Skips the test when the image cannot be built here.
func debianImages() throws -> ImageLayout {
    try require(tools: "debootstrap", "buildah", "skopeo")
    try requireRoot()
    return try ImageLayout.debian.get()
}
