internal import System

extension DirectoryStore {
    /// Reads only the directories that may hold what is asked for.
    public func list(
        prefix: String,
        delimiter: String?,
        after: String?,
        continuation: String?,
        limit: Int
    ) throws(StoreError) -> ListPage {
        precondition(limit > 0, "a page of nothing")
        let start = continuation.flatMap { Listing.Cursor(token: $0) } ?? after.map { .after($0) }
        guard continuation == nil || start != nil else {
            throw failure(.list, nil, .invalidResponse, "a continuation that is not from here")
        }
        var listing = Listing(prefix: prefix, delimiter: delimiter, cursor: start, limit: min(limit, Self.listLimit))
        return try reporting(.list, nil) {
            // Everything with the prefix is below the directory that it names.
            guard let directory = directory(of: prefix) else { return ListPage() }
            try walk(directory, &listing)
            return listing.page
        }
    }

    /// The prefix up to its last slash; `nil` when no object can have such a prefix.
    private func directory(of prefix: String) -> String? {
        guard let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "" }
        let directory = prefix[...slash]
        // A prefix that is no key leads nowhere, least of all upwards.
        guard let key = try? ObjectKey(prefix[..<slash]), path(of: key) != nil else { return nil }
        return String(directory)
    }

    /// Visits what is below `directory`, which is empty or ends with a slash, in the order of the keys until the page is full.
    private func walk(_ directory: String, _ listing: inout Listing) throws {
        // For each directory on the way down, what is still to be visited in it, last first.
        var rest = [try names(in: directory, listing)]
        while let depth = rest.indices.last {
            guard let name = rest[depth].popLast() else {
                rest.removeLast()
                continue
            }
            guard listing.mayContain(name) else { continue }
            if name.utf8.last == UInt8(ascii: "/") {
                rest.append(try names(in: name, listing))
            } else if let key = try? ObjectKey(name), let status = try fileSystem.status(at: "\(root)/\(name)"),
                status.isRegular
            {
                // A name that is no key, and what is no file, is some other program's.
                guard listing.add(key, status) else { return }
            }
        }
    }

    /// Whole keys, last first; those of directories with a slash at the end: as bytes, that is the order of what is below them.
    private func names(in directory: String, _ listing: Listing) throws -> [String] {
        let path = directory.isEmpty ? root : "\(root)/\(Substring(directory.utf8.dropLast()))"
        let entries = try fileSystem.entries(of: path)
        guard !entries.isEmpty else {
            try checkPresence(.list, nil)
            return []
        }
        guard try isInside(path) else { return [] }
        var names: [String] = []
        for entry in entries where !entry.isLink && !(directory.isEmpty && entry.name == Self.ownFolder) {
            let name = entry.isDirectory ? "\(directory)\(entry.name)/" : "\(directory)\(entry.name)"
            if listing.mayContain(name) { names.append(name) }
        }
        return names.sorted { isOrdered($1, before: $0) }
    }

    private func isInside(_ path: String) throws -> Bool {
        do throws(FileError) {
            return try fileSystem.resolve(path) == path
        } catch {
            guard error.isNotFound else { throw error }
            return false
        }
    }
}

/// A page that is being filled.
private struct Listing {
    /// Where the listing begins.
    enum Cursor {
        /// Past this key.
        case after(String)
        /// Past all keys with this prefix.
        case past(String)

        init?(token: String) {
            switch token.utf8.first {
            case UInt8(ascii: "k"): self = .after(String(Substring(token.utf8.dropFirst())))
            case UInt8(ascii: "p"): self = .past(String(Substring(token.utf8.dropFirst())))
            default: return nil
            }
        }

        var token: String {
            switch self {
            case .after(let key): "k\(key)"
            case .past(let prefix): "p\(prefix)"
            }
        }
    }

    let prefix: String
    let delimiter: String?
    var cursor: Cursor?
    let limit: Int
    private(set) var page = ListPage()

    init(prefix: String, delimiter: String?, cursor: Cursor?, limit: Int) {
        self.prefix = prefix
        self.delimiter = delimiter
        self.cursor = cursor
        self.limit = limit
    }

    /// Whether a key, or one below a directory, whose name ends with a slash, is wanted.
    func mayContain(_ name: String) -> Bool {
        let isDirectory = name.utf8.last == UInt8(ascii: "/")
        guard starts(name, with: prefix) || (isDirectory && starts(prefix, with: name)) else { return false }
        switch cursor {
        case nil: return true
        case .after(let key): return isOrdered(key, before: name) || (isDirectory && starts(key, with: name))
        case .past(let past):
            guard !starts(name, with: past) else { return false }
            return isOrdered(past, before: name) || (isDirectory && starts(past, with: name))
        }
    }

    /// False when it no longer fits.
    mutating func add(_ key: ObjectKey, _ status: FileStatus) -> Bool {
        guard page.objects.count + page.commonPrefixes.count < limit else {
            page.continuation = cursor?.token
            return false
        }
        if let common = commonPrefix(of: key.description) {
            page.commonPrefixes.append(common)
            cursor = .past(common)
        } else {
            let object = ListedObject(
                key: key,
                size: status.size,
                etag: status.etag,
                lastModified: status.modified
            )
            page.objects.append(object)
            cursor = .after(key.description)
        }
        return true
    }

    /// The key up to the first delimiter after the prefix, and with it.
    private func commonPrefix(of key: String) -> String? {
        guard let delimiter, !delimiter.isEmpty else { return nil }
        var rest = key.utf8.dropFirst(prefix.utf8.count)
        while !rest.isEmpty {
            if rest.starts(with: delimiter.utf8) {
                return String(key[..<rest.index(rest.startIndex, offsetBy: delimiter.utf8.count)])
            }
            rest = rest.dropFirst()
        }
        return nil
    }
}
