internal import LMDB
public import OCI
internal import System

/// One thing that the tier holds.
public struct InventoryEntry: Sendable, Equatable {
    public enum Content: Sendable, Equatable {
        /// A blob, in the index itself or in a file of its own.
        case blob(isInline: Bool)
        case manifest(RepositoryName)
        /// A tag and the digest that it names.
        case tag(RepositoryName, Tag)
    }

    public let content: Content
    public let digest: Digest
    /// Of the content, in bytes; 0 for a tag.
    public let size: Int64
    public let isPinned: Bool
    /// Hashed since the last stop that was not an orderly one; else it is before it is served.
    public let isVerified: Bool
}

/// The kinds of entries, in the order of the inventory.
public enum InventoryKind: String, Sendable, CaseIterable, Codable {
    case blob, manifest, tag
}

/// A part of the inventory.
public struct InventoryPage: Sendable {
    public let entries: [InventoryEntry]
    /// Where the next page begins; `nil` on the last one.
    public let next: InventoryCursor?
}

/// A place in the inventory, which stays one when entries come and go.
public struct InventoryCursor: Sendable, Equatable {
    let key: [UInt8]
}

/// What the tier holds, in numbers.
public struct InventoryTotals: Sendable, Equatable {
    public let blobFiles: Int
    public let inlineBlobs: Int
    /// The blocks of the blobs in files.
    public let fileBytes: Int64
    public let manifests: Int
    public let tags: Int
    public let pins: Int
    /// Address space of the index: it can grow no larger.
    public let indexMapBytes: Int
    /// The part of the index that holds something; what deletes have freed is used again.
    public let indexLiveBytes: Int
    /// What the file system has left; `nil` where it cannot tell.
    public let volumeAvailableBytes: Int64?
    /// Of the oldest look into the index that has not ended.
    public let oldestReaderNanoseconds: Int
}

extension DiskTier {
    /// Entries looked at in one transaction, at most: long enough to be quick, short enough not to pin what is freed meanwhile.
    private static let inventoryPageLimit = 512

    /// One page of the entries of a kind: blobs in the order of their digests, manifests and tags in that of their names.
    ///
    /// - Parameter repository: only this one's manifests and tags.
    public func inventory(
        of kind: InventoryKind,
        in repository: RepositoryName? = nil,
        after cursor: InventoryCursor? = nil,
        limit: Int = 512
    ) throws(DiskTierError) -> InventoryPage {
        let table =
            switch kind {
            case .blob: index.blobs
            case .manifest: index.manifests
            case .tag: index.tags
            }
        let prefix = kind == .blob ? [] : repository.map(Key.repository) ?? []
        let limit = min(limit, Self.inventoryPageLimit)
        // The least key above it.
        let start = cursor.map { $0.key + [0] } ?? prefix
        let page = try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                var entries: [InventoryEntry] = []
                var (looked, last): (Int, [UInt8]?) = (0, nil)
                try transaction.forEach(table, from: start) { key, value throws(LMDBError) in
                    let key = [UInt8](key)
                    guard key.starts(with: prefix) else {
                        last = nil
                        return false
                    }
                    if let entry = try entry(kind, key, value, transaction) { entries.append(entry) }
                    (looked, last) = (looked + 1, key)
                    return looked < limit
                }
                return InventoryPage(
                    entries: entries,
                    next: looked < limit ? nil : last.map { InventoryCursor(key: $0) }
                )
            }
        }
        if cursor != nil, page.next == nil { index.releaseMemory() }
        return page
    }

    /// What is known of one blob; `nil` when it is not here.
    public func inventoryEntry(of digest: Digest) throws(DiskTierError) -> InventoryEntry? {
        let (blobs, key) = (index.blobs, Key.digest(digest))
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                try transaction.withValue(blobs, key) { value throws(LMDBError) in
                    try entry(.blob, key, value, transaction)
                } ?? nil
            }
        }
    }

    /// Why the last write to the index failed; `nil` when it succeeded.
    public var indexWriteFailure: DiskTierError? { index.writeFailure.map { .index($0) } }

    public func inventoryTotals() throws(DiskTierError) -> InventoryTotals {
        let index = index
        // A file system that does not tell makes the answer poorer, no worse.
        let available = try? fileSystem.space(at: configuration.directory).available
        return try inIndex { () throws(LMDBError) in
            let live = try index.liveBytes()
            return try index.read { transaction throws(LMDBError) in
                let files = try transaction.count(index.files)
                return InventoryTotals(
                    blobFiles: files,
                    inlineBlobs: try transaction.count(index.blobs) - files,
                    fileBytes: ledger.current.committedBytes,
                    manifests: try transaction.count(index.manifests),
                    tags: try transaction.count(index.tags),
                    pins: try transaction.count(index.pins),
                    indexMapBytes: index.statistics.mapBytes,
                    indexLiveBytes: live,
                    volumeAvailableBytes: available,
                    oldestReaderNanoseconds: index.oldestReaderNanoseconds
                )
            }
        }
    }

    /// `nil` for a record that cannot be read: a miss repairs it.
    private func entry(
        _ kind: InventoryKind,
        _ key: [UInt8],
        _ value: Span<UInt8>,
        _ transaction: borrowing ReadTransaction
    ) throws(LMDBError) -> InventoryEntry? {
        switch kind {
        case .blob:
            guard let digest = Digest(key: key), let record = BlobRecord(value) else { return nil }
            let (size, isInline): (Int64, Bool) =
                switch record.place {
                case .inline(let bytes): (Int64(bytes.count), true)
                case .file(let facts): (facts.size, false)
                }
            return InventoryEntry(
                content: .blob(isInline: isInline),
                digest: digest,
                size: size,
                isPinned: try isPinned(.blob(digest), transaction),
                isVerified: record.run >= run.trustedSince
            )
        case .manifest:
            guard let (name, rest) = named(key), let digest = Digest(key: rest), let manifest = CachedManifest(value)
            else { return nil }
            return InventoryEntry(
                content: .manifest(name),
                digest: digest,
                size: Int64(manifest.bytes.count),
                isPinned: try isPinned(.manifest(name, digest), transaction),
                isVerified: true
            )
        case .tag:
            // Only what was a valid name was ever written.
            guard let (name, rest) = named(key), let tag = try? Tag(String(decoding: rest, as: UTF8.self)),
                let record = TagRecord([UInt8](value))
            else { return nil }
            return InventoryEntry(
                content: .tag(name, tag),
                digest: record.digest,
                size: 0,
                isPinned: try isPinned(.manifest(name, record.digest), transaction),
                isVerified: true
            )
        }
    }

    private func isPinned(
        _ item: TierItem,
        _ transaction: borrowing ReadTransaction
    ) throws(LMDBError) -> Bool {
        try transaction.withValue(index.pinned, Key.item(item)) { _ in true } ?? false
    }

    /// The repository of a key, and what follows its zero.
    private func named(_ key: [UInt8]) -> (RepositoryName, ArraySlice<UInt8>)? {
        guard let zero = key.firstIndex(of: 0),
            // Only what was a valid name was ever written.
            let name = try? RepositoryName(String(decoding: key[..<zero], as: UTF8.self))
        else { return nil }
        return (name, key[(zero + 1)...])
    }
}
