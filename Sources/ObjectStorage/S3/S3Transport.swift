package import HTTPClient
internal import Hashing
internal import OCI
internal import System
internal import Threading

/// A request to a bucket, not yet signed.
package struct S3Request: Sendable {
    package var operation: StoreError.Operation
    package var method: String
    /// `nil`: the bucket.
    package var key: ObjectKey?
    package var query: [(name: String, value: String)] = []
    package var headers: [(name: String, value: String)] = []
    package var body = S3Payload.none
    /// How long the store may think about it, where the client's own limit is too short.
    package var stallSeconds: Int?

    package init(
        _ operation: StoreError.Operation,
        _ method: String,
        _ key: ObjectKey? = nil,
        query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = [],
        body: S3Payload = .none,
        stallSeconds: Int? = nil
    ) {
        self.operation = operation
        self.method = method
        self.key = key
        self.query = query
        self.headers = headers
        self.body = body
        self.stallSeconds = stallSeconds
    }
}

/// A body with what is signed of it.
package struct S3Payload: Sendable {
    let body: Body
    /// The SHA-256 in hexadecimal, or `UNSIGNED-PAYLOAD`.
    let hash: String

    static let unsigned = "UNSIGNED-PAYLOAD"

    package static let none = S3Payload(body: .none, hash: Digest(of: []).hex)

    package static func bytes(_ bytes: [UInt8]) -> S3Payload {
        S3Payload(body: .bytes(bytes), hash: Digest(of: bytes).hex)
    }
}

/// Signs, sends and repeats requests, and makes errors of what goes wrong.
package struct S3Transport: Sendable {
    let configuration: S3Configuration
    let client: Client
    let time: any TimeSource
    let random: any RandomSource
    let sleep: @Sendable (Duration) -> Void

    /// Sends `request`, again if that may help, and returns an answer with its body, if its status is 2xx or in `accepted`.
    package func exchange(
        _ request: S3Request,
        accepted: [Int] = [],
        bodyLimitBytes: Int = S3Limits.errorBodyBytes
    ) throws(StoreError) -> (response: Response, body: [UInt8]) {
        try retrying { () throws(StoreError) in
            try once(request, accepted: accepted, bodyLimitBytes: bodyLimitBytes)
        }
    }

    /// ``exchange(_:accepted:bodyLimitBytes:)`` in a single attempt.
    func once(
        _ request: S3Request,
        accepted: [Int] = [],
        bodyLimitBytes: Int = S3Limits.errorBodyBytes
    ) throws(StoreError) -> (response: Response, body: [UInt8]) {
        let signed = try sign(request)
        let answer: (response: Response, body: [UInt8])
        do throws(TransferError) {
            answer = try client.perform(signed, bodyLimitBytes: bodyLimitBytes)
        } catch {
            throw failure(of: request, error)
        }
        guard (200..<300).contains(answer.response.status) || accepted.contains(answer.response.status) else {
            throw failure(of: request, answer.response, answer.body)
        }
        return answer
    }

    /// An answer's body, which must be XML.
    func document(
        _ body: [UInt8],
        _ request: S3Request,
        _ response: Response
    ) throws(StoreError) -> XMLElement {
        do throws(XMLFailure) {
            return try XMLReader.read(body)
        } catch {
            throw failure(of: request, .invalidResponse, "\(error)", response)
        }
    }

    /// Calls `attempt` until it succeeds, fails for good or has been called often enough.
    func retrying<Result>(_ attempt: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        var count = 1
        while true {
            do throws(StoreError) {
                return try attempt()
            } catch {
                guard error.isRetryable, count < configuration.retries.attempts else { throw error }
                sleep(configuration.retries.pause(after: count, error, random))
                count += 1
            }
        }
    }

    /// The request for the wire. Signed anew for each attempt, because a signature ages.
    func sign(_ request: S3Request) throws(StoreError) -> Request {
        let endpoint = configuration.endpoint
        let path = endpoint.path(of: request.key)
        let query = RequestSigner.canonicalQuery(request.query)
        var headers = request.headers
        if let credentials = try configuration.credentials.current() {
            let now = time.wallTime()
            headers += [("x-amz-date", now.iso8601Basic), ("x-amz-content-sha256", request.body.hash)]
            if let token = credentials.sessionToken { headers.append(("x-amz-security-token", token.reveal())) }
            let input = RequestSigner.Input(
                method: request.method,
                path: path,
                query: query,
                headers: headers + [("host", endpoint.host)],
                payloadHash: request.body.hash
            )
            let signer = RequestSigner(region: endpoint.region)
            headers.append(("Authorization", signer.authorization(input, at: now, with: credentials)))
        }
        // Not signed: whoever is between may make a span of its own of it.
        if let traceparent = TraceContext.current { headers.append(("traceparent", traceparent)) }
        var signed = Request(
            request.method,
            endpoint.url(path: path, query: query),
            headers: headers,
            body: request.body.body
        )
        signed.stallSeconds = request.stallSeconds
        return signed
    }
}
