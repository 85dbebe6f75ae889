import ObjectStorage
import System
import Testing

/// Objects that are put together from parts.
let uploadCases = [
    ConformanceCase("parts come in any order and are joined in theirs") { test in
        let key = try test.key("whole")
        let bytes = pattern(12 << 20)
        let upload = try test.store.beginUpload(key, contentType: "application/x-layer")
        let parts = try [3, 1, 2].map { try test.putPart($0, of: upload, bytes) }.sorted { $0.number < $1.number }
        #expect(try test.store.head(key) == nil, "nobody sees it before it is complete")
        try test.store.completeUpload(upload, parts, as: key)
        #expect(try test.bytes("whole") == bytes)
        #expect(try test.store.head(key)?.contentType == "application/x-layer")
        #expect(try test.pendingUploads() == [])
        try test.store.completeUpload(upload, parts, as: key)
        #expect(
            try test.bytes("whole") == bytes,
            "completing again is no error, for the first answer may have been lost"
        )
        #expect(try allKeys(test) == [key])
    },
    ConformanceCase("an upload may end under another key") { test in
        let (first, last) = (try test.key("temporary/x"), try test.key("blobs/ a+b%"))
        let bytes = pattern(11 << 20)
        let upload = try test.store.beginUpload(first, contentType: "application/x-layer")
        let parts = try [1, 2, 3].map { try test.putPart($0, of: upload, bytes) }
        try test.store.completeUpload(upload, parts, as: last)
        #expect(try test.bytes("blobs/ a+b%") == bytes)
        #expect(try test.store.head(last)?.contentType == "application/x-layer")
        #expect(try allKeys(test) == [last])
        #expect(try test.pendingUploads() == [])
    },
    ConformanceCase("a part is replaced by one of its number") { test in
        let key = try test.key("a")
        let bytes = pattern(8 << 20)
        let upload = try test.store.beginUpload(key, contentType: nil)
        _ = try test.putPart(1, of: upload, pattern(8 << 20, seed: 5))
        let parts = try [1, 2].map { try test.putPart($0, of: upload, bytes) }
        try test.store.completeUpload(upload, parts, as: key)
        #expect(try test.bytes("a") == bytes)
    },
    ConformanceCase("parts that do not fit together are refused") { test in
        let key = try test.key("a")
        let bytes = pattern(8 << 20)
        let upload = try test.store.beginUpload(key, contentType: nil)
        let part = try test.putPart(2, of: upload, bytes)
        #expect(throws: StoreError.self) {
            let missing = UploadedPart(number: 1, etag: "0123456789abcdef0123456789abcdef", length: 5 << 20)
            try test.store.completeUpload(upload, [missing, part], as: key)
        }
        #expect(try test.store.head(key) == nil)
        try test.store.abortUpload(upload)
    },
    ConformanceCase("an upload is listed until it is aborted") { test in
        let keys = try ["dir/one", "dir/two", "other"].map { try test.key($0) }
        let uploads = try keys.map { try test.store.beginUpload($0, contentType: "text/plain") }
        _ = try test.putPart(1, of: uploads[0], pattern(100))
        #expect(try test.pendingUploads() == Set(uploads))
        #expect(try test.pendingUploads("dir/") == Set(uploads.prefix(2)))
        for _ in 0..<2 { try test.store.abortUpload(uploads[0]) }
        #expect(try test.pendingUploads("dir/") == [uploads[1]])
        #expect(throws: StoreError.self) { try test.putPart(1, of: uploads[0], pattern(100)) }
        let kind = failureKind {
            try test.store.completeUpload(
                uploads[0],
                [UploadedPart(number: 1, etag: "0-100", length: 100)],
                as: keys[0]
            )
        }
        guard case .noSuchUpload = kind else {
            Issue.record("\(String(describing: kind))")
            return
        }
        try test.store.eachPendingUpload(prefix: test.prefix) { page throws(StoreError) in
            for pending in page.uploads {
                let age = SystemTime().wallTime().seconds - (pending.started?.seconds ?? 0)
                #expect((-60...600).contains(age), "it says when it was begun")
                try test.store.abortUpload(pending.upload)
            }
        }
        #expect(try test.pendingUploads() == [])
        #expect(try allKeys(test) == [])
    },
]

extension TestStore {
    /// One of the parts of 5 MiB that `whole` is cut into.
    fileprivate func putPart(_ number: Int, of upload: MultipartUpload, _ whole: [UInt8]) throws -> UploadedPart {
        let start = (number - 1) * 5 << 20
        let bytes = Array(whole[start..<min(start + 5 << 20, whole.count)])
        guard number % 2 == 0 else { return try store.putPart(number, at: Int64(start), of: upload, .bytes(bytes)) }
        return try withTemporaryDirectory { directory in
            let file = try LocalFileSystem().open("\(directory)/part", .create)
            try LocalFileSystem().write(bytes.span, to: file, at: 10)
            let body = ObjectBody.file(file, offset: 10, length: Int64(bytes.count))
            return try store.putPart(number, at: Int64(start), of: upload, body)
        }
    }

    fileprivate func pendingUploads(_ name: String = "") throws -> Set<MultipartUpload> {
        var uploads: Set<MultipartUpload> = []
        try store.eachPendingUpload(prefix: prefix + name) { page throws(StoreError) in
            uploads.formUnion(page.uploads.map(\.upload))
        }
        return uploads
    }
}
