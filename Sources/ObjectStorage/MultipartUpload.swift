public import System

/// An object that is put together from parts, and that nobody sees before it is complete.
public struct MultipartUpload: Sendable, Hashable {
    public let key: ObjectKey
    /// What the store calls it.
    public let id: String

    public init(key: ObjectKey, id: String) {
        self.key = key
        self.id = id
    }
}

/// A part that the store has, durably.
public struct UploadedPart: Sendable, Hashable {
    /// From 1 on.
    public let number: Int
    /// Without quotes.
    public let etag: String
    /// In bytes.
    public let length: Int64

    public init(number: Int, etag: String, length: Int64) {
        self.number = number
        self.etag = etag
        self.length = length
    }
}

/// An upload that is neither complete nor aborted.
public struct PendingUpload: Sendable, Equatable {
    public let upload: MultipartUpload
    /// `nil` when the store does not say.
    public let started: WallTime?

    public init(_ upload: MultipartUpload, started: WallTime?) {
        self.upload = upload
        self.started = started
    }
}

/// A part of a listing of uploads.
public struct PendingUploadPage: Sendable, Equatable {
    public var uploads: [PendingUpload]
    /// What the call for the next page takes; `nil` on the last one.
    public var continuation: String?

    public init(uploads: [PendingUpload] = [], continuation: String? = nil) {
        self.uploads = uploads
        self.continuation = continuation
    }
}

/// How a store wants its objects put together.
public struct MultipartTraits: Sendable, Equatable {
    /// Objects up to this size are better put as a whole.
    public var thresholdBytes: Int64
    /// Of one part; only the last one may be smaller.
    public var partBytes: Int64
    /// Parts of one upload to be sent at once.
    public var partsInFlight: Int
    /// An upload that was begun under one key can be completed under another in a small part of the time that sending it takes; `nil` while
    /// none has shown it.
    public var movesCheaply: Bool?

    public init(thresholdBytes: Int64, partBytes: Int64, partsInFlight: Int, movesCheaply: Bool?) {
        self.thresholdBytes = thresholdBytes
        self.partBytes = partBytes
        self.partsInFlight = partsInFlight
        self.movesCheaply = movesCheaply
    }
}

extension ObjectStore {
    /// Calls `page` with each page of a listing of uploads.
    public func eachPendingUpload(
        prefix: String,
        page body: (PendingUploadPage) throws(StoreError) -> Void
    ) throws(StoreError) {
        var course = ListingCourse()
        repeat {
            let page = try pendingUploads(prefix: prefix, continuation: course.continuation)
            guard course.advance(to: page.continuation, past: page.uploads.first?.upload.id) else {
                throw StoreError(.list, in: description, .invalidResponse, "the listing of uploads does not advance")
            }
            try body(page)
        } while course.continuation != nil
    }
}
