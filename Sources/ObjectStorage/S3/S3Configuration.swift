/// How a bucket is used. The defaults suit AWS and stores like it.
public struct S3Configuration: Sendable {
    public enum PayloadSigning: Sendable {
        /// The SHA-256 of every body is part of its signature, so the store notices a body that was changed on the way.
        case always
        /// Over https, where the connection protects them, bodies are not hashed. Over http they always are.
        case notOverTLS
    }

    public var endpoint: S3Endpoint
    public var credentials: CredentialProvider
    public var payloadSigning = PayloadSigning.always
    public var retries = RetryPolicy()
    public var circuit = CircuitPolicy()
    /// What new objects are stored with.
    public var objectOptions = S3ObjectOptions()
    /// The longest an answer may take, beside the time that bodies take at ``leastBytesPerSecond``.
    public var requestTimeoutSeconds = 60
    /// A body that comes more slowly, all in all, is broken off.
    public var leastBytesPerSecond: Int64 = 32 << 10
    /// Told what an operator should know.
    public var report: @Sendable (StoreEvent) -> Void = { _ in }
    /// Told of each request when it is over: the status of its answer, or what became of it.
    public var requested: @Sendable (StoreError.Operation, _ code: String) -> Void = { _, _ in }
    /// Larger bodies are uploaded in parts, if no condition is set.
    public var multipartThresholdBytes: Int64 = 32 << 20
    /// Of one part; more when there would be more than 10,000. S3 asks for at least 5 MiB.
    public var partBytes: Int64 = 16 << 20
    /// Parts of one upload that are sent at once.
    public var partsInFlight = 4
    /// An object is copied in one request up to this size, in parts of it above.
    public var largestCopyBytes = S3Limits.largestCopyBytes
    /// Threads that all uploads of this store share, beside their callers' own.
    public var transferThreads = 8
    /// How long a store may take to join the parts of an upload before it sends a byte.
    public var completionStallSeconds = 300

    public init(endpoint: S3Endpoint, credentials: CredentialProvider) {
        self.endpoint = endpoint
        self.credentials = credentials
    }

    /// For an answer, and for a body of so many bytes.
    func limit(bytes: Int64) -> Duration { .seconds(Int64(requestTimeoutSeconds) + bytes / leastBytesPerSecond) }

    func check() {
        retries.check()
        circuit.check()
        precondition(requestTimeoutSeconds > 0 && leastBytesPerSecond > 0)
        precondition(multipartThresholdBytes > 0 && partBytes > 0 && partBytes <= S3Limits.largestPartBytes)
        precondition(partsInFlight > 0 && transferThreads > 0 && completionStallSeconds > 0)
    }
}

/// What S3 itself limits (Amazon S3 User Guide, "Amazon S3 multipart upload limits"), and what is read of its answers at most.
public enum S3Limits {
    static let parts = 10_000
    public static let largestPartBytes: Int64 = 5 << 30
    static let largestPutBytes: Int64 = 5 << 30
    public static let largestCopyBytes: Int64 = 5 << 30
    /// More than any store takes; an answer that tells of more is a lie.
    static let largestObjectBytes: Int64 = 64 << 40
    static let keysPerDelete = 1_000
    static let keysPerPage = 1_000
    static let errorBodyBytes = 64 << 10
    /// Clocks that differ by no more are taken for the same.
    static let clockToleranceSeconds: Int64 = 60
    /// After a GET has agreed with a HEAD that an object is missing, other HEADs are believed for so long.
    static let sureAbsenceNanoseconds: UInt64 = 5_000_000_000
    /// How often it is told that the store throttles.
    static let throttlingNewsNanoseconds: UInt64 = 60_000_000_000
    /// A page of 1,000 keys of 1,024 bytes, each byte encoded as three, and as much again around them.
    static let answerBytes = 8 << 20
    /// To send so much takes no longer than another request.
    static let sizeOfALookBytes: Int64 = 32 << 10
    /// Of a body that is hashed or copied, at a time.
    static let bufferBytes = 256 << 10
}
