internal import System

extension DirectoryStore {
    public func head(_ key: ObjectKey) throws(StoreError) -> ObjectInfo? { try open(key, .head)?.info }

    public func get(
        _ key: ObjectKey,
        range: Range<Int64>?,
        ifNoneMatch: String?,
        isCancelled: @escaping @Sendable () -> Bool,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome {
        precondition(range.map { !$0.isEmpty && $0.lowerBound >= 0 } ?? true, "a range of no bytes")
        guard let (file, info) = try open(key, .get) else { return .notFound }
        if let ifNoneMatch, ifNoneMatch == info.etag { return .notModified }
        let first = range?.lowerBound ?? 0
        guard range == nil || first < info.size else {
            throw failure(.get, key, .invalidRange, "the object has \(info.size) bytes")
        }
        try receiving(key) { try begin(info) }
        var offset = first
        let end = min(range?.upperBound ?? info.size, info.size)
        while offset < end {
            if isCancelled() { throw failure(.get, key, .receiver(CancellationError()), "cancelled") }
            let bytes = try read(file, at: offset, count: Int(min(Int64(Self.bufferBytes), end - offset)), key)
            try receiving(key) { try receive(bytes.span) }
            offset += Int64(bytes.count)
        }
        return .complete(info)
    }

    /// The object's file, as it was when it was opened.
    private func open(
        _ key: ObjectKey,
        _ operation: StoreError.Operation
    ) throws(StoreError) -> (file: File, info: ObjectInfo)? {
        guard let path = path(of: key) else { return nil }
        return try reporting(operation, key) {
            do {
                let file = try fileSystem.open(path, .readOwn)
                guard try fileSystem.resolve(path) == path else { throw linkOnPath(operation, key) }
                return try info(of: file).map { (file, $0) }
            } catch let error as FileError {
                if error.isLink { throw linkOnPath(operation, key) }
                guard error.isNotFound else { throw error }
                try checkPresence(operation, key)
                return nil
            }
        }
    }

    /// `nil` for a directory.
    private func info(of file: File) throws(FileError) -> ObjectInfo? {
        let status = try fileSystem.status(of: file)
        guard !status.isDirectory else { return nil }
        guard status.isRegular else { throw FileError.notRegular(file.path) }
        let limit = Self.contentTypeLimitBytes
        let type = try fileSystem.attribute(Self.contentTypeAttribute, of: file, limitBytes: limit)
        return ObjectInfo(
            size: status.size,
            etag: status.etag,
            contentType: type.map { String(decoding: $0, as: UTF8.self) },
            lastModified: status.modified
        )
    }

    private func read(_ file: File, at offset: Int64, count: Int, _ key: ObjectKey) throws(StoreError) -> [UInt8] {
        try reporting(.get, key) {
            let bytes = try fileSystem.read(file, at: offset, count: count)
            guard bytes.count == count else {
                throw failure(.get, key, .damagedBody, "the file has become shorter than it was when it was opened")
            }
            return bytes
        }
    }

    private func receiving(_ key: ObjectKey, _ body: () throws -> Void) throws(StoreError) {
        do {
            try body()
        } catch {
            throw failure(.get, key, .receiver(error), "")
        }
    }
}
