internal import FoundationEssentials

/// One thing that a request brings to light: exactly one of the members is set. A line of JSON on the wire. In a line without any, the server only
/// asks whether its client is still there.
///
/// The last event is ``done`` or ``error``; without either the answer was cut off.
public struct CacheEvent: Codable, Sendable {
    /// Something that the cache holds, or is about to.
    public struct Entry: Codable, Sendable {
        public var kind: CacheRequest.Kind
        /// `nil` for a pin.
        public var digest: String?
        /// In bytes; `nil` where it is not known, and for a tag.
        public var size: Int64?
        /// `repository@digest` of a manifest, `repository:tag` of a tag, what was pinned of a pin.
        public var name: String?
        /// Where a blob lies: `file` or `index`.
        public var place: String?
        public var isPinned: Bool?
        /// False: it is hashed before it is served, because of an unclean stop.
        public var isVerified: Bool?
        /// Of a fill.
        public var availableBytes: Int64?
    }

    /// A part of an image, and whether it is here.
    public struct Part: Codable, Sendable {
        public var image: String
        /// `index`, `manifest`, `config` or `layer`.
        public var role: String
        public var digest: String
        public var size: Int64
        public var isCached: Bool
        public var isPinned: Bool
        public var platform: String?
    }

    /// Of the whole cache. What only a running server knows is `nil` for a stopped one.
    public struct Totals: Codable, Sendable {
        public var directory: String
        public var ceilingBytes: Int64
        public var usedBytes: Int64
        public var reservedBytes: Int64
        /// What the file system has left, and what of it is left to others.
        public var volumeAvailableBytes: Int64?
        public var volumeFloorBytes: Int64
        public var indexBytes: Int64
        public var indexLiveBytes: Int64
        public var indexMapBytes: Int64
        public var blobFiles: Int
        public var inlineBlobs: Int
        public var manifests: Int
        public var tags: Int
        public var pins: Int
        public var pinnedBytes: Int64
        public var evictedBlobs: Int64?
        public var evictedBytes: Int64?
        public var fills: Int?
        public var uploads: Int?
        public var hits: Int64?
        public var misses: Int64?
    }

    public struct Progress: Codable, Sendable {
        /// Of manifests, too.
        public var bytes: Int64 = 0
        public var totalBytes: Int64 = 0
        public var blobs = 0
        public var totalBlobs = 0

        public init() {}
    }

    /// One thing that did not succeed; the work goes on with the others.
    public struct Problem: Codable, Sendable {
        public var what: String
        public var reason: String
    }

    /// What was done altogether.
    public struct Done: Codable, Sendable {
        public var blobs = 0
        public var bytes: Int64 = 0
        public var manifests = 0
        /// What `prewarm` had not to fetch, which the others do not count.
        public var presentBlobs: Int?
        public var presentBytes: Int64?
        public var problems = 0
    }

    public var entry: Entry?
    public var part: Part?
    public var totals: Totals?
    public var progress: Progress?
    public var problem: Problem?
    public var done: Done?
    public var error: CacheFailure?

    private init() {}

    static func entry(_ entry: Entry) -> CacheEvent { with { $0.entry = entry } }
    static func part(_ part: Part) -> CacheEvent { with { $0.part = part } }
    static func totals(_ totals: Totals) -> CacheEvent { with { $0.totals = totals } }
    static func progress(_ progress: Progress) -> CacheEvent { with { $0.progress = progress } }
    static func problem(_ what: String, _ reason: String) -> CacheEvent {
        with { $0.problem = Problem(what: what, reason: reason) }
    }
    static func done(_ done: Done) -> CacheEvent { with { $0.done = done } }
    static func error(_ failure: CacheFailure) -> CacheEvent { with { $0.error = failure } }

    private static func with(_ set: (inout CacheEvent) -> Void) -> CacheEvent {
        var event = CacheEvent()
        set(&event)
        return event
    }
}

// MARK: - On the wire

extension CacheEvent {
    /// `nil` for what is no event.
    public init?(line: some Collection<UInt8>) {
        guard let event = try? JSONDecoder().decode(CacheEvent.self, from: Data(line)) else { return nil }
        self = event
    }

    /// With its line feed.
    public var line: [UInt8] { jsonLine(self) }
}

extension CacheRequest {
    public var json: [UInt8] { jsonLine(self) }

    init(json: [UInt8]) throws(CacheFailure) {
        do {
            self = try JSONDecoder().decode(CacheRequest.self, from: Data(json))
        } catch {
            throw CacheFailure(.invalid, "the request is no JSON of the known shape")
        }
    }
}

private func jsonLine(_ value: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
        return Array(try encoder.encode(value)) + [UInt8(ascii: "\n")]
    } catch {
        preconditionFailure("strings, numbers and booleans cannot fail to encode: \(error)")
    }
}
