internal import LMDB
public import OCI
public import System

/// A sorted list of names that the origin was asked for.
public enum NameList: Sendable, Hashable {
    /// All tags of a repository.
    case tags(RepositoryName)
    /// All repositories that have a tag.
    case repositories
}

/// A part of a ``NameList``.
public struct NamePage: Sendable, Equatable {
    /// In the order of their bytes.
    public let names: [String]
    /// Further names follow.
    public let hasMore: Bool
    /// When the origin was asked.
    public let checkedAt: WallTime

    public init(names: [String], hasMore: Bool, checkedAt: WallTime) {
        self.names = names
        self.hasMore = hasMore
        self.checkedAt = checkedAt
    }
}

extension DiskTier {
    /// A page of a list, however long the list is: looked for by bisection, without copying the rest. `nil` when it is not here.
    ///
    /// - Parameters:
    ///   - last: only names after this one, which need not be in the list.
    ///   - limit: how many at most; `nil` for all.
    public func page(of list: NameList, after last: String?, limit: Int?) throws(DiskTierError) -> NamePage? {
        let table = index.lists
        return try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                try transaction.withValue(table, Key.list(list)) { PackedNames.page($0, after: last, limit: limit) }
                    ?? nil
            }
        }
    }

    /// Keeps a list as the origin has it.
    ///
    /// - Parameter names: in the order of their bytes.
    /// - Returns: false, and nothing is kept, when a name of it was changed here after the stamp was taken.
    public func record(
        _ list: NameList,
        _ names: some Sequence<String>,
        checkedAt: WallTime,
        since stamp: Stamp
    ) throws(DiskTierError) -> Bool {
        let (index, stamps, sequence) = (index, listStamps, index.nextSequence())
        let key = Key.list(list)
        let record = PackedNames.encode(names, sequence: sequence, checkedAt: checkedAt)
        let room = try reserveInIndex(record.count)
        defer { hasGrown(room) }
        return try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                guard stamps.allows(key, since: stamp) else { return false }
                try index.removeList(key, transaction)
                try transaction.put(index.lists, key, record)
                try transaction.put(index.small, Key.small(.first, sequence), [SmallKind.list.rawValue] + key)
                return true
            }
        }
    }

    /// Forgets a list of which a name was added or removed; what was asked before cannot bring it back.
    public func forget(_ list: NameList) throws(DiskTierError) {
        let (index, key) = (index, Key.list(list))
        listStamps.delete(key)
        // One that is just being recorded has to go too: so the look is a writer's.
        try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in try index.removeList(key, transaction) }
        }
    }

    /// For ``record(_:_:checkedAt:since:)``: taken before the origin is asked.
    public func listStamp() -> Stamp { listStamps.stamp() }
}

extension CacheIndex {
    func removeList(_ key: [UInt8], _ transaction: borrowing WriteTransaction) throws(LMDBError) {
        guard let record = try transaction.get(lists, key), record.count >= 8 else { return }
        try transaction.delete(small, Key.small(.first, bigEndianNumber(record.span, at: 0)))
        try transaction.delete(lists, key)
    }
}

/// `sequence, seconds, nanoseconds, then each name and a line feed`.
enum PackedNames {
    private static let headerBytes = 24
    private static let lineFeed = UInt8(ascii: "\n")

    static func encode(_ names: some Sequence<String>, sequence: UInt64, checkedAt: WallTime) -> [UInt8] {
        var bytes = bigEndian(sequence) + bigEndian(UInt64(bitPattern: checkedAt.seconds))
        bytes += bigEndian(UInt64(checkedAt.nanoseconds))
        for name in names {
            bytes.append(contentsOf: name.utf8)
            bytes.append(lineFeed)
        }
        return bytes
    }

    static func page(_ record: Span<UInt8>, after last: String?, limit: Int?) -> NamePage? {
        guard record.count >= headerBytes else { return nil }
        let checkedAt = WallTime(
            seconds: Int64(bitPattern: bigEndianNumber(record, at: 8)),
            nanoseconds: Int32(truncatingIfNeeded: bigEndianNumber(record, at: 16))
        )
        var start = last.map { firstLine(record, after: Array($0.utf8)) } ?? headerBytes
        var names: [String] = []
        while start < record.count, limit.map({ names.count < $0 }) ?? true {
            let end = endOfLine(record, start)
            names.append(String(decoding: [UInt8](record.extracting(start..<end)), as: UTF8.self))
            start = end + 1
        }
        return NamePage(names: names, hasMore: start < record.count, checkedAt: checkedAt)
    }

    /// Where the first name greater than `last` begins.
    private static func firstLine(_ record: Span<UInt8>, after last: [UInt8]) -> Int {
        var (low, high) = (headerBytes, record.count)
        while low < high {
            var start = (low + high) / 2
            while start > low, record[start - 1] != lineFeed { start -= 1 }
            let end = endOfLine(record, start)
            if isGreater(record, start..<end, than: last) { high = start } else { low = end + 1 }
        }
        return low
    }

    private static func endOfLine(_ record: Span<UInt8>, _ start: Int) -> Int {
        var end = start
        while end < record.count, record[end] != lineFeed { end += 1 }
        return end
    }

    private static func isGreater(_ record: Span<UInt8>, _ line: Range<Int>, than other: [UInt8]) -> Bool {
        for index in 0..<min(line.count, other.count) where record[line.lowerBound + index] != other[index] {
            return record[line.lowerBound + index] > other[index]
        }
        return line.count > other.count
    }
}
