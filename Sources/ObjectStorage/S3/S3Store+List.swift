internal import HTTPClient
internal import Hashing
internal import OCI
internal import Synchronization
internal import System

extension S3Store {
    /// Amazon S3 API Reference, "ListObjectsV2".
    public func list(
        prefix: String,
        delimiter: String?,
        after: String?,
        continuation: String?,
        limit: Int
    ) throws(StoreError) -> ListPage {
        precondition(limit > 0, "a page of nothing")
        var request = S3Request(.list, "GET")
        request.query = [
            ("list-type", "2"), ("prefix", prefix), ("encoding-type", "url"),
            ("max-keys", "\(min(limit, S3Limits.keysPerPage))"),
        ]
        if let delimiter { request.query.append(("delimiter", delimiter)) }
        if let continuation {
            request.query.append(("continuation-token", continuation))
        } else if let after {
            request.query.append(("start-after", after))
        }
        let listing = request
        return try transport.retrying { () throws(StoreError) in
            let (response, body) = try transport.once(listing, bodyLimitBytes: S3Limits.answerBytes)
            guard let page = ListPage(try transport.document(body, listing, response)) else {
                throw transport.failure(of: listing, .invalidResponse, "not a listing", response)
            }
            return page
        }
    }

    /// Amazon S3 API Reference, "DeleteObjects"; one by one where the store does not have it.
    public func delete(_ keys: [ObjectKey]) throws(StoreError) {
        var rest = keys[...]
        while !rest.isEmpty {
            let batch = rest.prefix(S3Limits.keysPerDelete)
            rest = rest.dropFirst(batch.count)
            guard batch.count > 1, deletesInBatches.load(ordering: .relaxed) else {
                try deleteSingly(batch)
                continue
            }
            do throws(StoreError) {
                try deleteBatch(batch)
            } catch {
                guard case .unsupported = error.kind else { throw error }
                deletesInBatches.store(false, ordering: .relaxed)
                try deleteSingly(batch)
            }
        }
    }

    private func deleteBatch(_ keys: ArraySlice<ObjectKey>) throws(StoreError) {
        var document = "<Delete><Quiet>true</Quiet>"
        for key in keys { document += "<Object><Key>\(xmlEscaped(key.description))</Key></Object>" }
        document += "</Delete>"
        let bytes = Array(document.utf8)
        let request = S3Request(
            .delete,
            "POST",
            query: [("delete", "")],
            headers: [("Content-Type", "application/xml"), ("Content-MD5", base64(md5(bytes)))],
            body: .bytes(bytes)
        )
        let (response, body) = try transport.exchange(request, bodyLimitBytes: S3Limits.answerBytes)
        let result = try transport.document(body, request, response)
        if result.name == "Error" { throw transport.failure(of: request, response, body) }
        // Keys that failed may have done so for a moment only, and a single delete says best what is wrong.
        let failed = result.children(named: "Error").compactMap { $0.text(of: "Key") }
        try deleteSingly(keys.filter { key in failed.contains { $0.utf8.elementsEqual(key.description.utf8) } }[...])
    }

    private func deleteSingly(_ keys: ArraySlice<ObjectKey>) throws(StoreError) {
        var failure: StoreError?
        for key in keys {
            do throws(StoreError) {
                try delete(key)
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }
}

extension ListPage {
    /// `nil` when the document is no result of ListObjectsV2.
    init?(_ result: XMLElement) {
        guard result.name == "ListBucketResult" else { return nil }
        let isEncoded = result.text(of: "EncodingType") == "url"
        func decoded(_ text: String) -> String? { isEncoded ? percentDecoded(text) : text }
        self.init()
        for entry in result.children(named: "Contents") {
            guard let name = entry.text(of: "Key").flatMap(decoded), let size = entry.text(of: "Size"),
                let size = Int64(digits: size.utf8)
            else { return nil }
            // Other programs' names, for example those that end with a slash, are none of our keys.
            guard let key = try? ObjectKey(name) else { continue }
            let modified = entry.text(of: "LastModified").flatMap { WallTime(rfc3339: $0) }
            let etag = entry.text(of: "ETag").flatMap(unquotedETag)
            objects.append(ListedObject(key: key, size: size, etag: etag, lastModified: modified))
        }
        for entry in result.children(named: "CommonPrefixes") {
            guard let prefix = entry.text(of: "Prefix").flatMap(decoded) else { return nil }
            commonPrefixes.append(prefix)
        }
        guard result.text(of: "IsTruncated") == "true" else { return }
        guard let token = result.text(of: "NextContinuationToken"), !token.isEmpty else { return nil }
        continuation = token
    }
}

/// RFC 4648, section 4.
func base64(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var result: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[start..<min(start + 3, bytes.count)]
        let word = (0..<3).reduce(UInt32(0)) { $0 << 8 | UInt32($1 < group.count ? group[start + $1] : 0) }
        for index in 0..<4 {
            let digit = digits[Int(word >> UInt32(18 - 6 * index) & 63)]
            result.append(index <= group.count ? digit : UInt8(ascii: "="))
        }
    }
    return String(decoding: result, as: UTF8.self)
}
