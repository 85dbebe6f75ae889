import DiskTier
import EdgeCache
import Hashing
import Logging
import OCI
import ObjectStorage
import Registry
import System
import TestDoubles
import Testing
import Threading

/// An edge cache over a store in memory, with a tier in a folder of its own.
final class Edge {
    let store: MemoryStore
    let folder: TemporaryFolder
    let time: ManualTime
    let tier: DiskTier
    let cache: EdgeCache
    let registry: Registry

    init(
        store: MemoryStore = MemoryStore(),
        folder: TemporaryFolder = TemporaryFolder(),
        time: ManualTime = ManualTime(),
        ceilingBytes: Int64 = 256 << 20,
        fileSystem: any FileSystem = LocalFileSystem(),
        _ adjust: (inout EdgeCache.Configuration) -> Void = { _ in }
    ) throws {
        self.store = store
        self.folder = folder
        self.time = time
        tier = try DiskTier(
            DiskTier.Configuration(directory: folder.path + "/cache", ceilingBytes: ceilingBytes),
            fileSystem: fileSystem,
            time: time
        )
        var configuration = EdgeCache.Configuration()
        configuration.fillReaderPatience = .seconds(3600)
        adjust(&configuration)
        registry = Registry(store: store, time: time)
        cache = EdgeCache(
            registry: registry,
            tier: tier,
            configuration: configuration,
            fileSystem: fileSystem,
            time: time,
            log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        )
    }

    deinit {
        cache.close()
        tier.close()
    }

    /// What another process would find had this one been killed now, before the same origin.
    func killed(
        ceilingBytes: Int64 = 256 << 20,
        _ adjust: (inout EdgeCache.Configuration) -> Void = { _ in }
    ) throws -> Edge {
        let copy = TemporaryFolder()
        try folder.copy(to: copy.path)
        return try Edge(store: store, folder: copy, time: time, ceilingBytes: ceilingBytes, adjust)
    }

    /// Puts a blob into the origin only.
    func seed(_ content: [UInt8], named digest: Digest? = nil) -> Digest {
        let digest = digest ?? Digest(of: content)
        store["epoch/blobs/\(digest.algorithm.rawValue)/\(digest.hex)"] = content
        return digest
    }

    /// Pushes a blob through an upload session.
    func push(_ content: [UInt8], as digest: Digest? = nil) throws {
        let digest = digest ?? Digest(of: content)
        let upload = try cache.beginUpload(library, algorithm: digest.algorithm)
        let chunk = try cache.openChunk(library, upload.id, length: Int64(content.count))
        chunk.append(content.span)
        try chunk.finish(as: digest)
    }

    /// Reads a blob to its end, whatever way it comes.
    func read(_ digest: Digest) throws -> [UInt8]? {
        try cache.blob(digest).map { try contents($0) }
    }
}

let library = try! RepositoryName("library/debian")  // A literal that parses.

func contents(_ content: BlobContent, from start: Int64 = 0, step: Int = 100_000) throws -> [UInt8] {
    switch content {
    case .bytes(let bytes): return Array(bytes[Int(start)...])
    case .file(let file, let status):
        return try LocalFileSystem().read(file, at: start, count: Int(status.size - start))
    case .stream(let stream, let size):
        var bytes: [UInt8] = []
        while Int64(bytes.count) < size - start {
            bytes += try [UInt8](capacity: step) { (buffer: inout OutputSpan<UInt8>) throws(EdgeError) in
                try stream.read(at: start + Int64(bytes.count), into: &buffer)
            }
        }
        return bytes
    }
}

func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &+ seed) &* 2_654_435_761 >> 11) }
}
