public import OCI
public import ObjectStorage
public import System

/// Blobs that are put together from parts, while their bytes still come in. Nobody sees one before it is complete.
extension Registry {
    /// - Parameter digest: `nil` when it is not known yet: then the parts wait under a key of their own.
    public func beginBlobUpload(_ digest: Digest?) throws(RegistryError) -> MultipartUpload {
        let key = digest.map(layout.blob) ?? layout.unnamedBlob(random.token())
        return try ask { () throws(StoreError) in
            try store.beginUpload(key, contentType: MediaType.octetStream.rawValue)
        }
    }

    /// - Parameters:
    ///   - number: from 1 on.
    ///   - offset: where the part begins in the blob.
    public func putBlobPart(
        _ number: Int,
        at offset: Int64,
        of upload: MultipartUpload,
        _ body: ObjectBody
    ) throws(RegistryError) -> UploadedPart {
        try ask { () throws(StoreError) in try store.putPart(number, at: offset, of: upload, body) }
    }

    /// Whether an upload can become this blob: one that was begun for another digest would show its bytes under that.
    public func mayComplete(_ upload: MultipartUpload, as digest: Digest) -> Bool {
        upload.key == layout.blob(digest) || upload.key.description.utf8.starts(with: layout.unnamedBlobs.utf8)
    }

    /// Makes the parts, all in order, a blob. The caller has verified that they have this digest.
    public func completeBlobUpload(
        _ upload: MultipartUpload,
        _ parts: [UploadedPart],
        as digest: Digest
    ) throws(RegistryError) {
        precondition(mayComplete(upload, as: digest), "the upload \(upload.key) was begun for another digest")
        try ask { () throws(StoreError) in try store.completeUpload(upload, parts, as: layout.blob(digest)) }
    }

    /// Sends a part under no blob's key and gives it another, so that ``ObjectStore/multipart`` tells what that costs. Nothing of it stays.
    public func tryMoving(_ part: ObjectBody) throws(RegistryError) {
        let key = layout.unnamedBlob(random.token())
        let upload = try beginBlobUpload(nil)
        try ask { () throws(StoreError) in
            do throws(StoreError) {
                try store.completeUpload(upload, [try store.putPart(1, at: 0, of: upload, part)], as: key)
            } catch {
                // Whichever of these there is; what stays goes with the abandoned uploads.
                try? store.abortUpload(upload)
                try? store.delete([upload.key, key])
                throw error
            }
            try store.delete(key)
        }
    }

    public func abortBlobUpload(_ upload: MultipartUpload) throws(RegistryError) {
        try ask { () throws(StoreError) in try store.abortUpload(upload) }
    }

    /// Aborts the uploads of blobs that were begun before `moment`, whoever began them, and removes what others left on the way to a name.
    ///
    /// - Parameter living: uploads to leave alone.
    /// - Returns: how many there were.
    public func removeAbandonedUploads(
        before moment: WallTime,
        except living: Set<MultipartUpload>
    ) throws(RegistryError) -> Int {
        try ask { () throws(StoreError) in
            var (count, failure) = (0, StoreError?.none)
            for prefix in [layout.blobs, layout.unnamedBlobs] {
                try store.eachPendingUpload(prefix: prefix) { page throws(StoreError) in
                    let moment = onItsClock(moment)
                    for pending in page.uploads where !living.contains(pending.upload) {
                        guard let started = pending.started, started < moment else { continue }
                        do throws(StoreError) {
                            try store.abortUpload(pending.upload)
                            count += 1
                        } catch {
                            // One that stays is no reason for the others to stay.
                            if error.isRetryable { throw error }
                            failure = failure ?? error
                        }
                    }
                }
            }
            let used = Set(living.map(\.key))
            try store.listAll(prefix: layout.unnamedBlobs) { page throws(StoreError) in
                let moment = onItsClock(moment)
                let old = page.objects.filter { object in
                    object.lastModified.map { $0 < moment } ?? false && !used.contains(object.key)
                }
                try store.delete(old.map(\.key))
                count += old.count
            }
            if let failure { throw failure }
            return count
        }
    }

    /// The store tells times by its own clock, which by now is known to be off.
    private func onItsClock(_ moment: WallTime) -> WallTime {
        WallTime(seconds: moment.seconds + store.clockOffsetSeconds)
    }
}
