public import ObjectStorage
internal import System
internal import Threading

extension MemoryStore {
    /// The uploads that are neither complete nor aborted.
    public var uploads: [MultipartUpload] {
        state.withLock { state in state.uploads.map { MultipartUpload(key: $0.value.key, id: $0.key) } }
    }

    public func beginUpload(_ key: ObjectKey, contentType: String?) throws(StoreError) -> MultipartUpload {
        try enter("BEGIN", key.description)
        let upload = MultipartUpload(key: key, id: SystemRandom().token())
        let started = SystemTime().wallTime()
        state.withLock { $0.uploads[upload.id] = Upload(key: key, contentType: contentType, started: started) }
        return upload
    }

    public func putPart(
        _ number: Int,
        at offset: Int64,
        of upload: MultipartUpload,
        _ body: ObjectBody
    ) throws(StoreError) -> UploadedPart {
        try enter("PART", "\(upload.key) \(number)")
        let bytes = try contents(of: body, upload.key)
        let etag = self.etag(bytes)
        let isThere = state.withLock { state in
            guard state.uploads[upload.id] != nil else { return false }
            state.uploads[upload.id]?.parts[number] = (etag, bytes)
            return true
        }
        guard isThere else { throw noSuchUpload(upload) }
        return UploadedPart(number: number, etag: etag, length: Int64(bytes.count))
    }

    /// As S3 does it: bound to its key, and copied to another.
    public func completeUpload(
        _ upload: MultipartUpload,
        _ parts: [UploadedPart],
        as key: ObjectKey
    ) throws(StoreError) {
        try enter("COMPLETE", upload.key.description)
        let length = parts.reduce(0) { $0 + $1.length }
        let place = traits.movesCheaply == true ? key : upload.key
        guard let pending = state.withLock({ $0.uploads[upload.id] }) else {
            guard let size = self[place.description]?.count, size == length else { throw noSuchUpload(upload) }
            return try move(place, to: key)
        }
        var bytes: [UInt8] = []
        for (index, part) in parts.enumerated() {
            guard part.number == index + 1, let stored = pending.parts[part.number], stored.etag == part.etag else {
                throw StoreError(.put, in: description, key: upload.key, .other, "InvalidPart", code: "InvalidPart")
            }
            if index + 1 < parts.count, part.length < multipart.partBytes {
                throw StoreError(.put, in: description, key: upload.key, .other, "", code: "EntityTooSmall")
            }
            bytes += stored.bytes
        }
        let etag = self.etag(bytes)
        state.withLock { [bytes] state in
            state.objects[place.description] = Object(bytes: bytes, contentType: pending.contentType, etag: etag)
            state.uploads[upload.id] = nil
        }
        try move(place, to: key)
    }

    private func move(_ source: ObjectKey, to key: ObjectKey) throws(StoreError) {
        guard source != key else { return }
        try enter("COPY", key.description)
        state.withLock { state in
            state.objects[key.description] = state.objects[source.description]
            state.hasCopied = true
        }
        // What stays behind is removed with the abandoned uploads.
        try? delete(source)
    }

    public func abortUpload(_ upload: MultipartUpload) throws(StoreError) {
        try enter("ABORT", upload.key.description)
        state.withLock { $0.uploads[upload.id] = nil }
    }

    public func pendingUploads(prefix: String, continuation: String?) throws(StoreError) -> PendingUploadPage {
        try enter("UPLOADS", prefix)
        return state.withLock { state in
            PendingUploadPage(
                uploads: state.uploads.filter { $0.value.key.description.hasPrefix(prefix) }
                    .map { PendingUpload(MultipartUpload(key: $0.value.key, id: $0.key), started: $0.value.started) }
            )
        }
    }

    private func noSuchUpload(_ upload: MultipartUpload) -> StoreError {
        StoreError(.put, in: description, key: upload.key, .noSuchUpload, "", code: "NoSuchUpload")
    }
}
