internal import LMDB
public import OCI
internal import Synchronization
internal import System

/// Content of the tier by its name.
public enum TierItem: Sendable, Hashable, CustomStringConvertible {
    case blob(Digest)
    case manifest(RepositoryName, Digest)

    public var description: String {
        switch self {
        case .blob(let digest): "blob \(digest)"
        case .manifest(let name, let digest): "manifest \(name)@\(digest)"
        }
    }
}

/// A part of a ``Pin``.
public struct PinnedItem: Sendable, Hashable {
    public var item: TierItem
    /// In bytes, as its descriptor says. Without it the item has to be in the tier.
    public var size: Int64?

    public init(_ item: TierItem, size: Int64? = nil) {
        self.item = item
        self.size = size
    }
}

/// What eviction leaves alone until ``DiskTier/unpin(_:)``: an image, say, under its reference.
public struct Pin: Sendable, Equatable {
    public let name: String
    public let items: [PinnedItem]

    public init(name: String, items: [PinnedItem]) {
        self.name = name
        self.items = items
    }

    /// What its items take; what several pins share counts in each.
    public var bytes: Int64 { items.reduce(0) { $0 + ($1.size ?? 0) } }
}

/// What ``DiskTier/evict(_:)`` did.
public struct Evicted: Sendable {
    /// Were here and are gone.
    public var items: [TierItem] = []
    /// Blocks given back, or to be given back when the last reader is through.
    public var bytes: Int64 = 0
    /// Stayed; unpin them first.
    public var pinned: [TierItem] = []
}

extension DiskTier {
    /// Keeps items from eviction, in one transaction, until they are unpinned; what the name pinned before is replaced.
    ///
    /// An item may be in the tier already or come later. One that several pins name stays until the last of them goes. A pin does not keep
    /// content from being deleted.
    ///
    /// - Parameter name: 1 to 400 bytes; of an image, its reference.
    public func pin(_ name: String, _ items: [PinnedItem]) throws(DiskTierError) {
        guard 1...PinTables.nameLimitBytes ~= name.utf8.count else { throw .pinName(name) }
        let limit = configuration.pinLimitBytes
        let room = try reserveInIndex(items.count * PinTables.itemBytes)
        defer { hasGrown(room) }
        let index = index
        let outcome: PinTables.Outcome = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                try index.pin(name, items, limitBytes: limit, transaction)
            }
        }
        switch outcome {
        case .pinned(let bytes): pinnedBytes.store(bytes, ordering: .relaxed)
        case .unknown(let item): throw .notCached(item)
        case .beyondLimit(let bytes): throw .pinsNeverFit(bytes: bytes, limitBytes: limit)
        }
    }

    /// At a start with a lower ceiling: which of them should go only the operator knows.
    func tellPinsBeyondShare(_ bytes: Int64) {
        let limit = configuration.pinLimitBytes
        if bytes > limit { report(.pinsBeyondShare(bytes: bytes, limitBytes: limit)) }
    }

    /// What it held; `nil` when there is no such pin.
    @discardableResult
    public func unpin(_ name: String) throws(DiskTierError) -> Pin? {
        let index = index
        let unpinned = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in try index.unpin(name, transaction) }
        }
        guard let unpinned else { return nil }
        pinnedBytes.store(unpinned.leftBytes, ordering: .relaxed)
        // It may be what a tier above its ceiling waits for.
        background.press()
        return unpinned.pin
    }

    /// Pins in the order of their names' bytes.
    public func pins(after last: String? = nil, limit: Int = 1000) throws(DiskTierError) -> [Pin] {
        let index = index
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                var pins: [Pin] = []
                let start: [UInt8] = last.map { Array($0.utf8) + [0] } ?? []
                try transaction.forEach(index.pins, from: start) { key, value in
                    guard pins.count < limit else { return false }
                    let name = String(decoding: [UInt8](key), as: UTF8.self)
                    pins.append(Pin(name: name, items: PinTables.decode([UInt8](value))))
                    return true
                }
                return pins
            }
        }
    }

    /// Whether a pin names it.
    public func isPinned(_ item: TierItem) throws(DiskTierError) -> Bool {
        let index = index
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                try transaction.withValue(index.pinned, Key.item(item)) { _ in true } ?? false
            }
        }
    }

    /// Evicts just these, whether they were read or not. The origin still has them.
    public func evict(_ items: [TierItem]) throws(DiskTierError) -> Evicted {
        var evicted = Evicted()
        for item in items {
            let bytes: Int64?
            if try isPinned(item) {
                evicted.pinned.append(item)
                continue
            }
            switch item {
            case .blob(let digest): bytes = try evict(digest)
            case .manifest(let name, let digest): bytes = try evict(Key.manifest(name, digest))
            }
            guard let bytes else { continue }
            evicted.items.append(item)
            evicted.bytes += bytes
        }
        return evicted
    }

    private func evict(_ digest: Digest) throws(DiskTierError) -> Int64? {
        guard let record = try record(of: digest) else { return nil }
        try drop(digest, record)
        return record.place.facts?.allocated ?? 0
    }

    private func evict(_ manifestKey: [UInt8]) throws(DiskTierError) -> Int64? {
        let index = index
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard try transaction.get(index.manifests, manifestKey) != nil else { return nil }
                try index.removeManifest(manifestKey, transaction)
                return 0
            }
        }
    }
}

