internal import Hashing
public import OCI
public import System

/// A flat space of named byte strings that outlives this process: the origin.
///
/// Calls block and may come from any number of threads. An object is replaced as a whole: a reader sees the old bytes or the new ones, and
/// after a call that changes something has returned, the change is durable. Nothing here is secret: a store's description may be logged.
public protocol ObjectStore: Sendable, CustomStringConvertible {
    /// What is known of an object without its bytes; `nil` when there is none.
    func head(_ key: ObjectKey) throws(StoreError) -> ObjectInfo?

    /// Whether the object is there and is these bytes, as far as can be told without reading it.
    func holds(_ key: ObjectKey, _ body: ObjectBody) throws(StoreError) -> Bool

    /// Delivers an object's bytes, or those of `range` clipped to its size, in order.
    ///
    /// A body that is not as long as announced is an error, never a clean end. `begin` and `receive` must not use the store.
    ///
    /// - Parameters:
    ///   - range: half-open and not empty. A start at or past the end is an error of kind ``StoreError/Kind/invalidRange``.
    ///   - ifNoneMatch: an ETag without quotes; when it is still the object's, nothing is delivered.
    ///   - isCancelled: asked about once a second where the store may be silent for long; true ends the transfer with an error.
    ///   - begin: called once, before the first byte. `size` is that of the whole object.
    ///   - receive: called for each piece. What it or `begin` throws ends the transfer, as ``StoreError/Kind/receiver(_:)``.
    func get(
        _ key: ObjectKey,
        range: Range<Int64>?,
        ifNoneMatch: String?,
        isCancelled: @escaping @Sendable () -> Bool,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome

    /// Stores an object, durably when this returns.
    ///
    /// After an answer was lost on the way and the request sent again, a condition may see what the first attempt had stored. So
    /// `conditionFailed` means: read again.
    func put(
        _ key: ObjectKey,
        _ body: ObjectBody,
        contentType: String?,
        condition: PutCondition
    ) throws(StoreError) -> PutOutcome

    /// Removes an object; it is no error when there is none.
    func delete(_ key: ObjectKey) throws(StoreError)

    /// Removes objects, many in a request where the store can. Those that could not be removed make it an error, the others are gone.
    func delete(_ keys: [ObjectKey]) throws(StoreError)

    /// How the store wants objects put together from parts.
    var multipart: MultipartTraits { get }

    /// Begins an object that is put together from parts. Nobody sees it before ``completeUpload(_:_:as:)``.
    func beginUpload(_ key: ObjectKey, contentType: String?) throws(StoreError) -> MultipartUpload

    /// Stores a part, durably when this returns; one that has the number already is replaced. Parts may come in any order and at once.
    ///
    /// - Parameters:
    ///   - number: from 1 on.
    ///   - offset: where the part's first byte belongs in the object.
    func putPart(
        _ number: Int,
        at offset: Int64,
        of upload: MultipartUpload,
        _ body: ObjectBody
    ) throws(StoreError) -> UploadedPart

    /// Joins the parts, which must be all in order, into an object named `key`, durably when this returns. It need not be the key that the
    /// upload was begun with. May be called again after a failure, also by another process.
    func completeUpload(
        _ upload: MultipartUpload,
        _ parts: [UploadedPart],
        as key: ObjectKey
    ) throws(StoreError)

    /// Ends an upload and forgets its parts; it is no error when there is none.
    func abortUpload(_ upload: MultipartUpload) throws(StoreError)

    /// How far its clock is ahead of this machine's, as far as it has told.
    var clockOffsetSeconds: Int64 { get }

    /// One page of the uploads that are neither complete nor aborted, whose keys begin with `prefix`.
    func pendingUploads(prefix: String, continuation: String?) throws(StoreError) -> PendingUploadPage

    /// One page of the objects whose keys begin with `prefix`, in the order of their bytes.
    ///
    /// Objects whose names are no ``ObjectKey`` are left out.
    ///
    /// - Parameters:
    ///   - delimiter: keys that hold it after the prefix are rolled up into one common prefix each, which ends with it.
    ///   - after: list only keys, and common prefixes, greater than this.
    ///   - continuation: that of the page before; `after` then no longer counts.
    ///   - limit: of objects and common prefixes together; the store may return fewer (``StoreCapabilities/listLimit``).
    func list(
        prefix: String,
        delimiter: String?,
        after: String?,
        continuation: String?,
        limit: Int
    ) throws(StoreError) -> ListPage

    /// Throws when the store cannot be used, with what to do about it.
    ///
    /// - Parameter isCancelled: asked at least once a second; true ends it, as if nothing had been asked.
    func check(isCancelled: @escaping @Sendable () -> Bool) throws(StoreError)

    /// What the store can do, as far as is known without asking it.
    var capabilities: StoreCapabilities { get }

    /// How it fares. Answers from memory.
    var health: StoreHealth { get }

    /// Whether requests fail at once, but for those that try whether it is back. Always the same object.
    var availability: StoreAvailability { get }

    /// Finds out what the store can do by writing at `key`, which is removed in the end.
    @discardableResult
    func probe(at key: ObjectKey) throws(StoreError) -> StoreCapabilities
}

/// What is known of an object beside its bytes.
public struct ObjectInfo: Sendable, Equatable {
    /// In bytes, of the whole object.
    public var size: Int64
    /// Without quotes. It changes whenever the bytes do.
    public var etag: String?
    /// As it was put.
    public var contentType: String?
    public var lastModified: WallTime?
    /// The MD5 of the bytes in hexadecimal, where the store is known to tell it.
    public var md5: String?
    /// The whole object came where a range of it was asked for, as it will each time.
    public var cameWhole = false

