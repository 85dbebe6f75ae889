internal import Glibc

// How LMDB 0.9 lays its file out, as far as it takes to follow it. All of it is in the machine's own byte order.

/// A page, or its beginning (`MDB_page`).
struct Page {
    enum Kind: UInt16 {
        case branch = 1
        case leaf = 2
        case overflow = 4
        case meta = 8
    }

    static let headerBytes = 16

    let bytes: UnsafeRawBufferPointer

    /// It says its own.
    var number: UInt64 { bytes.number(at: 0) }
    var kind: Kind? { Kind(rawValue: bytes.number(at: 10)) }
    /// Where the pointers to the nodes end, ...
    var lower: Int { Int(bytes.number(at: 12) as UInt16) }
    /// ... and where the nodes begin.
    var upper: Int { Int(bytes.number(at: 14) as UInt16) }
    /// How many pages an overflow takes.
    var overflowPages: UInt64 { UInt64(bytes.number(at: 12) as UInt32) }

    var nodeCount: Int { (lower - Self.headerBytes) / 2 }

    func nodeOffset(_ index: Int) -> Int { Int(bytes.number(at: Self.headerBytes + index * 2) as UInt16) }

    func node(_ index: Int) -> Node { node(at: nodeOffset(index)) }

    func node(at offset: Int) -> Node { Node(bytes: UnsafeRawBufferPointer(rebasing: bytes[offset...])) }
}

/// A key and what it leads to (`MDB_node`).
struct Node {
    enum Flag {
        /// The value is in overflow pages.
        static let overflow: UInt16 = 1
        /// The value is a tree.
        static let tree: UInt16 = 2
    }

    static let headerBytes = 8

    /// From its start to the end of the page.
    let bytes: UnsafeRawBufferPointer

    /// Of a leaf's node.
    var flags: UInt16 { bytes.number(at: 4) }
    var keyBytes: Int { Int(bytes.number(at: 6) as UInt16) }
    /// Of a leaf's node.
    var valueBytes: Int { Int(bytes.number(at: 0) as UInt32) }
    /// Of a branch's node: the page below it.
    var child: UInt64 { UInt64(bytes.number(at: 0) as UInt32) | UInt64(flags) << 32 }
    /// Of a leaf's node whose value is elsewhere.
    var overflow: UInt64 { bytes.number(at: Self.headerBytes + keyBytes) }

    var key: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[Self.headerBytes..<Self.headerBytes + keyBytes])
    }

    /// Of a leaf's node whose value is here.
    var value: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[(Self.headerBytes + keyBytes)...].prefix(valueBytes))
    }

    /// What it takes of its page; nodes begin at even places.
    func bytes(inLeaf: Bool) -> Int {
        let value = !inLeaf ? 0 : flags & Flag.overflow != 0 ? 8 : valueBytes
        return (Self.headerBytes + keyBytes + value + 1) & ~1
    }
}

/// A table (`MDB_db`).
struct Tree {
    struct Counts: Equatable {
        var branches: UInt64 = 0
        var leaves: UInt64 = 0
        var overflows: UInt64 = 0
        var entries: UInt64 = 0
    }

    static let bytes = 48

    /// The first one says the size of a page here.
    let pad: UInt32
    let flags: UInt16
    let depth: Int
    let counts: Counts
    /// `nil` when it is empty.
    let root: UInt64?

    init(_ bytes: UnsafeRawBufferPointer) {
        pad = bytes.number(at: 0)
        flags = bytes.number(at: 4)
        depth = Int(bytes.number(at: 6) as UInt16)
        counts = Counts(
            branches: bytes.number(at: 8),
            leaves: bytes.number(at: 16),
            overflows: bytes.number(at: 24),
            entries: bytes.number(at: 32)
        )
        let root: UInt64 = bytes.number(at: 40)
        self.root = root == .max ? nil : root
    }
}

/// Where a snapshot begins (`MDB_meta`).
struct Meta {
    static let bytes = 136

    let magic: UInt32
    let version: UInt32
    let free: Tree
    let main: Tree
    let lastPage: UInt64
    let transaction: UInt64

    init(_ bytes: UnsafeRawBufferPointer) {
        magic = bytes.number(at: 0)
        version = bytes.number(at: 4)
        free = Tree(UnsafeRawBufferPointer(rebasing: bytes[24..<72]))
        main = Tree(UnsafeRawBufferPointer(rebasing: bytes[72..<120]))
        lastPage = bytes.number(at: 120)
        transaction = bytes.number(at: 128)
    }

    var pageBytes: Int { Int(free.pad) }
}

extension UnsafeRawBufferPointer {
    fileprivate func number<Number: FixedWidthInteger & BitwiseCopyable>(at offset: Int) -> Number {
        loadUnaligned(fromByteOffset: offset, as: Number.self)
    }
}
