internal import ObjectStorage

/// What bytes from the origin are of: those of two versions do not go together.
///
/// Of an origin that tells no ETag, objects of the same size cannot be told apart.
struct ObjectVersion: Equatable {
    let size: Int64
    let etag: String?

    init(size: Int64, etag: String?) {
        self.size = size
        self.etag = etag
    }

    init(_ info: ObjectInfo) { self.init(size: info.size, etag: info.etag) }
}
