internal import ObjectStorage

extension ObjectStore {
    /// Reads a whole object; one larger than `limitBytes` is an error, and is not read.
    func contents(
        _ key: ObjectKey,
        limitBytes: Int,
        ifNoneMatch etag: String? = nil
    ) throws(RegistryError) -> SmallObject {
        do throws(StoreError) {
            return try contents(of: key, limitBytes: limitBytes, ifNoneMatch: etag)
        } catch {
            if case .receiver(is TooLarge) = error.kind { throw .tooLarge(key: key, limit: limitBytes) }
            throw .store(error)
        }
    }
}
