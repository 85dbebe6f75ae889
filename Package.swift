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

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")

let package = Package(
    name: "forebay",
    products: [
        .executable(name: "forebay", targets: ["forebay"]),
        // With the values in its interface.
        .library(name: "Registry", targets: ["Registry", "ObjectStorage", "Hashing", "Metrics", "OCI"]),
        .executable(name: "registry-example", targets: ["RegistryExample"]),
        .executable(name: "cache-replay", targets: ["CacheReplay"]),
    ],
    dependencies: [
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.0.0", traits: ["YAML"]),
        .package(url: "https://github.com/apple/swift-log", from: "1.6.4"),
        .package(url: "https://github.com/apple/swift-system", from: "1.5.0"),
        .package(url: "https://github.com/jpsim/Yams", "5.4.0"..<"7.0.0"),
    ],
    targets: [
        // Doors: a module map and shims, no logic.
        .systemLibrary(name: "CGlibc"),
        .systemLibrary(name: "CMicroHTTPD", pkgConfig: "libmicrohttpd", providers: [.apt(["libmicrohttpd-dev"])]),
        .systemLibrary(name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),

        // Rooms, bottom up: each may import those above it here.
        .target(name: "Threading", dependencies: ["CGlibc"], swiftSettings: wrapper),
        .target(name: "System", dependencies: ["CGlibc"], swiftSettings: wrapper),
        .target(name: "OCI", swiftSettings: safe),
        .target(name: "Metrics", dependencies: ["Threading"], swiftSettings: safe),
        .target(name: "Hashing", dependencies: ["CCrypto", "OCI"], swiftSettings: wrapper),
        .target(name: "LMDB", dependencies: ["CLMDB", "System", "Threading"], swiftSettings: wrapper),
        .target(name: "HTTPClient", dependencies: ["CCurl", "System", "Threading"], swiftSettings: wrapper),
        .target(
            name: "HTTPServer",
            dependencies: ["CGlibc", "CMicroHTTPD", "System", "Threading"],
            swiftSettings: wrapper,
            // libmicrohttpd finds it only among the executable's dynamic symbols.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--export-dynamic-symbol=sendfile64"])]
        ),
        .target(
            name: "ObjectStorage",
            dependencies: ["HTTPClient", "Hashing", "Metrics", "OCI", "System", "Threading"],
            swiftSettings: safe
        ),
        .target(
            name: "Registry",
            dependencies: ["HTTPClient", "Hashing", "OCI", "ObjectStorage", "System", "Threading"],
            swiftSettings: safe
        ),
        .executableTarget(
            name: "RegistryExample",
            dependencies: ["Hashing", "OCI", "ObjectStorage", "Registry"],
            swiftSettings: safe
        ),
        .target(
            name: "DiskTier",
            dependencies: ["Hashing", "LMDB", "OCI", "System", "Threading"],
            swiftSettings: safe
        ),
        .target(
            name: "EdgeCache",
            dependencies: ["DiskTier", "Hashing", "OCI", "ObjectStorage", "Registry", "System", "Threading", logging],
            swiftSettings: safe
        ),
        .target(
            name: "RegistryAPI",
            dependencies: [
                "DiskTier", "EdgeCache", "HTTPServer", "Metrics", "OCI", "ObjectStorage", "Registry", "System",
                "Threading", logging,
            ],
            swiftSettings: safe
        ),
        .target(
            name: "AdminAPI",
            dependencies: [
                "DiskTier", "EdgeCache", "HTTPServer", "Hashing", "Metrics", "OCI", "ObjectStorage", "RegistryAPI",
                "System", "Threading", logging,
            ],
            swiftSettings: safe
        ),
        .target(
            name: "Settings",
            dependencies: [
                "ObjectStorage", "Registry", "System", "Yams", logging,
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: safe
        ),
        .target(
            name: "Benchmark",
            dependencies: [
                "HTTPClient", "Hashing", "OCI", "System", "Threading",
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            swiftSettings: safe
        ),
        .executableTarget(
            name: "forebay",
            dependencies: [
                "AdminAPI", "Benchmark", "CGlibc", "DiskTier", "EdgeCache", "HTTPClient", "HTTPServer", "OCI",
                "ObjectStorage", "Registry",
                "RegistryAPI", "Settings", "System", "Threading", logging,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: safe
        ),

        // Measurements that need more than a client: `swift run -c release TierBench`.
        .executableTarget(
            name: "TierBench",
            dependencies: ["DiskTier", "Hashing", "OCI", "System", "Threading"],
            path: "bench/TierBench",
            swiftSettings: wrapper
        ),
        // What decides which eviction policy is the default.
        .target(
            name: "TraceReplay",
            dependencies: ["DiskTier"],
            path: "bench/replay/TraceReplay",
            swiftSettings: safe
        ),
        .executableTarget(
            name: "CacheReplay",
            dependencies: [
                "DiskTier", "System", "TraceReplay", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "bench/replay/Command",
            swiftSettings: safe
        ),

        .target(
            name: "TestDoubles",
            dependencies: ["Hashing", "ObjectStorage", "System", "Threading"],
            path: "Tests/TestDoubles",
            swiftSettings: wrapper
        ),
        // Bad weather in front of any HTTP server.
        .target(name: "FaultProxy", dependencies: ["Threading"], path: "Tests/FaultProxy", swiftSettings: wrapper),
        test("FaultProxyTests", ["FaultProxy"]),
        test("ThreadingTests", ["TestDoubles", "Threading"]),
        test("SystemTests", ["System", "TestDoubles", "Threading"]),
        test("OCITests", ["OCI"]),
        test("HashingTests", ["Hashing", "OCI"]),
        test("LMDBTests", ["LMDB", "System", "TestDoubles", "Threading"]),
        test("HTTPServerTests", ["CGlibc", "HTTPClient", "HTTPServer", "System", "TestDoubles", "Threading"]),
        test("SettingsTests", ["ObjectStorage", "Settings", "System", "TestDoubles"]),
        test("HTTPClientTests", ["HTTPClient", "System", "Threading"]),
        test(
            "ObjectStorageTests",
            ["FaultProxy", "HTTPClient", "Hashing", "OCI", "ObjectStorage", "System", "TestDoubles", "Threading"]
        ),
        test("RegistryTests", ["Hashing", "OCI", "ObjectStorage", "Registry", "System", "TestDoubles", "Threading"]),
        test("TraceReplayTests", ["DiskTier", "TraceReplay"]),
        test("DiskTierTests", ["DiskTier", "Hashing", "OCI", "System", "TestDoubles", "Threading"]),
        test(
            "EdgeCacheTests",
            [
                "DiskTier", "EdgeCache", "Hashing", "OCI", "ObjectStorage", "Registry", "System", "TestDoubles",
                "Threading", logging,
            ]
        ),
        test(
            "AdminAPITests",
            [
                "AdminAPI", "DiskTier", "EdgeCache", "HTTPClient", "HTTPServer", "Hashing", "Metrics", "OCI",
                "ObjectStorage", "Registry", "RegistryAPI", "System", "TestDoubles", "Threading", logging,
            ]
        ),
        test("BenchmarkTests", ["Benchmark", "HTTPServer", "Hashing", "OCI", "TestDoubles", "Threading"]),
        // Starts the built binary and drives it with real clients; meets no room but the hash.
        test("EndToEndTests", ["FaultProxy", "Hashing", "OCI"]),
    ]
)
