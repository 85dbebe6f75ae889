public import OCI
public import ObjectStorage

/// Why an operation on the registry's content failed.
public enum RegistryError: Error, CustomStringConvertible {
    /// What was asked for does not exist; says what it was.
    case notFound(String)
    /// The object store could not do it.
    case store(StoreError)
    /// The stored bytes are not what their name says.
    case damaged(key: ObjectKey, expected: Digest, actual: Digest)
    /// An object that ought to be small is larger than the limit in bytes.
    case tooLarge(key: ObjectKey, limit: Int)
    /// `catalog.json` cannot be read as a catalog.
    case catalogUnreadable(String)
    /// Other writers kept changing `catalog.json`.
    case catalogContended(attempts: Int)

    /// The same request may succeed later.
    public var isRetryable: Bool {
        guard case .store(let error) = self else { return false }
        if case .damagedBody = error.kind { return true }
        return error.isRetryable
    }

    public var description: String {
        switch self {
        case .notFound(let what): "\(what) does not exist"
        case .store(let error): "\(error)"
        case .damaged(let key, let expected, let actual):
            "the object \(key) is damaged: its digest is \(actual) instead of \(expected); delete it and push again"
        case .tooLarge(let key, let limit): "the object \(key) is larger than \(limit) bytes"
        case .catalogUnreadable(let reason): "catalog.json cannot be read: \(reason); rebuild it from a listing"
        case .catalogContended(let attempts):
            "catalog.json was changed by others during each of \(attempts) attempts; try again"
        }
    }
}