    public init(
        size: Int64,
        etag: String? = nil,
        contentType: String? = nil,
        lastModified: WallTime? = nil,
        md5: String? = nil
    ) {
        self.size = size
        self.etag = etag
        self.contentType = contentType
        self.lastModified = lastModified
        self.md5 = md5
    }
}

/// One object of a listing.
public struct ListedObject: Sendable, Equatable {
    public var key: ObjectKey
    /// In bytes.
    public var size: Int64
    /// Without quotes.
    public var etag: String?
    public var lastModified: WallTime?

    public init(key: ObjectKey, size: Int64, etag: String? = nil, lastModified: WallTime? = nil) {
        self.key = key
        self.size = size
        self.etag = etag
        self.lastModified = lastModified
    }
}

/// A part of a listing.
public struct ListPage: Sendable, Equatable {
    public var objects: [ListedObject]
    public var commonPrefixes: [String]
    /// What the call for the next page takes; `nil` on the last one.
    public var continuation: String?

    public init(objects: [ListedObject] = [], commonPrefixes: [String] = [], continuation: String? = nil) {
        self.objects = objects
        self.commonPrefixes = commonPrefixes
        self.continuation = continuation
    }
}

/// The bytes of an object to be stored. They must not change until the call has returned: a request may be sent more than once.
public enum ObjectBody: Sendable {
    case bytes([UInt8])
    /// `length` bytes of a file from `offset` on. Their digest, if it is already known, saves reading them twice; bytes of another are refused.
    case file(File, offset: Int64, length: Int64, digest: Digest? = nil)

    /// In bytes.
    public var length: Int64 {
        switch self {
        case .bytes(let bytes): Int64(bytes.count)
        case .file(_, _, let length, _): length
        }
    }
}

/// What must hold for an object to be stored.
public enum PutCondition: Sendable, Equatable {
    case none
    /// There is no object at the key.
    case ifAbsent
    /// The object's ETag, without quotes, is this.
    case ifMatch(String)
}

public enum PutOutcome: Sendable, Equatable {
    /// Without quotes; `nil` when the store did not say.
    case stored(etag: String?)
    /// Nothing was changed.
    case conditionFailed
}

public enum GetOutcome: Sendable, Equatable {
    case notFound
    /// The object still has the ETag of `ifNoneMatch`.
    case notModified
    /// Every byte was delivered.
    case complete(ObjectInfo)
}

/// What a store can do.
public struct StoreCapabilities: Sendable, Equatable {
    /// ``PutCondition/ifAbsent`` is honoured.
    public var ifAbsent: Bool
    /// ``PutCondition/ifMatch(_:)`` is honoured.
    public var ifMatch: Bool
    /// Objects with the same bytes have the same ETag, if each was put in one piece. Otherwise equal contents are found by reading.
    public var etagIsContentHash: Bool
    /// The rest was found out; else conditions count as not honoured, though they may be.
    public var areKnown: Bool
    /// Bytes come back as they were put, however they travel. Otherwise only ``ObjectInfo/md5`` tells.
    public var isFaithful: Bool
    /// Content types are kept. Otherwise ``ObjectInfo/contentType`` is `nil` or not what was put.
    public var keepsContentType: Bool
    /// Most objects in a page of a listing.
    public var listLimit: Int
    /// Up to this size it costs as much to look whether an object is there as to put it if it is not.
    public var sizeOfALookBytes: Int64

