internal import DiskTier
internal import EdgeCache
internal import HTTPServer
internal import OCI
internal import ObjectStorage
internal import Registry

/// An error answer in the protocol's form. (distribution-spec, "Error Codes")
struct APIError: Error {
    let status: Int
    let code: ErrorCode
    let message: String
    /// What the log has in place of the message.
    var reason: String?
    var headers: [(name: String, value: String)] = []
    /// The log has it already.
    var isKnown = false

    var response: Response {
        let body = "{\"errors\":[{\"code\":\"\(code.rawValue)\",\"message\":\(jsonString(message))}]}\n"
        return Response(
            status: status,
            headers: headers + [("Content-Type", "application/json")],
            body: .bytes(Array(body.utf8))
        )
    }
}

extension APIError {
    init(_ error: NameError) {
        switch error.kind {
        case .digest: self.init(status: 400, code: .digestInvalid, message: error.description)
        case .repository: self.init(status: 400, code: .nameInvalid, message: error.description)
        // Nothing can have been pushed under such a tag, so for a reader it is just unknown.
        case .tag: self.init(status: 404, code: .manifestUnknown, message: error.description)
        }
    }

    init(_ error: EdgeError) {
        let message = error.description
        switch error {
        case .origin(let cause):
            self.init(cause)
            isKnown = error.isOfKnownTrouble
        case .tier(let error) where error.isNoSpace:
            self.init(status: 507, code: .blobUploadInvalid, message: error.answer, reason: message)
        case .tier(let error) where error.isOfContent:
            // The same request fetches it again, or has it hashed again.
            self.init(
                status: 503,
                code: .tooManyRequests,
                message: error.answer,
                reason: message,
                headers: [("Retry-After", "0")]
            )
        case .tier(let error):
            self.init(status: 500, code: .blobUploadInvalid, message: error.answer, reason: message)
        case .busy, .closing:
            self.init(status: 503, code: .tooManyRequests, message: message, headers: [("Retry-After", "1")])
        case .digestMismatch:
            self.init(status: 400, code: .digestInvalid, message: message)
        case .algorithm:
            self.init(status: 400, code: .digestInvalid, message: message)
        case .uploadDamaged:
            let answer = "another process, or a power cut, has changed this upload's file; begin the upload anew"
            self.init(status: 500, code: .blobUploadInvalid, message: answer, reason: message)
        case .originChanged:
            self.init(status: 502, code: .unsupported, message: message)
        case .uploadUnknown:
            self.init(status: 404, code: .blobUploadUnknown, message: message)
        case .uploadBusy:
            self.init(status: 409, code: .blobUploadInvalid, message: message)
        case .chunkOutOfOrder, .bytesDropped:
            self.init(status: 416, code: .blobUploadInvalid, message: message)
        case .chunkLength:
            self.init(status: 400, code: .sizeInvalid, message: message)
        case .manifestInvalid:
            self.init(status: 400, code: .manifestInvalid, message: message)
        case .manifestBlobsUnknown:
            self.init(status: 400, code: .manifestBlobUnknown, message: message)
        }
    }

    /// Trouble behind us is never "not there".
    private init(_ error: RegistryError) {
        guard case .store(let error) = error else {
            self.init(status: 502, code: .unsupported, message: error.description)
            return
        }
        let retryAfter = [(name: "Retry-After", value: "\(error.retryAfterSeconds ?? 5)")]
        let message = error.description
        switch error.kind {
        case .noCredentials:
            // Files and roles of this machine are not the client's business.
            let message = "this registry has no valid credentials for its origin now; its log says why"
            self.init(status: 503, code: .tooManyRequests, message: message, reason: "\(error)", headers: retryAfter)
        case .throttled, .unreachable, .unavailable, .timeout:
            self.init(status: 503, code: .tooManyRequests, message: message, headers: retryAfter)
        case .serverFailure:
            self.init(status: 502, code: .unsupported, message: message, headers: retryAfter)
        case .anonymous where error.operation == .put || error.operation == .delete:
            self.init(status: 403, code: .denied, message: "this registry can only be read from: \(message)")
        case .conflict where error.operation == .put && !error.isRetryable:
            self.init(status: 409, code: .nameInvalid, message: message)
        case .noSpace:
            self.init(status: 507, code: .denied, message: message)
        default:
            self.init(status: 502, code: .unsupported, message: message)
        }
    }
}

/// A JSON string literal (RFC 8259, section 7).
public func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\u{0}"..."\u{1f}", "\u{7f}":
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