// MARK: - In the index

/// How pins are written down: `pins` has the items of each name, `pinned` how many names hold an item, and what it takes.
enum PinTables {
    static let nameLimitBytes = 400
    /// What an item may take in both tables.
    static let itemBytes = 800

    enum Outcome: Sendable {
        case pinned(totalBytes: Int64)
        case unknown(TierItem)
        case beyondLimit(totalBytes: Int64)
    }

    /// `size, length of the key, key` for each item.
    static func encode(_ items: [(key: [UInt8], bytes: Int64)]) -> [UInt8] {
        items.flatMap { bigEndian(UInt64($0.bytes)) + [UInt8($0.key.count >> 8), UInt8($0.key.count & 255)] + $0.key }
    }

    static func decodeKeys(_ value: [UInt8]) -> [(key: [UInt8], bytes: Int64)] {
        var items: [(key: [UInt8], bytes: Int64)] = []
        var at = 0
        while at + 10 <= value.count {
            let end = at + 10 + Int(value[at + 8]) << 8 + Int(value[at + 9])
            guard end <= value.count else { break }
            items.append((Array(value[at + 10..<end]), Int64(bigEndianNumber(value.span, at: at))))
            at = end
        }
        return items
    }

    static func decode(_ value: [UInt8]) -> [PinnedItem] {
        decodeKeys(value).compactMap { key, bytes in TierItem(key: key).map { PinnedItem($0, size: bytes) } }
    }
}

extension Key {
    /// At most 1 + 255 + 1 + 65 bytes.
    static func item(_ item: TierItem) -> [UInt8] {
        switch item {
        case .blob(let digest): [SmallKind.blob.rawValue] + Key.digest(digest)
        case .manifest(let name, let digest): [SmallKind.manifest.rawValue] + Key.manifest(name, digest)
        }
    }
}

extension TierItem {
    /// Reads what ``Key/item(_:)`` wrote.
    init?(key: [UInt8]) {
        switch key.first.flatMap(SmallKind.init) {
        case .blob:
            guard let digest = Digest(key: key.dropFirst()) else { return nil }
            self = .blob(digest)
        case .manifest:
            guard let end = key.firstIndex(of: 0), let digest = Digest(key: key[(end + 1)...]),
                let name = try? RepositoryName(String(decoding: key[1..<end], as: UTF8.self))  // `nil` says it all.
            else { return nil }
            self = .manifest(name, digest)
        case .list, nil: return nil
        }
    }
}