    public init(
        ifAbsent: Bool,
        ifMatch: Bool,
        etagIsContentHash: Bool,
        keepsContentType: Bool,
        listLimit: Int,
        sizeOfALookBytes: Int64 = 0,
        isFaithful: Bool = true,
        areKnown: Bool = true
    ) {
        self.ifAbsent = ifAbsent
        self.ifMatch = ifMatch
        self.etagIsContentHash = etagIsContentHash
        self.keepsContentType = keepsContentType
        self.listLimit = listLimit
        self.sizeOfALookBytes = sizeOfALookBytes
        self.isFaithful = isFaithful
        self.areKnown = areKnown
    }
}

extension ObjectStore {
    public var clockOffsetSeconds: Int64 { 0 }

    public func get(
        _ key: ObjectKey,
        range: Range<Int64>?,
        ifNoneMatch: String?,
        begin: (ObjectInfo) throws -> Void,
        receive: (Span<UInt8>) throws -> Void
    ) throws(StoreError) -> GetOutcome {
        try get(
            key,
            range: range,
            ifNoneMatch: ifNoneMatch,
            isCancelled: { false },
            begin: begin,
            receive: receive
        )
    }

    public func holds(_ key: ObjectKey, _ body: ObjectBody) throws(StoreError) -> Bool {
        try head(key)?.size == body.length
    }

    /// Stores an object whatever is there.
    @discardableResult
    public func put(_ key: ObjectKey, _ body: ObjectBody, contentType: String? = nil) throws(StoreError) -> PutOutcome {
        try put(key, body, contentType: contentType, condition: .none)
    }

    /// A small object with its bytes; `nil` when there is none. One of more than `limitBytes` is an error.
    public func contents(
        of key: ObjectKey,
        limitBytes: Int
    ) throws(StoreError) -> (info: ObjectInfo, bytes: [UInt8])? {
        switch try contents(of: key, limitBytes: limitBytes, ifNoneMatch: nil) {
        case .complete(let bytes, let info): return (info, bytes)
        case .notFound, .notModified: return nil
        }
    }

    /// A small object as a whole. Where its MD5 is known, bytes without it are read again, and an error if that does not help. So is one of
    /// which the rest does not fit the beginning: nobody has seen that yet.
    ///
    /// - Parameter ifNoneMatch: an ETag without quotes; when it is still the object's, nothing is read.
    public func contents(
        of key: ObjectKey,
        limitBytes: Int,
        ifNoneMatch: String?
    ) throws(StoreError) -> SmallObject {
        for isLast in [false, true] {
            let object: SmallObject
            do throws(StoreError) {
                object = try read(key, limitBytes, ifNoneMatch)
            } catch {
                guard !isLast, error.isOfContinuation else { throw error }
                continue
            }
            guard case .complete(let bytes, let info) = object, let expected = info.md5 else { return object }
            if hexadecimal(md5(bytes)) == expected { return object }
        }
        let message = "twice, the bytes did not have the MD5 that the store tells"
        throw StoreError(.get, in: description, key: key, .damagedBody, message, isRetryable: true)
    }

    private func read(_ key: ObjectKey, _ limitBytes: Int, _ ifNoneMatch: String?) throws(StoreError) -> SmallObject {
        var bytes: [UInt8] = []
        let outcome = try get(
            key,
            range: nil,
            ifNoneMatch: ifNoneMatch,
            begin: { info in
                guard info.size <= limitBytes else { throw TooLarge(size: info.size, limitBytes: limitBytes) }
                bytes.reserveCapacity(Int(info.size))
            },
            receive: { bytes.append($0) }
        )
        return switch outcome {
        case .notFound: .notFound
        case .notModified: .notModified
        case .complete(let info): .complete(bytes, info)
        }
    }

    /// Calls `page` with each page of a listing.
    public func listAll(
        prefix: String,
        delimiter: String? = nil,
        after: String? = nil,
        page body: (ListPage) throws(StoreError) -> Void
    ) throws(StoreError) {
        var course = ListingCourse()
        repeat {
            let page = try list(
                prefix: prefix,
                delimiter: delimiter,
                after: after,
                continuation: course.continuation,
                limit: capabilities.listLimit
            )
            guard
                course.advance(
                    to: page.continuation,
                    past: page.objects.first?.key.description ?? page.commonPrefixes.first
                )
            else {
                throw StoreError(.list, in: description, .invalidResponse, "the listing does not advance")
            }
            try body(page)
        } while course.continuation != nil
    }
}

/// What became of reading a small object.
public enum SmallObject: Sendable {
    case notFound
    case notModified
    case complete([UInt8], ObjectInfo)
}

/// An object that is larger than its reader allows.
public struct TooLarge: Error, Equatable, CustomStringConvertible {
    public let size: Int64
    public let limitBytes: Int

    public var description: String { "the object has \(size) bytes; the limit is \(limitBytes)" }
}
