internal import Hashing
internal import OCI
package import System

/// Signature Version 4 (AWS Signature Version 4 for API Requests; Amazon S3 API Reference, "Authenticating Requests: Using the
/// Authorization Header").
package struct RequestSigner: Sendable {
    package let region: String
    package let service: String

    package init(region: String, service: String = "s3") {
        self.region = region
        self.service = service
    }

    /// What is signed: a request as it goes on the wire.
    package struct Input: Sendable {
        package var method: String
        /// Percent-encoded once, as it is sent. S3 signs a path as it stands; nothing is normalised.
        package var path: String
        /// Percent-encoded names and values, sorted: see ``RequestSigner/canonicalQuery(_:)``.
        package var query: String
        /// All of them are signed, so none may be changed on the way. `host` and `x-amz-date` must be among them.
        package var headers: [(name: String, value: String)]
        /// The body's SHA-256 in hexadecimal, or `UNSIGNED-PAYLOAD`.
        package var payloadHash: String

        package init(
            method: String,
            path: String,
            query: String,
            headers: [(name: String, value: String)],
            payloadHash: String
        ) {
            self.method = method
            self.path = path
            self.query = query
            self.headers = headers
            self.payloadHash = payloadHash
        }
    }

    /// The query of a URL, which is also the canonical one. Values without a name's `=` do not exist here: `uploads` is `uploads=`.
    package static func canonicalQuery(_ parameters: [(name: String, value: String)]) -> String {
        parameters
            .map { (percentEncoded($0.name), percentEncoded($0.value)) }
            .sorted { $0.0 == $1.0 ? isOrdered($0.1, before: $1.1) : isOrdered($0.0, before: $1.0) }
            .map { "\($0.0)=\($0.1)" }
            .joined(separator: "&")
    }

    /// The value of the `Authorization` header.
    package func authorization(_ input: Input, at time: WallTime, with credentials: Credentials) -> String {
        let headers = canonicalHeaders(input.headers)
        var signedNames = ""
        var canonicalRequest = "\(input.method)\n\(input.path)\n\(input.query)\n"
        for (name, value) in headers {
            if !signedNames.isEmpty { signedNames += ";" }
            signedNames += name
            canonicalRequest += "\(name):\(value)\n"
        }
        canonicalRequest += "\n\(signedNames)\n\(input.payloadHash)"

        let moment = time.iso8601Basic
        let day = String(moment.prefix(8))
        let scope = "\(day)/\(region)/\(service)/aws4_request"
        let textToSign = "AWS4-HMAC-SHA256\n\(moment)\n\(scope)\n\(Digest(of: canonicalRequest.utf8.span).hex)"
        let signature = hmacSHA256(key: signingKey(day, credentials), Array(textToSign.utf8))
        return "AWS4-HMAC-SHA256 Credential=\(credentials.accessKey)/\(scope), "
            + "SignedHeaders=\(signedNames), Signature=\(hexadecimal(signature))"
    }

    /// Lower-case names in order, repeated ones joined; values trimmed, runs of blanks made one.
    private func canonicalHeaders(_ headers: [(name: String, value: String)]) -> [(name: String, value: String)] {
        var result: [(name: String, value: String)] = []
        for header in headers {
            let (name, value) = (header.name.lowercased(), withSingleBlanks(header.value))
            if let first = result.firstIndex(where: { $0.name == name }) {
                result[first].value += "," + value
            } else {
                result.append((name, value))
            }
        }
        return result.sorted { isOrdered($0.name, before: $1.name) }
    }

    private func withSingleBlanks(_ text: String) -> String {
        var result: [UInt8] = []
        result.reserveCapacity(text.utf8.count)
        var isAfterBlank = false
        for byte in text.utf8 {
            let isBlank = byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t")
            if !isBlank {
                if isAfterBlank, !result.isEmpty { result.append(UInt8(ascii: " ")) }
                result.append(byte)
            }
            isAfterBlank = isBlank
        }
        return String(decoding: result, as: UTF8.self)
    }

    private func signingKey(_ day: String, _ credentials: Credentials) -> [UInt8] {
        var key = Array("AWS4\(credentials.secretKey.reveal())".utf8)
        for part in [day, region, service, "aws4_request"] { key = hmacSHA256(key: key, Array(part.utf8)) }
        return key
    }
}
