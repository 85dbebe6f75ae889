internal import Hashing
internal import OCI
internal import System

extension DirectoryStore {
    /// Bytes, file sync, rename, directory sync. The lock covers the condition and the rename alone.
    public func put(
        _ key: ObjectKey,
        _ body: ObjectBody,
        contentType: String?,
        condition: PutCondition
    ) throws(StoreError) -> PutOutcome {
        guard let path = path(of: key) else {
            let message =
                "'\(Self.ownFolder)' is the store's own, and no segment may exceed \(Self.maximumSegmentBytes) bytes"
            throw failure(.put, key, .unsupported, message)
        }
        guard contentType.map({ $0.utf8.count <= Self.contentTypeLimitBytes }) ?? true else {
            throw failure(.put, key, .unsupported, "a content type of more than \(Self.contentTypeLimitBytes) bytes")
        }
        let temporary = temporaryPath()
        do throws(StoreError) {
            let etag = try write(body, contentType, to: temporary, key)
            if try place(temporary, at: path, key, condition) { return .stored(etag: etag) }
            removeTemporary(temporary)
            return .conditionFailed
        } catch {
            removeTemporary(temporary)
            throw error
        }
    }

    /// A file that cannot be removed now is in nobody's way, and a later start removes it.
    private func removeTemporary(_ path: String) {
        _ = try? fileSystem.remove(path)
    }

    /// Writes a new file and returns its tag once the bytes are on stable storage.
    private func write(
        _ body: ObjectBody,
        _ contentType: String?,
        to path: String,
        _ key: ObjectKey
    ) throws(StoreError) -> String {
        try reporting(.put, key) {
            let file = try fileSystem.open(path, .create)
            // Before the bytes: a journal that has them has this too.
            if let contentType {
                try fileSystem.setAttribute(Self.contentTypeAttribute, Array(contentType.utf8), of: file)
            }
            try fileSystem.allocate(file, size: body.length)
            switch body {
            case .bytes(let bytes):
                try fileSystem.write(bytes.span, to: file, at: 0)
            case .file(let source, let offset, let length, let digest):
                var hash = ContentHash(digest?.algorithm ?? .sha256)
                let copied = try copy(source, at: offset, length: length, to: file, at: 0) { bytes in
                    if digest != nil { hash.update(bytes) }
                }
                guard copied == length else {
                    throw failure(.put, key, .damagedBody, "\(source.path) has \(copied) bytes of \(length)")
                }
                guard digest == nil || hash.digest() == digest else {
                    throw failure(.put, key, .damagedBody, "\(source.path) was changed while it was copied")
                }
            }
            try fileSystem.setModified(file, nanoseconds: wallNanoseconds())
            try fileSystem.synchronize(file)
            return try fileSystem.status(of: file).etag
        }
    }

    /// Returns how many bytes there were to copy.
    func copy(
        _ source: File,
        at offset: Int64,
        length: Int64,
        to file: File,
        at target: Int64,
        each: (Span<UInt8>) -> Void = { _ in }
    ) throws(FileError) -> Int64 {
        var copied: Int64 = 0
        while copied < length {
            let count = Int(min(Int64(Self.bufferBytes), length - copied))
            let bytes = try fileSystem.read(source, at: offset + copied, count: count)
            guard !bytes.isEmpty else { break }
            each(bytes.span)
            try fileSystem.write(bytes.span, to: file, at: target + copied)
            copied += Int64(bytes.count)
        }
        return copied
    }

    /// Moves a finished file to its name, durably; false when the condition does not hold.
    func place(
        _ temporary: String,
        at path: String,
        _ key: ObjectKey,
        _ condition: PutCondition
    ) throws(StoreError) -> Bool {
        try reporting(.put, key) {
            let directory = parentDirectory(of: path)
            for _ in 0..<Self.placementAttempts {
                do {
                    try prepareDirectory(directory, key)
                    guard try rename(temporary, to: path, key, condition) else { return false }
                    try synchronizeNearest(directory)
                    return true
                } catch let error as FileError {
                    // Others have removed the directory with the last object in it, or were just about to.
                    guard error.isNotFound || error.isAlreadyThere else { throw error }
                }
            }
            throw failure(.put, key, .conflict, "its directory cannot be made to stay")
        }
    }

