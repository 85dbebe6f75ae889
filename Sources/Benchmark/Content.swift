internal import HTTPClient
internal import Hashing
internal import OCI
internal import Synchronization

/// A blob with its digest: generated, or kept because it is short.
struct Content: BodySource {
    private enum Source {
        case generated(GeneratedBlob)
        case bytes([UInt8])
    }

    let digest: Digest
    private let source: Source

    init(_ blob: GeneratedBlob, digest: Digest) {
        source = .generated(blob)
        self.digest = digest
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
    private let stop: StopFlag
    private let next = Atomic<UInt64>(0)

    init(seed: UInt64, stop: StopFlag) {
        self.seed = seed
        self.stop = stop
    }

    /// Their digests are computed on all processors. `onSample` hears how many and how much is done.
    ///
    /// - Throws: ``Failure/cancelled`` when the run is stopped meanwhile.
    func make(_ lengths: [Int64], onSample: (LoadResult.Sample) -> Void) throws(Failure) -> [Content] {
        let first = next.wrappingAdd(UInt64(lengths.count), ordering: .relaxed).oldValue
        let made = Mutex<[Int: Content]>([:])
        let threads = min(max(1, lengths.count), processorCount())
        let schedule = Schedule(clients: threads, loop: .closed, operations: lengths.count)
        _ = Load.run(schedule, stop: stop, onSample: onSample) { [seed, stop] index, _, passage throws(Failure) in
            let blob = GeneratedBlob(seed: seed, number: first + UInt64(index), length: lengths[index])
            let digest = blob.digest { count in
                passage.add(bytes: count)
                return !stop.isSet
            }
            guard let digest else { throw Failure.cancelled }
            made.withLock { $0[index] = Content(blob, digest: digest) }
        }
        return try made.withLock { made throws(Failure) in
            guard made.count == lengths.count else { throw Failure.cancelled }
            return lengths.indices.compactMap { made[$0] }
        }
    }

    /// Images of about `size` bytes. Two each share their base layer, as images of one house do.
    func makeImages(_ count: Int, size: Int64, onSample: (Int) -> (LoadResult.Sample) -> Void) throws(Failure)
        -> [Image]
    {
        var generator = SplitMix64(seed)
        let sizes = (0..<count).map { index in
            let sizes = Image.layerSizes(total: size, using: &generator)
            return index % 2 == 1 ? Array(sizes.dropFirst()) : sizes
        }
        let lengths = sizes.flatMap(\.self)
        var made = try make(lengths, onSample: onSample(lengths.count))[...]
        var base: Content?
        return sizes.enumerated().map { index, sizes in
            let shared = index % 2 == 1 ? base : nil
            let layers = (shared.map { [$0] } ?? []) + made.prefix(sizes.count)
            made = made.dropFirst(sizes.count)
            base = layers[0]
            return Image(tag: "bench-\(seedText)-\(index)", layers: layers)
        }
    }

    var seedText: String { String(seed, radix: 16) }
}
