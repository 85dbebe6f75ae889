internal import CLMDB
internal import Glibc
internal import System

/// A snapshot, valid within the closure that got it.
public struct ReadTransaction: ~Copyable {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
    }

    /// Calls `body` with the value's bytes in the map, which are valid until it returns; `nil` when the key is not there (`mdb_get`), or when its
    /// value is not what was put there.
    public func withValue<Result>(
        _ table: Table,
        _ key: [UInt8],
        _ body: (Span<UInt8>) throws(LMDBError) -> Result
    ) throws(LMDBError) -> Result? {
        try value(pointer, table, key, body)
    }

    /// The same for a key that lies anywhere.
    public func withValue<Result>(
        _ table: Table,
        _ key: Span<UInt8>,
        _ body: (Span<UInt8>) throws(LMDBError) -> Result
    ) throws(LMDBError) -> Result? {
        var found: UnsafeBufferPointer<UInt8>?
        let code = key.withUnsafeBufferPointer { bytes in
            var key = MDB_val(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            return look(pointer, table, &key, &found)
        }
        if code == MDB_NOTFOUND { return nil }
        try check("mdb_get \(table.name)", code)
        return try found.map { found throws(LMDBError) in try body(found.span) }
    }

    /// A copy of the value; `nil` when the key is not there.
    public func get(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> [UInt8]? {
        try withValue(table, key) { [UInt8]($0) }
    }

    /// Calls `body` for each entry from `start` on in key order until it returns false. A value that is not what was put there is empty.
    public func forEach(
        _ table: Table,
        from start: [UInt8] = [],
        _ body: (Span<UInt8>, Span<UInt8>) throws(LMDBError) -> Bool
    ) throws(LMDBError) {
        try entries(pointer, table, from: start, body)
    }

    /// The greatest key; `nil` when the table is empty.
    public func lastKey(_ table: Table) throws(LMDBError) -> [UInt8]? {
        var opened: OpaquePointer?
        try check("mdb_cursor_open \(table.name)", mdb_cursor_open(pointer, table.handle, &opened))
        defer { mdb_cursor_close(opened) }
        var key = MDB_val()
        var value = MDB_val()
        let code = mdb_cursor_get(opened, &key, &value, MDB_LAST)
        if code == MDB_NOTFOUND { return nil }
        try check("mdb_cursor_get \(table.name)", code)
        return Array(bytes(key))
    }

    /// Calls `body` with the value's bytes, or with none when the value is not what was put there; `nil` when the key is not there.
    public func withValueIfWhole<Result>(
        _ table: Table,
        _ key: [UInt8],
        _ body: (Span<UInt8>?) throws(LMDBError) -> Result
    ) throws(LMDBError) -> Result? {
        var found: UnsafeBufferPointer<UInt8>?
        let code = withValues(key, []) { key, _ in look(pointer, table, &key, &found) }
        if code == MDB_NOTFOUND { return nil }
        try check("mdb_get \(table.name)", code)
        guard let found else { return try body(nil) }
        return try body(found.span)
    }

    /// Throws when the table has a value that is not what was put there.
    public func checkValues(_ table: Table) throws(LMDBError) {
        try sealedEntries(pointer, table, from: []) { key, value throws(LMDBError) in
            if value == nil { throw LMDBError(operation: "a value of \(table.name) is damaged", code: MDB_CORRUPTED) }
            return true
        }
    }

    /// How many entries the table has (`mdb_stat`).
    public func count(_ table: Table) throws(LMDBError) -> Int { try entryCount(pointer, table) }

    /// The pages that hold the table, in bytes; those that deletes have freed do not count (`mdb_stat`).
    public func liveBytes(_ table: Table) throws(LMDBError) -> Int { try pageBytes(pointer, table) }
}

/// The one writer, valid within the closure that got it, on its thread.
public struct WriteTransaction: ~Copyable {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
    }

    public func get(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> [UInt8]? {
        try value(pointer, table, key) { [UInt8]($0) }
    }

    /// As ``ReadTransaction/liveBytes(_:)``, with what this transaction has changed.
    public func liveBytes(_ table: Table) throws(LMDBError) -> Int { try pageBytes(pointer, table) }

    public func forEach(
        _ table: Table,
        from start: [UInt8] = [],
        _ body: (Span<UInt8>, Span<UInt8>) throws(LMDBError) -> Bool
    ) throws(LMDBError) {
        try entries(pointer, table, from: start, body)
    }

    public func count(_ table: Table) throws(LMDBError) -> Int { try entryCount(pointer, table) }

    /// Keys have 1 to 511 bytes (`mdb_put`).
    public func put(_ table: Table, _ key: [UInt8], _ bytes: [UInt8]) throws(LMDBError) {
        let seal = key.withUnsafeBytes { key in
            bytes.withUnsafeBytes { Seal.make(key, $0, limit: table.sealedBytes) }
        }
        let sealed = bytes + (0..<Seal.bytes).map { UInt8(truncatingIfNeeded: seal >> UInt32($0 * 8)) }
        let code = withValues(key, sealed) { key, value in mdb_put(pointer, table.handle, &key, &value, 0) }
        try check("mdb_put \(table.name)", code)
    }

    /// False when the key was not there (`mdb_del`).
    @discardableResult
    public func delete(_ table: Table, _ key: [UInt8]) throws(LMDBError) -> Bool {
        let code = withValues(key, []) { key, _ in mdb_del(pointer, table.handle, &key, nil) }
        if code == MDB_NOTFOUND { return false }
        try check("mdb_del \(table.name)", code)
        return true
    }
}

private func value<Result>(
    _ transaction: OpaquePointer,
    _ table: Table,
    _ key: [UInt8],
    _ body: (Span<UInt8>) throws(LMDBError) -> Result
) throws(LMDBError) -> Result? {
    var found: UnsafeBufferPointer<UInt8>?
    let code = withValues(key, []) { key, _ in look(transaction, table, &key, &found) }
    if code == MDB_NOTFOUND { return nil }
    try check("mdb_get \(table.name)", code)
    return try found.map { found throws(LMDBError) in try body(found.span) }
}

/// - Parameter found: the value; `nil` when its seal is broken.
private func look(
    _ transaction: OpaquePointer,
    _ table: Table,
    _ key: inout MDB_val,
    _ found: inout UnsafeBufferPointer<UInt8>?
) -> Int32 {
    var value = MDB_val()
    let code = mdb_get(transaction, table.handle, &key, &value)
    if code == 0 { found = Seal.open(value, key, limit: table.sealedBytes) }
    return code
}

private func entries(
    _ transaction: OpaquePointer,
    _ table: Table,
    from start: [UInt8],
    _ body: (Span<UInt8>, Span<UInt8>) throws(LMDBError) -> Bool
) throws(LMDBError) {
    let nothing = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
    try sealedEntries(transaction, table, from: start) { key, value throws(LMDBError) in
        try body(key.span, (value ?? nothing).span)
    }
}

/// - Parameter body: gets no value where its seal is broken.
private func sealedEntries(
    _ transaction: OpaquePointer,
    _ table: Table,
    from start: [UInt8],
    _ body: (UnsafeBufferPointer<UInt8>, UnsafeBufferPointer<UInt8>?) throws(LMDBError) -> Bool
) throws(LMDBError) {
    var opened: OpaquePointer?
    try check("mdb_cursor_open \(table.name)", mdb_cursor_open(transaction, table.handle, &opened))
    defer { mdb_cursor_close(opened) }
    var key = MDB_val()
    var value = MDB_val()
    var code = withValues(start, []) { from, _ in
        key = from
        return mdb_cursor_get(opened, &key, &value, start.isEmpty ? MDB_FIRST : MDB_SET_RANGE)
    }
    while code != MDB_NOTFOUND {
        try check("mdb_cursor_get \(table.name)", code)
        guard try body(bytes(key), Seal.open(value, key, limit: table.sealedBytes)) else { return }
        code = mdb_cursor_get(opened, &key, &value, MDB_NEXT)
    }
}

private func pageBytes(_ pointer: OpaquePointer, _ table: Table) throws(LMDBError) -> Int {
    var stat = MDB_stat()
    try check("mdb_stat \(table.name)", mdb_stat(pointer, table.handle, &stat))
    return (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) * Int(stat.ms_psize)
}

private func entryCount(_ transaction: OpaquePointer, _ table: Table) throws(LMDBError) -> Int {
    var stat = MDB_stat()
    try check("mdb_stat \(table.name)", mdb_stat(transaction, table.handle, &stat))
    return stat.ms_entries
}

private func bytes(_ value: MDB_val) -> UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(start: value.mv_data?.assumingMemoryBound(to: UInt8.self), count: value.mv_size)
}

private func withValues<Result>(
    _ key: [UInt8],
    _ value: [UInt8],
    _ body: (inout MDB_val, inout MDB_val) -> Result
) -> Result {
    key.withUnsafeBytes { key in
        value.withUnsafeBytes { value in
            var keyValue = MDB_val(mv_size: key.count, mv_data: UnsafeMutableRawPointer(mutating: key.baseAddress))
            var valueValue = MDB_val(
                mv_size: value.count,
                mv_data: UnsafeMutableRawPointer(mutating: value.baseAddress)
            )
            return body(&keyValue, &valueValue)
        }
    }
}
