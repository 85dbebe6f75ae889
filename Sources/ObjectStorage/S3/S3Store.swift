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
    /// Who may not list is denied what is missing, as is who may do nothing; once something was read, it is the former.
    private let deniesWhatIsMissing = Atomic(false)
    private let wasRead = Atomic(false)
    /// True once the answer to a HEAD was without the id that stores give, before the first probe was through.
    private let answersWithoutID = Atomic(false)
    /// True once an answer of 404 has said that it is the key that is not there.
    private let namesAbsence = Atomic(false)
    /// True once the answer to a delete had the id that stores give.
    private let signsDeletes = Atomic(false)
    /// On the monotonic clock: until then a HEAD's 404 is taken for the store's word on the object.
    private let absenceIsSureUntil = Atomic<UInt64>(0)
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

    public var health: StoreHealth {
        var health = transport.health
        let (inUse, idle) = transport.client.connections
        health.connections = .init(opened: transport.client.statistics.connectionsOpened, inUse: inUse, idle: idle)
        return health
    }
    public var clockOffsetSeconds: Int64 { transport.clockOffsetSeconds }
    public var availability: StoreAvailability { transport.circuit.availability }

    /// Listing is what it tries: unlike a HEAD of the bucket, that brings an error's code and message. A store that went down over objects may
    /// list them all the same, so there it tries one of those.
    public func check(isCancelled: @escaping @Sendable () -> Bool) throws(StoreError) {
        if let key = transport.circuit.lostKey {
            _ = try head(key, isCancelled: isCancelled)
            return
        }
        var request = S3Request(.check, "GET", query: [("list-type", "2"), ("max-keys", "1")])
        request.isCancelled = isCancelled
        do throws(StoreError) {
            _ = try transport.exchange(request, bodyLimitBytes: S3Limits.answerBytes)
        } catch {
            if case .anonymous = error.kind { deniesWhatIsMissing.store(true, ordering: .relaxed) }
            throw error
        }
    }

    /// To whom may not list, a store does not tell that an object is missing, but denies it. Who has no credentials but can read is denied
    /// nothing else that could be mended.
    func isMissing(_ error: StoreError) -> Bool {
        guard case .anonymous = error.kind else { return false }
        return deniesWhatIsMissing.load(ordering: .relaxed) && wasRead.load(ordering: .relaxed)
    }

    func noteRead() {
        if !wasRead.load(ordering: .relaxed) { wasRead.store(true, ordering: .relaxed) }
    }

    public func head(_ key: ObjectKey) throws(StoreError) -> ObjectInfo? { try head(key, isCancelled: { false }) }

    private func head(
        _ key: ObjectKey,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(StoreError) -> ObjectInfo? {
        var request = S3Request(.head, "HEAD", key)
        request.isCancelled = isCancelled
        return try transport.retrying { () throws(StoreError) in
            let response: Response
            do throws(StoreError) {
                response = try transport.once(request, accepted: [404]).response
            } catch {
                if isMissing(error) { return nil }
                throw reason(for: error, key)
            }
            guard response.status != 404 else {
                try confirmAbsence(of: key, request, response)
                return nil
            }
            try requireObject(request, response)
            guard let size = response.contentLength, 0...S3Limits.largestObjectBytes ~= size else {
                throw transport.failure(
                    of: request,
                    .invalidResponse,
                    "an object without a possible Content-Length",
                    response
                )
            }
            noteRead()
            var info = ObjectInfo(size: size, response)
            if tellsMD5s {
                try requireETag(request, response)
                info.trustETag(response)
            }
            return info
        }
    }

    /// An answer to HEAD has no body that could name its reason, such as a token that has expired or a clock that is wrong: GET tells.
    private func reason(for error: StoreError, _ key: ObjectKey) -> StoreError {
        guard error.code == nil, [400, 401, 403].contains(error.status) else { return error }
        do throws(StoreError) {
            _ = try isThere(key)
            // What refused a moment ago does no more.
            return error.passing
        } catch let answer {
            return answer.code != nil ? answer : error
        }
    }

    /// A HEAD's 404 does not tell whether it is the object that is missing or the bucket, nor whether the store has said it: GET does. It is
    /// asked now and then, and each time that the answer does not look like the store's.
    private func confirmAbsence(
        of key: ObjectKey,
        _ request: S3Request,
        _ response: Response
    ) throws(StoreError) {
        let now = transport.time.monotonicNanoseconds()
        let isDoubtful = isHypertext(response) || lacksID(response)
        guard isDoubtful || now >= absenceIsSureUntil.load(ordering: .relaxed) else { return }
        if try isThere(key) {
            let message = "GET finds what HEAD does not"
            throw transport.failure(of: request, .invalidResponse, message, response, isRetryable: true)
        }
        absenceIsSureUntil.store(now + S3Limits.sureAbsenceNanoseconds, ordering: .relaxed)
    }

    /// What a GET of a byte says.
    private func isThere(_ key: ObjectKey) throws(StoreError) -> Bool {
        let question = S3Request(.head, "GET", key, headers: [("Range", "bytes=0-0")])
        var isRepeated = false
        while true {
            do throws(StoreError) {
                return try finds(question)
            } catch {
                // Swift ends its answer to HEAD as if it had a body: the next one on that connection cannot be read.
                guard !isRepeated, error.status == nil, error.isRetryable else { throw error }
                isRepeated = true
            }
        }
    }

    /// False where the store says, asked once, that what the request names is missing.
    func finds(_ request: S3Request) throws(StoreError) -> Bool {
        let (response, body) = try transport.once(request, accepted: [404])
        guard response.status == 404 else { return true }
        try requireAbsence(request, response, body)
        return false
    }

    /// Throws where an answer of 404 does not mean the object, but the bucket, or is of something between us and the store. That one names
    /// what is missing, unless it never does.
    func requireAbsence(_ request: S3Request, _ response: Response, _ body: [UInt8]) throws(StoreError) {
        let failure = transport.failure(of: request, response, body)
        if ["NoSuchKey", "NoSuchUpload"].contains(failure.code) {
            namesAbsence.store(true, ordering: .relaxed)
        } else if !body.isEmpty || namesAbsence.load(ordering: .relaxed) {
            throw failure
        }
    }

    /// The probe has found that ETags are MD5s, where nothing else speaks against it.
    var tellsMD5s: Bool { findings.withLock { $0?.etagIsContentHash ?? false } }

    /// Something between us and the store may answer with a page of its own, whatever it was asked for.
    func requireObject(_ request: S3Request, _ response: Response) throws(StoreError) {
        // A body speaks for itself.
        let mustHaveID = request.method == "HEAD"
        if mustHaveID, response.header("x-amz-request-id") == nil, findings.withLock({ $0 == nil }) {
            answersWithoutID.store(true, ordering: .relaxed)
        }
        guard isHypertext(response) || mustHaveID && lacksID(response) else { return }
        throw transport.failure(of: request, .invalidResponse, "a page, not an object", response, isRetryable: true)
    }

    private func isHypertext(_ response: Response) -> Bool {
        response.header("Content-Type")?.lowercased().hasPrefix("text/html") ?? false
    }

    /// Without the id that this store gives its answers.
    private func lacksID(_ response: Response) -> Bool {
        response.header("x-amz-request-id") == nil && !answersWithoutID.load(ordering: .relaxed)
    }

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
            if response.status == 404 {
                try requireAbsence(request, response, body)
            } else {
                try requireDeletion(request, response, body)
            }
        }
    }

    /// Something between us and the store may acknowledge what that has never heard of.
    private func requireDeletion(_ request: S3Request, _ response: Response, _ body: [UInt8]) throws(StoreError) {
        let hasID = response.header("x-amz-request-id") != nil
        if hasID { signsDeletes.store(true, ordering: .relaxed) }
        let isPage = response.status != 204 && !body.isEmpty
        guard isPage || !hasID && signsDeletes.load(ordering: .relaxed) else { return }
        let message = isPage ? "an answer with content" : "an answer without the id that this store gives"
        throw transport.failure(of: request, .invalidResponse, message, response, isRetryable: true)
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
