public import DiskTier
internal import ObjectStorage
public import OCI
public import Registry

/// Why the cache could not do what it was asked; "not there" is no error but an answer.
public enum EdgeError: Error, CustomStringConvertible {
    /// The origin failed, or its content is damaged.
    case origin(RegistryError)
    /// The disk tier failed, or has no room for what only it can hold.
    case tier(DiskTierError)
    /// Too much is under way; the same request may succeed later.
    case busy(String)
    /// The program is about to end.
    case closing
    /// The bytes do not have the digest they were announced with.
    case digestMismatch(expected: Digest, actual: Digest)
    /// The blob's object was replaced at the origin while it was read.
    case originChanged(Digest)
    case uploadUnknown(String)
    /// Another request is writing to the upload.
    case uploadBusy(String)
    /// The chunk does not start where the upload stands.
    case chunkOutOfOrder(offset: Int64)
    /// An earlier request failed here after it had brought the bytes that are missing; `offset` is where the upload stands.
    case bytesDropped(offset: Int64)
    /// The chunk has not the length that its headers announced.
    case chunkLength(expected: Int64, actual: Int64)
    /// The closing digest's algorithm is not the one that the upload was hashed with, and the bytes are no longer here.
    case algorithm(named: DigestAlgorithm, hashed: DigestAlgorithm)
    /// Another process has changed the file of the upload, or a power cut has.
    case uploadDamaged(String)
    case manifestInvalid(String)
    /// The manifest refers to blobs that nobody pushed.
    case manifestBlobsUnknown([Digest])

    /// No other request of the client would have fared better.
    var isOurs: Bool {
        switch self {
        case .origin, .tier, .busy, .closing: true
        default: false
        }
    }

    /// The origin is down, throttles, or cannot be asked for want of credentials, or the program is about to end. That was told when it came
    /// about (`StoreEvent`), so it is no news for each request.
    public var isOfKnownTrouble: Bool {
        switch self {
        case .origin(.store(let error)):
            switch error.kind {
            case .unavailable, .throttled, .noCredentials: true
            default: false
            }
        case .closing: true
        default: false
        }
    }

    /// A change that failed so may have come about: its answer may be lost.
    var mayBeDone: Bool {
        if case .origin(.store(let error)) = self { error.mayBeDone } else { true }
    }

    public var description: String {
        switch self {
        case .origin(let error): "\(error)"
        case .tier(let error): "\(error)"
        case .busy(let what): "\(what); try again later"
        case .closing: "the server is about to end; try again later"
        case .digestMismatch(let expected, let actual):
            "the content has the digest \(actual), not \(expected)"
        case .originChanged(let digest):
            "blob \(digest) was replaced at the origin while it was read; ask again"
        case .uploadUnknown(let id): "there is no upload \(id): it was finished, canceled or expired"
        case .uploadBusy(let id): "another request is writing to upload \(id)"
        case .chunkOutOfOrder(let offset): "the chunk must start at byte \(offset)"
        case .bytesDropped(let offset):
            "an earlier request failed and its bytes were dropped: send them again, from byte \(offset) on"
        case .chunkLength(let expected, let actual):
            "the chunk has \(actual) bytes where its headers announce \(expected)"
        case .algorithm(let named, let hashed):
            "the upload was hashed as \(hashed) and is too large to be kept here; open it with digest-algorithm=\(named)"
        case .uploadDamaged(let path):
            "another process, or a power cut, has changed \(path), which this upload was written to; begin the upload anew"
        case .manifestInvalid(let reason): reason
        case .manifestBlobsUnknown(let digests):
            "the manifest refers to unknown content: \(digests.prefix(5).map(\.description).joined(separator: ", "))"
        }
    }
}
