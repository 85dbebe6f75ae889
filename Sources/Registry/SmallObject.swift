internal import OCI
internal import ObjectStorage
internal import System

/// A whole object in memory.
enum SmallObject {
    case notFound
    case notModified
    case complete([UInt8], ObjectInfo)
}

extension ObjectStore {
    /// Reads a whole object; one larger than `limitBytes` is an error, and is not read.
    func contents(
        _ key: ObjectKey,
        limitBytes: Int,
        ifNoneMatch etag: String? = nil
    ) throws(RegistryError) -> SmallObject {
        var bytes: [UInt8] = []
        var isTooLarge = false
        do throws(StoreError) {
            let outcome = try get(key, range: nil, ifNoneMatch: etag) { info in
                isTooLarge = info.size > limitBytes
                if isTooLarge { throw RegistryError.tooLarge(key: key, limit: limitBytes) }
                bytes.reserveCapacity(Int(info.size))
            } receive: { piece in
                bytes.append(piece)
            }
            return switch outcome {
            case .notFound: .notFound
            case .notModified: .notModified
            case .complete(let info): .complete(bytes, info)
            }
        } catch {
            throw isTooLarge ? .tooLarge(key: key, limit: limitBytes) : .store(error)
        }
    }
}
