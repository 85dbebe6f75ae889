// swift-tools-version: 6.2

import PackageDescription

/// Rooms that own a C library or a system call meet raw pointers.
let wrapper: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Everything above them is strictly memory-safe.
let safe: [SwiftSetting] = wrapper + [.strictMemorySafety()]

func test(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: wrapper)
}

let package = Package(
    name: "forebay",
    products: [],
    dependencies: [],
    targets: [
        // Doors: a module map and shims, no logic.
        .systemLibrary(name: "CGlibc"),
        .systemLibrary(name: "CMicroHTTPD", pkgConfig: "libmicrohttpd", providers: [.apt(["libmicrohttpd-dev"])]),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),

        // Rooms, bottom up.
        .target(name: "Threading", dependencies: ["CGlibc"], swiftSettings: wrapper),
        .target(name: "System", dependencies: ["CGlibc"], swiftSettings: wrapper),
        .target(name: "OCI", swiftSettings: safe),
        .target(name: "Hashing", dependencies: ["CCrypto", "OCI"], swiftSettings: wrapper),
        .target(name: "LMDB", dependencies: ["CLMDB"], swiftSettings: wrapper),
        .target(name: "HTTPClient", dependencies: ["CCurl"], swiftSettings: wrapper),
        .target(name: "HTTPServer", dependencies: ["CMicroHTTPD", "System"], swiftSettings: wrapper),
        .target(
            name: "ObjectStorage",
            dependencies: ["HTTPClient", "Hashing", "OCI", "System", "Threading"],
            swiftSettings: safe
        ),

        test("ThreadingTests", ["Threading"]),
        test("SystemTests", ["System"]),
        test("OCITests", ["OCI"]),
        test("HashingTests", ["Hashing", "OCI"]),
        test("LMDBTests", ["LMDB"]),
        test("HTTPClientTests", ["HTTPClient"]),
        test("HTTPServerTests", ["HTTPServer", "System"]),
        // Starts the built binary and drives it with real clients; meets no room but the hash.
        test("EndToEndTests", ["Hashing", "OCI"]),
        test("ObjectStorageTests", ["ObjectStorage", "Hashing", "HTTPClient", "OCI", "System"]),
    ]
)