extension CacheIndex {
    fileprivate func pin(
        _ name: String,
        _ items: [PinnedItem],
        limitBytes: Int64,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> PinTables.Outcome {
        var entries: [(key: [UInt8], bytes: Int64)] = []
        var seen: Set<TierItem> = []
        for item in items where seen.insert(item.item).inserted {
            var size = item.size
            if size == nil { size = try self.size(of: item.item, transaction) }
            guard let bytes = size else { return .unknown(item.item) }
            entries.append((Key.item(item.item), max(0, bytes)))
        }
        var total = try pinnedBytes(transaction)
        let key = Array(name.utf8)
        let replaced = try transaction.get(pins, key).map(PinTables.decodeKeys) ?? []
        let freed = try sum(of: replaced, notHeldBeyond: 1, transaction)
        // What is checked here is exactly what is written below.
        var added: Int64 = 0
        for entry in entries {
            let holders = try holders(of: entry.key, transaction).count
            let isReplaced = replaced.contains { $0.key == entry.key }
            if holders == 0 || (holders == 1 && isReplaced) { added += entry.bytes }
        }
        guard total - freed + added <= limitBytes || added <= freed else {
            return .beyondLimit(totalBytes: total - freed + added)
        }
        total += try change(replaced, by: -1, transaction)
        total += try change(entries, by: 1, transaction)
        try transaction.put(pins, key, PinTables.encode(entries))
        try setPinnedBytes(total, transaction)
        return .pinned(totalBytes: total)
    }

    /// With the bytes of all pins together after it; `nil` when there is no such pin.
    fileprivate func unpin(
        _ name: String,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> (pin: Pin, leftBytes: Int64)? {
        let key = Array(name.utf8)
        guard !key.isEmpty, let value = try transaction.get(pins, key) else { return nil }
        try transaction.delete(pins, key)
        let change = try change(PinTables.decodeKeys(value), by: -1, transaction)
        let total = try pinnedBytes(transaction) + change
        try setPinnedBytes(total, transaction)
        return (Pin(name: name, items: PinTables.decode(value)), total)
    }

    private func size(of item: TierItem, _ transaction: borrowing WriteTransaction) throws(LMDBError) -> Int64? {
        switch item {
        case .blob(let digest):
            switch try transaction.get(blobs, Key.digest(digest)).flatMap({ BlobRecord($0.span) })?.place {
            case .inline(let bytes): return Int64(bytes.count)
            case .file(let facts): return facts.size
            case nil: return nil
            }
        case .manifest(let name, let digest):
            return try transaction.get(manifests, Key.manifest(name, digest)).flatMap { CachedManifest($0.span) }.map {
                Int64($0.bytes.count)
            }
        }
    }

    private func holders(
        of key: [UInt8],
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> (count: UInt64, bytes: Int64) {
        guard let value = try transaction.get(pinned, key), value.count == 16 else { return (0, 0) }
        return (bigEndianNumber(value.span, at: 0), Int64(bigEndianNumber(value.span, at: 8)))
    }

    private func sum(
        of entries: [(key: [UInt8], bytes: Int64)],
        notHeldBeyond limit: UInt64,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> Int64 {
        var sum: Int64 = 0
        for entry in entries {
            let held = try holders(of: entry.key, transaction)
            if held.count <= limit { sum += held.bytes }
        }
        return sum
    }

    /// Adds or takes a holder of each; returns by how much the bytes of all pins change.
    private func change(
        _ entries: [(key: [UInt8], bytes: Int64)],
        by step: Int,
        _ transaction: borrowing WriteTransaction
    ) throws(LMDBError) -> Int64 {
        var change: Int64 = 0
        for entry in entries {
            let held = try holders(of: entry.key, transaction)
            let count = max(0, Int(held.count) + step)
            switch (held.count, count) {
            case (0, 0): break
            case (_, 0):
                try transaction.delete(pinned, entry.key)
                try requeue(entry.key, transaction)
                change -= held.bytes
            case (0, _):
                try transaction.put(pinned, entry.key, bigEndian(UInt64(count)) + bigEndian(UInt64(entry.bytes)))
                try requeue(entry.key, transaction)
                change += entry.bytes
            default:
                try transaction.put(pinned, entry.key, bigEndian(UInt64(count)) + bigEndian(UInt64(held.bytes)))
            }
        }
        return change
    }
}
