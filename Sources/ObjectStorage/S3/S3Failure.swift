internal import HTTPClient
internal import System

extension S3Transport {
    private var store: String { endpoint.description }

    func failure(
        of request: S3Request,
        _ kind: StoreError.Kind,
        _ message: String,
        _ response: Response? = nil,
        isRetryable: Bool? = nil
    ) -> StoreError {
        StoreError(
            request.operation,
            in: store,
            key: request.key,
            kind,
            message,
            status: response?.status,
            requestID: response?.header("x-amz-request-id").map(request.hidingSecrets),
            isRetryable: isRetryable
        )
    }

    /// An answer that is an error: by its status, or by its body, as a 200 to CompleteMultipartUpload may be.
    func failure(of request: S3Request, _ response: Response, _ body: [UInt8]) -> StoreError {
        // A body that cannot be read only makes the message poorer: the status says enough. HEAD has none at all.
        let document = try? XMLReader.read(body)
        func said(_ name: String) -> String? { document?.text(of: name).map(request.hidingSecrets) }
        func header(_ name: String) -> String? { response.header(name).map(request.hidingSecrets) }
        let code = said("Code")
        var message = said("Message") ?? ""
        if let endpoint = said("Endpoint") { message += " (endpoint: \(endpoint))" }
        if 300..<400 ~= response.status, let location = header("Location") {
            message += " (location: \(printable(location, limit: 200)))"
        }
        let region = header("x-amz-bucket-region") ?? said("Region")
        let serverTime = response.header("Date").flatMap { WallTime(httpDate: $0) }
        var (kind, isRetryable) = Self.kind(
            status: response.status,
            code: code ?? "",
            // Another request may have moved on meanwhile.
            region: region == request.region ?? endpoint.region ? nil : region.map { printable($0, limit: 64) }
        )
        if case .denied = kind, !request.isSigned { kind = .anonymous }
        if case .proxyRefused = kind { message = "proxy \(response.remoteAddress)" }
        if response.status == 503, code == nil, request.method != "HEAD" { kind = .serverFailure }
        // A bucket's redirection has a code or names a region. A login or maintenance page passes.
        if [302, 303, 307].contains(response.status), code == nil, region == nil {
            (kind, isRetryable) = (.invalidResponse, true)
            message = "a redirection that is not the store's" + message
        }
        // The store says what is missing. Whoever stands before it may have lost the way to it for a moment.
        if response.status == 404, code == nil {
            (kind, isRetryable) = (.invalidResponse, true)
            message = "the answer does not say what is missing: it is not the store's"
        }
        return StoreError(
            request.operation,
            in: store,
            key: request.key,
            kind,
            message,
            status: response.status,
            code: code,
            requestID: header("x-amz-request-id") ?? said("RequestId"),
            retryAfterSeconds: response.header("Retry-After").flatMap(seconds),
            isRetryable: isRetryable,
            serverTime: serverTime
        )
    }

    /// Amazon S3 API Reference, "Error Responses", and what Ceph and Swift add to it. The second value, if any, is whether to repeat.
    private static func kind(status: Int, code: String, region: String?) -> (StoreError.Kind, Bool?) {
        switch code {
        case "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
            "BandwidthLimitExceeded":
            return (.throttled, nil)
        case "RequestTimeout": return (.timeout, nil)
        case "RequestTimeTooSkewed": return (.clockSkew, nil)
        case "AuthorizationHeaderMalformed" where region != nil: return (.wrongRegion(expected: region), nil)
        case "PermanentRedirect", "IllegalLocationConstraintException": return (.wrongRegion(expected: region), nil)
        // Where a bucket is new, its name may lead elsewhere for a while.
        case "TemporaryRedirect": return (.wrongRegion(expected: region), true)
        case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidSecurity",
            "TokenRefreshRequired", "AuthorizationHeaderMalformed":
            return (.badCredentials, nil)
        case "NoSuchBucket": return (.noSuchBucket, nil)
        case "NoSuchUpload": return (.noSuchUpload, nil)
        case "ConditionalRequestConflict", "OperationAborted": return (.conflict, true)
        case "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch": return (.damagedBody, true)
        case "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage": return (.noSpace, nil)
        case "InvalidRange": return (.invalidRange, nil)
        case "NotImplemented", "MethodNotAllowed": return (.unsupported, nil)
        case "InternalError", "ServiceUnavailable": return (.serverFailure, nil)
        default: return (kind(status: status, region: region), nil)
        }
    }

    private static func kind(status: Int, region: String?) -> StoreError.Kind {
        switch status {
        case 301, 302, 307, 308: .wrongRegion(expected: region)
        case 400 where region != nil: .wrongRegion(expected: region)
        case 401, 403: .denied
        case 405, 501, 505: .unsupported
        case 407: .proxyRefused
        case 408: .timeout
        case 409: .conflict
        case 416: .invalidRange
        case 429, 503: .throttled
        case 507: .noSpace
        case 500...: .serverFailure
        default: .other
        }
    }

    /// `Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3).
    private func seconds(_ text: String) -> Int? {
        if let seconds = Int(text) { return max(0, seconds) }
        return WallTime(httpDate: text).map { Int(max(0, $0.seconds - time.wallTime().seconds)) }
    }

    /// No answer, or not a whole one.
    func failure(of request: S3Request, _ error: TransferError) -> StoreError {
        let failure = cause(of: request, error)
        if error.reachedServer == false { return failure.unsent }
        return request.operation.isChange ? failure.afterChange : failure
    }

    private func cause(of request: S3Request, _ error: TransferError) -> StoreError {
        let message = error.description
        switch error.kind {
        case .receiver(let reason as StoreError):
            return reason
        case .receiver(let reason):
            return failure(of: request, .receiver(reason), "")
        case .source(let reason as FileError):
            return failure(of: request, .file(reason), "")
        case .shortBody, .source(is SourceEndedEarly):
            return failure(of: request, .damagedBody, message, isRetryable: error.isConnectionLevel)
        case .timeout(.admission):
            // It has waited long enough, and not for the store.
            return failure(of: request, .timeout, message, isRetryable: false)
        case .timeout, .stalled:
            return failure(of: request, .timeout, message)
        case .tunnel(407, let proxy):
            return failure(of: request, .proxyRefused, "proxy \(proxy) refused the connection with status 407")
        case .resolve, .connect, .tunnel, .sendFailed, .receiveFailed:
            return failure(of: request, .unreachable, message)
        case .tls:
            return failure(of: request, error.isConnectionLevel ? .unreachable : .untrusted, message)
        case .badResponse, .bodyLimit:
            // What libcurl cannot read may be the rest of the answer before, on a connection that is closed now.
            return failure(of: request, .invalidResponse, message, isRetryable: error.code != 0)
        case .cancelled, .closed:
            return failure(of: request, .receiver(error), message)
        case .invalid, .source, .other:
            return failure(of: request, .other, message)
        }
    }
}
