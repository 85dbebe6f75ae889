internal import HTTPClient
internal import Hashing
internal import OCI
internal import Synchronization
internal import System

extension S3Store {
    /// Bodies above ``S3Configuration/multipartThresholdBytes`` are sent in parts, but not under a condition, which some stores ignore when
    /// they join the parts.
    public func put(
        _ key: ObjectKey,
        _ body: ObjectBody,
        contentType: String?,
        condition: PutCondition
    ) throws(StoreError) -> PutOutcome {
        var request = S3Request(.put, "PUT", key, headers: try headers(for: condition, key))
        if condition == .none, body.length > configuration.multipartThresholdBytes {
            return .stored(etag: try upload(key, body, contentType: contentType))
        }
        guard body.length <= S3Limits.largestPutBytes else {
            throw transport.failure(of: request, .unsupported, "a conditional write of \(body.length) bytes")
        }
        request.headers += configuration.objectOptions.headers
        if let contentType { request.headers.append(("Content-Type", contentType)) }
        request.body = try payload(body, request)
        return try store(request, condition)
    }

    /// Sends a PUT whose condition is already among its headers.
    func store(_ request: S3Request, _ condition: PutCondition) throws(StoreError) -> PutOutcome {
        try transport.retrying { () throws(StoreError) in
            let accepted = condition == .none ? [] : [404, 412]
            let (response, body) = try transport.once(request, accepted: accepted)
            switch response.status {
            case 412: return .conditionFailed
            case 404:
                let failure = transport.failure(of: request, response, body)
                // Without an object there is nothing to match; without a bucket there is more wrong than that.
                guard case .ifMatch = condition, failure.code == "NoSuchKey" else { throw failure }
                return .conditionFailed
            default: return .stored(etag: try etag(of: request, response, isCompared: true))
            }
        }
    }

    public func holds(_ key: ObjectKey, _ body: ObjectBody) throws(StoreError) -> Bool {
        guard let info = try head(key), info.size == body.length else { return false }
        guard let stored = info.md5 else { return true }
        var request = S3Request(.head, "HEAD", key)
        request.body = try payload(body, request)
        return try stored == md5(of: request)
    }

    /// That of what was stored. An answer without one is not the store's; one that is the MD5 of other bytes tells that those were stored.
    func etag(of request: S3Request, _ response: Response, isCompared: Bool) throws(StoreError) -> String {
        let etag = try requireETag(request, response)
        var info = ObjectInfo(size: 0, response)
        if tellsMD5s, isCompared { info.trustETag(response) }
        guard let stored = info.md5 else { return etag }
        let sent = try md5(of: request)
        guard stored != sent else { return etag }
        // A condition that held for the first attempt does not hold for the next one: a look tells whether it was only the answer.
        let isConditional = request.headers.contains { $0.name == "If-None-Match" || $0.name == "If-Match" }
        if isConditional, let key = request.key, let there = try head(key), there.md5 == sent, let etag = there.etag {
            return etag
        }
        let message = "other bytes were stored: their MD5 is \(stored)"
        throw transport.failure(of: request, .damagedBody, message, response, isRetryable: !isConditional)
    }

    private func md5(of request: S3Request) throws(StoreError) -> String {
        switch request.body.body {
        case .none:
            return hexadecimal(Hashing.md5([]))
        case .bytes(let bytes):
            return hexadecimal(Hashing.md5(bytes))
        case .source(let source):
            do {
                var offset: Int64 = 0
                let sum = try Hashing.md5 {
                    let count = Int(min(Int64(S3Limits.bufferBytes), source.length - offset))
                    let piece = try [UInt8](capacity: count) { output in _ = try source.read(at: offset, into: &output)
                    }
                    offset += Int64(piece.count)
                    return piece
                }
                return hexadecimal(sum)
            } catch {
                throw transport.failure(of: request, .receiver(error), "")
            }
        }
    }

    private func headers(
        for condition: PutCondition,
        _ key: ObjectKey
    ) throws(StoreError) -> [(name: String, value: String)] {
        let findings = findings.withLock { $0 }
        func unsupported() -> StoreError {
            let request = S3Request(.put, "PUT", key)
            return transport.failure(of: request, .unsupported, "this store ignores conditions on writes")
        }
        switch condition {
        case .none: return []
        case .ifAbsent:
            guard findings?.ifAbsent != false else { throw unsupported() }
            return [("If-None-Match", "*")]
        case .ifMatch(let etag):
            guard let findings else { return [("If-Match", ETagForm.quoted.text(etag))] }
            guard let form = findings.ifMatch else { throw unsupported() }
            return [("If-Match", form.text(etag))]
        }
    }

    /// A body for the wire, hashed if that is to be signed and not known yet.
    func payload(_ body: ObjectBody, _ request: S3Request) throws(StoreError) -> S3Payload {
        let isHashed = configuration.payloadSigning == .always || !configuration.endpoint.isSecure
        switch body {
        case .bytes(let bytes):
            return isHashed ? .bytes(bytes) : S3Payload(body: .bytes(bytes), hash: S3Payload.unsigned)
        case .file(let file, let offset, let length, let digest):
            let source = FilePart(file: file, start: offset, length: length, fileSystem: fileSystem)
            let body = length == 0 ? Body.bytes([]) : .source(source)
            guard isHashed else { return S3Payload(body: body, hash: S3Payload.unsigned) }
            if let digest, digest.algorithm == .sha256 { return S3Payload(body: body, hash: digest.hex) }
            do throws(FileError) {
                return S3Payload(body: body, hash: try source.digest().hex)
            } catch {
                throw transport.failure(of: request, .file(error), "")
            }
        }
    }
}

/// A part of a file as a body.
private struct FilePart: BodySource {
    let file: File
    let start: Int64
    let length: Int64
    let fileSystem: any FileSystem

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws -> Int {
        try fileSystem.read(file, at: start + offset, into: &buffer)
    }

    func digest() throws(FileError) -> Digest {
        var hash = ContentHash(.sha256)
        var offset: Int64 = 0
        while offset < length {
            let count = Int(min(Int64(S3Limits.bufferBytes), length - offset))
            let bytes = try fileSystem.read(file, at: start + offset, count: count)
            // A file that ends early is found when it is sent.
            guard !bytes.isEmpty else { break }
            hash.update(bytes.span)
            offset += Int64(bytes.count)
        }
        return hash.digest()
    }
}
