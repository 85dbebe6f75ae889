public import HTTPClient
internal import Synchronization
public import System
internal import Threading

/// A bucket of S3 or of a store that speaks its protocol.
///
/// Requests are signed with Signature Version 4 and repeated when that may help (``RetryPolicy``). Large bodies are uploaded in parallel parts.
public final class S3Store: ObjectStore {
    let configuration: S3Configuration
    package let transport: S3Transport
    let fileSystem: any FileSystem
    let pool: WorkerPool
    /// What the last probe found; `nil` before the first.
    let findings = Mutex<S3Findings?>(nil)
    private let deniesWhatIsMissing = Atomic(false)
    /// What copies cost here.
    let moving = MovingCosts()
    /// False once the store has refused DeleteObjects.
    let deletesInBatches = Atomic(true)

    /// - Parameters:
    ///   - client: may be shared. It needs a connection for each upload part that is in flight at once.
    ///   - fileSystem: what bodies that are files are read with.
    ///   - sleep: pauses the calling thread between attempts; `nil` really does.
    public init(
        _ configuration: S3Configuration,
        client: Client,
        fileSystem: any FileSystem = LocalFileSystem(),
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(),
        sleep: (@Sendable (Duration) -> Void)? = nil
    ) {
        configuration.check()
        self.configuration = configuration
        self.fileSystem = fileSystem
        transport = S3Transport(
            configuration: configuration,
            client: client,
            time: time,
            random: random,
            sleep: sleep ?? pauseThread
        )
        pool = WorkerPool(
            name: "s3-transfer",
            threads: configuration.transferThreads,
            queueLimit: configuration.transferThreads * 64
        )
    }

    /// The last reference may go on one of the pool's own threads, for which closing would wait.
    deinit {
        spawnThread(name: "s3-close") { [pool] in pool.close() }
    }

    public var description: String { configuration.endpoint.description }

    public var health: StoreHealth { transport.health }
    public var availability: StoreAvailability { transport.circuit.availability }

    /// Listing is what it tries: unlike a HEAD of the bucket, that brings an error's code and message.
    public func check() throws(StoreError) {
        let query = [("list-type", "2"), ("max-keys", "1")]
        do throws(StoreError) {
            _ = try transport.exchange(S3Request(.check, "GET", query: query), bodyLimitBytes: S3Limits.answerBytes)
        } catch {
            if case .anonymous = error.kind { deniesWhatIsMissing.store(true, ordering: .relaxed) }
            throw error
        }
    }

    /// To whom may not list, a store does not tell that an object is missing, but denies it. Who has no credentials is denied nothing else that
    /// could be mended.
    func isMissing(_ error: StoreError) -> Bool {
        guard case .anonymous = error.kind else { return false }
        return deniesWhatIsMissing.load(ordering: .relaxed)
    }

    /// A bucket that is missing looks like a missing object here: an answer to HEAD has no body to tell them apart by.
    public func head(_ key: ObjectKey) throws(StoreError) -> ObjectInfo? {
        let request = S3Request(.head, "HEAD", key)
        return try transport.retrying { () throws(StoreError) in
            let response: Response
            do throws(StoreError) {
                response = try transport.once(request, accepted: [404]).response
            } catch {
                guard isMissing(error) else { throw error }
                return nil
            }
            guard response.status != 404 else { return nil }
            guard let size = response.contentLength, size >= 0 else {
                throw transport.failure(of: request, .invalidResponse, "an object without a Content-Length", response)
            }
            var info = ObjectInfo(size: size, response)
            if tellsMD5s {
                try requireETag(request, response)
                info.trustETag(response)
            }
            return info
        }
    }

    /// The probe has found that ETags are MD5s, where nothing else speaks against it.
    var tellsMD5s: Bool { findings.withLock { $0?.etagIsContentHash ?? false } }

    /// A page of something between us and the store has none.
    @discardableResult
    func requireETag(_ request: S3Request, _ response: Response) throws(StoreError) -> String {
        if let etag = response.header("ETag").flatMap(unquotedETag) { return etag }
        let message = "an object without an ETag"
        throw transport.failure(of: request, .invalidResponse, message, response, isRetryable: true)
    }

    public func delete(_ key: ObjectKey) throws(StoreError) {
        let request = S3Request(.delete, "DELETE", key)
        try transport.retrying { () throws(StoreError) in
            let (response, body) = try transport.once(request, accepted: [404])
            let failure = transport.failure(of: request, response, body)
            if response.status == 404 {
                guard failure.code == "NoSuchKey" || body.isEmpty else { throw failure }
            } else if response.status != 204, !body.isEmpty {
                // A page of something between us and the store.
                let message = "an answer with content"
                throw transport.failure(of: request, .invalidResponse, message, response, isRetryable: true)
            }
        }
    }
}

extension ObjectInfo {
    init(size: Int64, _ response: Response) {
        self.init(
            size: size,
            etag: response.header("ETag").flatMap(unquotedETag),
            contentType: response.header("Content-Type"),
            lastModified: response.header("Last-Modified").flatMap { WallTime(httpDate: $0) }
        )
    }

    /// Knows the object's MD5 where the store uses it for a tag: not for objects of several parts, nor for those that other keys encrypt.
    mutating func trustETag(_ response: Response) {
        let isOwnKey = ["AES256", nil].contains(response.header("x-amz-server-side-encryption"))
        let isCustomerKey = response.header("x-amz-server-side-encryption-customer-algorithm") != nil
        guard isOwnKey, !isCustomerKey, let etag, etag.utf8.count == 32,
            etag.utf8.allSatisfy({ hexadecimalValue($0) != nil })
        else { return }
        md5 = etag.lowercased()
    }
}

/// An entity tag without its quotes; `nil` when nothing is left. Ceph leaves them out in places.
func unquotedETag(_ text: String) -> String? {
    var etag = Substring(text).utf8
    if etag.first == UInt8(ascii: "\"") { etag.removeFirst() }
    if etag.last == UInt8(ascii: "\"") { etag.removeLast() }
    return etag.isEmpty ? nil : String(Substring(etag))
}
