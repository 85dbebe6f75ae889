internal import System

/// An upload in parts is a file that the parts are written into, with a note of what it is to become; completing it is a rename.
///
/// ```
/// .forebay/uploads/<id>         the bytes
/// .forebay/uploads/<id>.note    the key, and the content type if there is one, on lines of their own
/// ```
extension DirectoryStore {
    private static let noteSuffix = ".note"
    private static let noteLimitBytes = 4_096

    public var multipart: MultipartTraits {
        MultipartTraits(thresholdBytes: 32 << 20, partBytes: 16 << 20, partsInFlight: 2, movesCheaply: true)
    }

    public func beginUpload(_ key: ObjectKey, contentType: String?) throws(StoreError) -> MultipartUpload {
        let upload = MultipartUpload(key: key, id: random.token())
        guard path(of: key) != nil else { throw failure(.put, key, .unsupported, "no file can have such a name") }
        try reporting(.put, key) {
            let note = try fileSystem.open(notePath(upload), .create)
            try fileSystem.write(Array("\(key)\n\(contentType ?? "")".utf8).span, to: note, at: 0)
            try fileSystem.setModified(note, nanoseconds: wallNanoseconds())
            try fileSystem.synchronize(note)
            _ = try fileSystem.open(bytesPath(upload), .create)
            try fileSystem.synchronize(directory: uploadFolder)
        }
        return upload
    }

    public func putPart(
        _ number: Int,
        at offset: Int64,
        of upload: MultipartUpload,
        _ body: ObjectBody
    ) throws(StoreError) -> UploadedPart {
        precondition(number > 0 && offset >= 0)
        guard let file = try open(upload) else { throw failure(.put, upload.key, .noSuchUpload, "") }
        try reporting(.put, upload.key) {
            switch body {
            case .bytes(let bytes):
                try fileSystem.write(bytes.span, to: file, at: offset)
            case .file(let source, let start, let length, _):
                let copied = try copy(source, at: start, length: length, to: file, at: offset)
                guard copied == length else {
                    throw failure(.put, upload.key, .damagedBody, "\(source.path) has \(copied) bytes of \(length)")
                }
            }
            // A part that was acknowledged is not sent again.
            try fileSystem.synchronize(file)
        }
        return UploadedPart(number: number, etag: "\(offset)-\(body.length)", length: body.length)
    }

    public func completeUpload(
        _ upload: MultipartUpload,
        _ parts: [UploadedPart],
        as key: ObjectKey
    ) throws(StoreError) {
        guard let path = path(of: key) else { throw failure(.put, key, .unsupported, "no file can have such a name") }
        let length = try check(parts, upload)
        guard let file = try open(upload) else {
            // Completed before, without anybody having heard of it.
            guard try head(key)?.size == length else { throw failure(.put, upload.key, .noSuchUpload, "") }
            return
        }
        try reporting(.put, key) {
            guard try fileSystem.status(of: file).size == length else {
                throw failure(.put, upload.key, .damagedBody, "the parts are not all there")
            }
            if let type = try note(upload.id)?.contentType {
                try fileSystem.setAttribute(Self.contentTypeAttribute, Array(type.utf8), of: file)
            }
            try fileSystem.setModified(file, nanoseconds: wallNanoseconds())
            try fileSystem.synchronize(file)
            _ = try place(file.path, at: path, key, .none)
            try fileSystem.remove(notePath(upload))
        }
    }

    public func abortUpload(_ upload: MultipartUpload) throws(StoreError) {
        guard isID(upload.id) else { return }
        try reporting(.delete, upload.key) {
            // The note last: with it, what stays behind can still be listed.
            if try !fileSystem.remove(bytesPath(upload)) { try checkPresence(.delete, upload.key) }
            try fileSystem.remove(notePath(upload))
        }
    }

    public func pendingUploads(prefix: String, continuation: String?) throws(StoreError) -> PendingUploadPage {
        try reporting(.list, nil) {
            let names = try fileSystem.entries(of: uploadFolder).map(\.name).filter { $0.hasSuffix(Self.noteSuffix) }
            var page = PendingUploadPage()
            for name in names.sorted() {
                let id = String(name.dropLast(Self.noteSuffix.count))
                guard isID(id), let note = try note(id), starts(note.key.description, with: prefix) else { continue }
                page.uploads.append(PendingUpload(MultipartUpload(key: note.key, id: id), started: note.started))
            }
            return page
        }
    }

    // MARK: Files

    private var uploadFolder: String { "\(root)/\(Self.ownFolder)/uploads" }
    private func bytesPath(_ upload: MultipartUpload) -> String { "\(uploadFolder)/\(upload.id)" }
    private func notePath(_ upload: MultipartUpload) -> String { bytesPath(upload) + Self.noteSuffix }

    /// What is no id of ours must not become a path.
    private func isID(_ id: String) -> Bool {
        id.utf8.count == 32 && id.utf8.allSatisfy { hexadecimalValue($0) != nil }
    }

    private func open(_ upload: MultipartUpload) throws(StoreError) -> File? {
        guard isID(upload.id) else { return nil }
        return try reporting(.put, upload.key) {
            do {
                return try fileSystem.open(bytesPath(upload), .readWrite)
            } catch let error as FileError {
                guard error.isNotFound else { throw error }
                try checkPresence(.put, upload.key)
                return nil
            }
        }
    }

    /// `nil` when it is gone, or half-written.
    private func note(_ id: String) throws(FileError) -> (key: ObjectKey, contentType: String?, started: WallTime)? {
        let file: File
        do throws(FileError) {
            file = try fileSystem.open("\(uploadFolder)/\(id)\(Self.noteSuffix)", .readOwn)
        } catch {
            guard error.isNotFound else { throw error }
            return nil
        }
        let text = String(decoding: try fileSystem.read(file, at: 0, count: Self.noteLimitBytes), as: UTF8.self)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count == 2, let key = try? ObjectKey(lines[0]) else { return nil }
        let type = lines[1].isEmpty ? nil : String(lines[1])
        return (key, type, try fileSystem.status(of: file).modified)
    }

    /// The length of the whole.
    private func check(_ parts: [UploadedPart], _ upload: MultipartUpload) throws(StoreError) -> Int64 {
        var length: Int64 = 0
        for (index, part) in parts.enumerated() {
            guard part.number == index + 1, part.etag == "\(length)-\(part.length)" else {
                throw failure(.put, upload.key, .other, "the parts do not follow each other")
            }
            length += part.length
        }
        return length
    }
}
