internal import CLMDB
internal import Glibc
public import Threading

extension Environment {
    /// Looks at all that LMDB follows blindly, and would crash on or write over other pages by: the pages of every tree, what leads to them and
    /// what they count; not at what they hold. Nobody may have the folder open.
    ///
    /// - Returns: false when the deadline passed before all was looked at. Damage is an error.
    public static func checkStructure(
        path: String,
        until deadline: Deadline = .never
    ) throws(LMDBError) -> Bool {
        let file = "\(path)/data.mdb"
        // LMDB itself is not open yet, whose locks closing this would drop.
        let descriptor = Glibc.open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return true }
            throw LMDBError(operation: "open \(file)", code: errno)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw LMDBError(operation: "fstat \(file)", code: errno) }
        // A new one.
        if status.st_size == 0, status.st_mode & S_IFMT == S_IFREG { return true }
        var check = StructureCheck(descriptor, fileBytes: UInt64(status.st_size), deadline)
        do throws(StructureCheck.Ending) {
            try check.run()
            return true
        } catch {
            switch error {
            case .outOfTime: return false
            case .damage(let what): throw LMDBError(operation: "\(file): \(what)", code: MDB_CORRUPTED)
            }
        }
    }
}

/// A walk through every tree of an environment, by reading: what is damaged may lie anywhere.
private struct StructureCheck: ~Copyable {
    enum Ending: Error {
        case damage(String)
        case outOfTime
    }

    /// LMDB's own (`CURSOR_STACK`).
    private static let greatestDepth = 32
    private static let greatestKeyBytes = 511

    private let descriptor: Int32
    private let fileBytes: UInt64
    private let deadline: Deadline
    private var pageBytes = 0
    private var pageCount: UInt64 = 0
    /// Pages that are part of something.
    private var taken: [UInt64] = []
    /// A page for each level: keys of those above bound what may come below.
    private var levels: [UnsafeMutableRawBufferPointer] = []
    /// Where nodes of the page begin that was looked at last: places with its mark.
    private var starts: [UInt32] = []
    private var mark: UInt32 = 0
    /// What the main tree leads to.
    private var tables: [Tree] = []

    init(_ descriptor: Int32, fileBytes: UInt64, _ deadline: Deadline) {
        self.descriptor = descriptor
        self.fileBytes = fileBytes
        self.deadline = deadline
    }

    deinit {
        for level in levels { level.deallocate() }
    }

    mutating func run() throws(Ending) {
        let meta = try newestMeta()
        pageBytes = meta.pageBytes
        pageCount = meta.lastPage + 1
        taken = Array(repeating: 0, count: Int(pageCount / 64 + 1))
        starts = Array(repeating: 0, count: pageBytes / 2)
        try take(0, count: 2)
        try walk(meta.main, .main)
        for table in tables { try walk(table, .table) }
        try walk(meta.free, .free)
    }

    // MARK: Where it begins

    private func newestMeta() throws(Ending) -> Meta {
        let first = try meta(0, at: 0)
        guard (512...65536).contains(first.pageBytes), first.pageBytes.nonzeroBitCount == 1 else {
            throw .damage("page 0 says that pages have \(first.pageBytes) bytes")
        }
        let second = try meta(1, at: UInt64(first.pageBytes))
        let newest = first.transaction < second.transaction ? 1 : 0
        let meta = newest == 1 ? second : first
        // A transaction writes the one that its number says.
        guard second.pageBytes == first.pageBytes, meta.transaction % 2 == newest else {
            throw .damage("its two beginnings do not fit together")
        }
        guard (1..<fileBytes / UInt64(meta.pageBytes)).contains(meta.lastPage) else {
            throw .damage("it is shorter than its \(meta.lastPage &+ 1) pages")
        }
        return meta
    }

