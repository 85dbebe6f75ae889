internal import HTTPClient
internal import Hashing
internal import OCI
internal import Synchronization
internal import Threading

/// A blob with its digest: generated, or kept because it is short.
struct Content: BodySource {
    private enum Source {
        case generated(GeneratedBlob)
        case bytes([UInt8])
    }

    let digest: Digest
    private let source: Source

    init(_ blob: GeneratedBlob) {
        source = .generated(blob)
        digest = blob.digest()
    }

    init(_ bytes: [UInt8]) {
        source = .bytes(bytes)
        digest = Digest(of: bytes)
    }

    var length: Int64 {
        switch source {
        case .generated(let blob): blob.length
        case .bytes(let bytes): Int64(bytes.count)
        }
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) -> Int {
        switch source {
        case .generated(let blob): return blob.read(at: offset, into: &buffer)
        case .bytes(let bytes):
            let rest = bytes[Int(offset)...].prefix(buffer.freeCapacity)
            for byte in rest { buffer.append(byte) }
            return rest.count
        }
    }

    /// Whether `piece` is what stands at `offset`.
    func matches(_ piece: Span<UInt8>, at offset: Int64) -> Bool {
        switch source {
        case .generated(let blob): return blob.matches(piece, at: offset)
        case .bytes(let bytes):
            guard offset >= 0, offset + Int64(piece.count) <= Int64(bytes.count) else { return false }
            return piece.indices.allSatisfy { piece[$0] == bytes[Int(offset) + $0] }
        }
    }
}

/// An image as clients pull it.
struct Image: Sendable {
    let tag: String
    let manifest: [UInt8]
    let digest: Digest
    /// The config first.
    let blobs: [Content]

    /// How an image's bytes are spread over its layers: a base system, a runtime, an application, and the small ones that most lines of a
    /// build file make.
    private static let shares = [0.42, 0.31, 0.17, 0.08, 0.015, 0.0045, 0.0005]

    /// Layer sizes of about `total` bytes together; another image has other sizes.
    static func layerSizes(total: Int64, using generator: inout SplitMix64) -> [Int64] {
        shares.map { share in
            max(1, Int64(Double(total) * share * Double.random(in: 0.7...1.3, using: &generator)))
        }
    }

    init(tag: String, layers: [Content]) {
        let config = Content(Self.config(tag: tag, layers: layers))
        manifest = Self.manifest(config: config, layers: layers)
        self.tag = tag
        digest = Digest(of: manifest)
        blobs = [config] + layers
    }

    private static func config(tag: String, layers: [Content]) -> [UInt8] {
        let ids = layers.map { "\"\($0.digest)\"" }.joined(separator: ",")
        let history = layers.indices.map { "{\"created_by\":\"layer \($0) of \(tag)\"}" }.joined(separator: ",")
        let rootfs = "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\(ids)]}"
        return Array("{\"architecture\":\"amd64\",\"os\":\"linux\",\"history\":[\(history)],\(rootfs)}".utf8)
    }

    private static func manifest(config: Content, layers: [Content]) -> [UInt8] {
        func descriptor(_ content: Content, _ type: String) -> String {
            "{\"mediaType\":\"\(type)\",\"digest\":\"\(content.digest)\",\"size\":\(content.length)}"
        }
        let type = "application/vnd.oci.image"
        let list = layers.map { descriptor($0, "\(type).layer.v1.tar+gzip") }.joined(separator: ",")
        let head = "{\"schemaVersion\":2,\"mediaType\":\"\(MediaType.imageManifest)\""
        return Array("\(head),\"config\":\(descriptor(config, "\(type).config.v1+json")),\"layers\":[\(list)]}".utf8)
    }
}

/// Makes contents, each with a number of its own: a seed gives the same ones in the same order.
final class ContentMaker: Sendable {
    private let seed: UInt64
    private let next = Atomic<UInt64>(0)

    init(seed: UInt64) { self.seed = seed }

    /// Their digests are computed on all processors.
    func make(_ lengths: [Int64]) -> [Content] {
        let first = next.wrappingAdd(UInt64(lengths.count), ordering: .relaxed).oldValue
        let made = Mutex<[Int: Content]>([:])
        let threads = min(max(1, lengths.count), processorCount())
        let pool = WorkerPool(name: "bench-content", threads: threads, queueLimit: threads)
        pool.forEach(below: lengths.count) { [seed] index in
            let number = first + UInt64(index)
            let content = Content(GeneratedBlob(seed: seed, number: number, length: lengths[index]))
            made.withLock { $0[index] = content }
        }
        pool.close()
        return made.withLock { made in lengths.indices.compactMap { made[$0] } }
    }

    /// Images of about `size` bytes. Two each share their base layer, as images of one house do.
    func makeImages(_ count: Int, size: Int64) -> [Image] {
        var generator = SplitMix64(seed)
        var base: Content?
        return (0..<count).map { index in
            let sizes = Image.layerSizes(total: size, using: &generator)
            let shared = index % 2 == 1 ? base : nil
            let made = make(shared == nil ? sizes : Array(sizes.dropFirst()))
            let layers = (shared.map { [$0] } ?? []) + made
            base = layers[0]
            return Image(tag: "bench-\(seedText)-\(index)", layers: layers)
        }
    }

    var seedText: String { String(seed, radix: 16) }
}