    private func rename(
        _ temporary: String,
        to path: String,
        _ key: ObjectKey,
        _ condition: PutCondition
    ) throws -> Bool {
        try withLock {
            let current = try fileSystem.status(at: path)
            guard current?.isDirectory != true else {
                throw failure(.put, key, .conflict, "there are objects whose keys begin with it and a slash")
            }
            guard condition.holds(for: current?.etag) else { return false }
            try fileSystem.rename(temporary, to: path)
            return true
        }
    }

    /// Creates a directory below the root with its missing parents, unless that would lead elsewhere.
    private func prepareDirectory(_ directory: String, _ key: ObjectKey) throws {
        var missing: [String] = []
        var existing = directory
        while try !isReady(existing, key) {
            missing.append(existing)
            existing = parentDirectory(of: existing)
        }
        for directory in missing.reversed() {
            do throws(FileError) {
                try fileSystem.createDirectory(directory)
            } catch {
                // Unless it is a file's, the name was a directory's that has been removed since.
                if try fileSystem.status(at: directory)?.isDirectory == false { throw nameIsTaken(key) }
                throw error
            }
        }
    }

    /// False when the directory does not exist.
    private func isReady(_ directory: String, _ key: ObjectKey) throws -> Bool {
        let resolved: String
        do throws(FileError) {
            resolved = try fileSystem.resolve(directory)
        } catch {
            // A root that has gone may be a volume that is not mounted: what was written then would be lost.
            guard error.isNotFound else { throw error }
            guard directory != root else { throw gone(.put, key) }
            return false
        }
        guard resolved == directory else { throw linkOnPath(.put, key) }
        guard try fileSystem.status(at: directory)?.isDirectory != false else { throw nameIsTaken(key) }
        return true
    }

    private func nameIsTaken(_ key: ObjectKey) -> StoreError {
        failure(.put, key, .conflict, "an object has the name of one of its directories")
    }

    /// Returns once the names in a directory are on stable storage, or, if it has gone since, that it has.
    private func synchronizeNearest(_ directory: String) throws(FileError) {
        var directory = directory
        while true {
            do throws(FileError) {
                return try fileSystem.synchronize(directory: directory)
            } catch {
                guard error.isNotFound, directory != root else { throw error }
                directory = parentDirectory(of: directory)
            }
        }
    }

    /// Removes the directories too that it leaves empty.
    public func delete(_ key: ObjectKey) throws(StoreError) {
        guard let path = path(of: key) else { return }
        try reporting(.delete, key) {
            do {
                let directory = parentDirectory(of: path)
                guard try fileSystem.resolve(directory) == directory else { throw linkOnPath(.delete, key) }
                try withLock {
                    guard try fileSystem.status(at: path)?.isDirectory != true else { return }
                    try fileSystem.remove(path)
                }
                try synchronizeNearest(directory)
                var empty = directory
                while empty != root, try fileSystem.removeDirectory(empty) { empty = parentDirectory(of: empty) }
            } catch let error as FileError {
                guard error.isNotFound else { throw error }
                try checkPresence(.delete, key)
            }
        }
    }

    public func delete(_ keys: [ObjectKey]) throws(StoreError) {
        var failure: StoreError?
        for key in keys {
            do throws(StoreError) {
                try delete(key)
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }
}

extension PutCondition {
    /// - Parameter etag: that of the object as it is; `nil` when there is none.
    fileprivate func holds(for etag: String?) -> Bool {
        switch self {
        case .none: true
        case .ifAbsent: etag == nil
        case .ifMatch(let expected): etag == expected
        }
    }
}