    private func meta(_ number: UInt64, at offset: UInt64) throws(Ending) -> Meta {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Page.headerBytes + Meta.bytes, alignment: 8)
        defer { memory.deallocate() }
        try read(number, at: offset, into: memory)
        let page = Page(bytes: UnsafeRawBufferPointer(memory))
        let meta = Meta(UnsafeRawBufferPointer(rebasing: page.bytes[Page.headerBytes...]))
        guard page.kind == .meta, page.number == number, meta.magic == 0xBEEF_C0DE, meta.version == 1 else {
            throw .damage("page \(number) does not begin an index")
        }
        return meta
    }

    // MARK: Trees

    private enum Role {
        /// Holds the tables.
        case main
        case table
        /// Holds the numbers of free pages.
        case free

        /// Its keys are numbers.
        var flags: UInt16 { self == .free ? UInt16(MDB_INTEGERKEY) : 0 }
    }

    private mutating func walk(_ tree: Tree, _ role: Role) throws(Ending) {
        guard tree.flags == role.flags, tree.depth <= Self.greatestDepth else { throw .damage("a table is none") }
        var found = Tree.Counts()
        if let root = tree.root {
            try visit(root, level: 0, depth: tree.depth, role, from: nil, to: nil, &found)
        }
        guard found == tree.counts else { throw .damage("a table says that it has other pages than it has") }
    }

    /// - Parameters:
    ///   - low: the least key that may be here.
    ///   - high: the first one that may not.
    private mutating func visit(
        _ number: UInt64,
        level: Int,
        depth: Int,
        _ role: Role,
        from low: UnsafeRawBufferPointer?,
        to high: UnsafeRawBufferPointer?,
        _ found: inout Tree.Counts
    ) throws(Ending) {
        if deadline.hasPassed { throw .outOfTime }
        try take(number, count: 1)
        let page = try page(number, level)
        let isLeaf = level == depth - 1
        guard level < depth, page.number == number, page.kind == (isLeaf ? .leaf : .branch) else {
            throw .damage("page \(number) is not what leads to it says")
        }
        try checkNodes(page, isLeaf, role)
        try checkOrder(page, isLeaf, role, low, high)
        guard !isLeaf else {
            found.leaves += 1
            found.entries += UInt64(page.nodeCount)
            for index in 0..<page.nodeCount { try look(at: page.node(index), number, role, &found) }
            return
        }
        found.branches += 1
        for index in 0..<page.nodeCount {
            try visit(
                page.node(index).child,
                level: level + 1,
                depth: depth,
                role,
                from: index == 0 ? low : page.node(index).key,
                to: index + 1 == page.nodeCount ? high : page.node(index + 1).key,
                &found
            )
        }
    }

    /// Nodes fill the end of their page, without gaps and none over another.
    private mutating func checkNodes(_ page: Page, _ isLeaf: Bool, _ role: Role) throws(Ending) {
        let (lower, upper) = (page.lower, page.upper)
        // While the free pages are written down, a branch of theirs may have only one node.
        let least = isLeaf || role == .free ? 1 : 2
        guard lower >= Page.headerBytes + least * 2, lower <= upper, upper <= pageBytes, (lower | upper) % 2 == 0 else {
            throw .damage("page \(page.number) has no room for its nodes")
        }
        mark += 1
        for index in 0..<page.nodeCount {
            let offset = page.nodeOffset(index)
            guard offset >= upper, offset <= pageBytes - Node.headerBytes, offset % 2 == 0 else {
                throw .damage("a node of page \(page.number) lies outside of it")
            }
            starts[offset / 2] = mark
        }
        var (offset, count) = (upper, 0)
        while offset < pageBytes {
            guard offset <= pageBytes - Node.headerBytes, starts[offset / 2] == mark else { break }
            let node = page.node(at: offset)
            let isFirstOfBranch = !isLeaf && offset == page.nodeOffset(0)
            guard node.keyBytes <= Self.greatestKeyBytes, node.keyBytes > 0 || isFirstOfBranch,
                role != .free || node.keyBytes == 8 || isFirstOfBranch
            else { break }
            offset += node.bytes(inLeaf: isLeaf)
            count += 1
        }
        guard offset == pageBytes, count == page.nodeCount else {
            throw .damage("the nodes of page \(page.number) are not what it says")
        }
    }

    private func checkOrder(
        _ page: Page,
        _ isLeaf: Bool,
        _ role: Role,
        _ low: UnsafeRawBufferPointer?,
        _ high: UnsafeRawBufferPointer?
    ) throws(Ending) {
        // The first key of a branch is never looked at.
        let first = isLeaf ? 0 : 1
        guard first < page.nodeCount else { return }
        var last = page.node(first).key
        var isInOrder = low.map { compare($0, last, role) <= 0 } ?? true
        for index in first + 1..<max(first + 1, page.nodeCount) where isInOrder {
            let key = page.node(index).key
            isInOrder = compare(last, key, role) < 0
            last = key
        }
        if let high, isInOrder { isInOrder = compare(last, high, role) < 0 }
        guard isInOrder else { throw .damage("the keys of page \(page.number) are not in order") }
    }

    private func compare(_ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer, _ role: Role) -> Int {
        if role == .free {
            let (one, other) = (one.loadUnaligned(as: UInt64.self), other.loadUnaligned(as: UInt64.self))
            return one < other ? -1 : one > other ? 1 : 0
        }
        let order = memcmp(one.baseAddress!, other.baseAddress!, min(one.count, other.count))
        return order != 0 ? Int(order) : one.count - other.count
    }

    // MARK: Values

    private mutating func look(
        at node: Node,
        _ number: UInt64,
        _ role: Role,
        _ found: inout Tree.Counts
    ) throws(Ending) {
        switch node.flags {
        case 0:
            if role == .free { try takeFree(node.value, number) }
        case Node.Flag.overflow:
            let pages = try overflow(node.overflow, for: node.valueBytes)
            found.overflows += pages
            guard role == .free else { return }
            let list = UnsafeMutableRawBufferPointer.allocate(byteCount: node.valueBytes, alignment: 8)
            defer { list.deallocate() }
            try read(node.overflow, at: node.overflow * UInt64(pageBytes) + UInt64(Page.headerBytes), into: list)
            try takeFree(UnsafeRawBufferPointer(list), number)
        case Node.Flag.tree where role == .main && node.valueBytes == Tree.bytes:
            tables.append(Tree(node.value))
        default:
            throw .damage("page \(number) has a value of an unknown kind")
        }
    }

    /// How many pages it takes.
    private mutating func overflow(_ number: UInt64, for valueBytes: Int) throws(Ending) -> UInt64 {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: Page.headerBytes, alignment: 8)
        defer { memory.deallocate() }
        guard number < pageCount else { throw .damage("page \(number) is past the end") }
        try read(number, at: number * UInt64(pageBytes), into: memory)
        let page = Page(bytes: UnsafeRawBufferPointer(memory))
        let needed = (Page.headerBytes - 1 + valueBytes) / pageBytes + 1
        guard page.kind == .overflow, page.number == number, page.overflowPages >= UInt64(needed) else {
            throw .damage("page \(number) is not what leads to it says")
        }
        try take(number, count: page.overflowPages)
        return page.overflowPages
    }

    /// A list of free pages: how many, then their numbers, the greatest first.
    private mutating func takeFree(_ list: UnsafeRawBufferPointer, _ number: UInt64) throws(Ending) {
        let numbers = list.count / 8
        guard numbers > 0, list.loadUnaligned(as: UInt64.self) < UInt64(numbers) else {
            throw .damage("page \(number) has no list of free pages")
        }
        var last = UInt64.max
        for index in 0..<Int(list.loadUnaligned(as: UInt64.self)) {
            let free = list.loadUnaligned(fromByteOffset: 8 + index * 8, as: UInt64.self)
            guard free < last else { throw .damage("page \(number) has a list of free pages that is not in order") }
            try take(free, count: 1)
            last = free
        }
    }

    // MARK: Pages

    /// Nothing is part of two things.
    private mutating func take(_ number: UInt64, count: UInt64) throws(Ending) {
        guard number < pageCount, count <= pageCount - number else {
            throw .damage("page \(number) is past the end")
        }
        for page in number..<number + count {
            let bit = 1 << (page % 64) as UInt64
            guard taken[Int(page / 64)] & bit == 0 else { throw .damage("page \(page) is used twice") }
            taken[Int(page / 64)] |= bit
        }
    }

    private mutating func page(_ number: UInt64, _ level: Int) throws(Ending) -> Page {
        while levels.count <= level { levels.append(.allocate(byteCount: pageBytes, alignment: 8)) }
        try read(number, at: number * UInt64(pageBytes), into: levels[level])
        return Page(bytes: UnsafeRawBufferPointer(levels[level]))
    }

    private func read(_ number: UInt64, at offset: UInt64, into memory: UnsafeMutableRawBufferPointer) throws(Ending) {
        var got: Int
        repeat {
            got = pread(descriptor, memory.baseAddress, memory.count, off_t(offset))
        } while got < 0 && errno == EINTR
        guard got == memory.count else {
            throw .damage("page \(number) cannot be read" + (got < 0 ? ": \(String(cString: strerror(errno)))" : ""))
        }
    }
}
