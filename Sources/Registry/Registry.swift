public import OCI
public import ObjectStorage
public import System
internal import Threading

/// Blobs, manifests, tags and a global catalog in an object store: the facade of the Go package `registry` of cocoonstack/epoch.
///
/// Every operation goes to the store; nothing is cached here. Safe to use from many threads; all calls block.
public final class Registry: Sendable {
    /// Manifests larger than this are refused; the specification asks for at least 4 MiB.
    public static let manifestLimitBytes = 16 << 20
    /// A catalog larger than this is not read: some two million tags.
    static let catalogLimitBytes = 512 << 20
    /// Requests at once where one operation needs many.
    static let parallelRequests = 16

    public let store: any ObjectStore
    public let layout: BucketLayout
    let catalogWriter: CatalogWriter
    let random: any RandomSource
    /// A push and a delete of the same manifest in this process: neither must see the other half done.
    let manifestClaims = Claims<ManifestID>()
    /// Writing tags of a repository, and comparing tags before they are deleted.
    let tagClaims = Claims<RepositoryName>()
    private let looks = Monitor(LookPolicy())
    /// A megabyte or two.
    let contentHashes = ContentHashes(limit: 1 << 16)
    let workers = WorkerPool(name: "registry", threads: Registry.parallelRequests, queueLimit: 1024)

    /// - Parameters:
    ///   - store: where everything lies.
    ///   - prefix: put before every key.
    public init(
        store: any ObjectStore,
        prefix: String = "epoch/",
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom()
    ) {
        self.store = store
        self.random = random
        layout = BucketLayout(prefix: prefix)
        catalogWriter = CatalogWriter(store: store, layout: layout, time: time, random: random)
    }

    deinit { workers.close() }
}

extension Registry {
    /// Finds out what the store can do by writing an object and removing it again. Until then, conditional writes count as not supported.
    @discardableResult
    public func probe() throws(RegistryError) -> StoreCapabilities {
        let token = random.token()
        return try ask { () throws(StoreError) in try store.probe(at: layout.probe(token)) }
    }
}

// MARK: - Blobs

extension Registry {
    public func blobExists(_ digest: Digest) throws(RegistryError) -> Bool {
        try blobInfo(digest) != nil
    }

    /// In bytes.
    public func blobSize(_ digest: Digest) throws(RegistryError) -> Int64 {
        guard let info = try blobInfo(digest) else { throw .notFound("blob \(digest)") }
        return info.size
    }

    /// `nil` when there is no such blob.
    public func blobInfo(_ digest: Digest) throws(RegistryError) -> ObjectInfo? {
        try ask { () throws(StoreError) in try store.head(layout.blob(digest)) }
    }

    /// ``blobInfo(_:)`` of each, in their order; asked in parallel.
    public func blobInfos(_ digests: [Digest]) throws(RegistryError) -> [ObjectInfo?] {
        try inParallel(digests) { digest throws(RegistryError) in try self.blobInfo(digest) }
    }

    /// Which of these manifests of a repository do not exist; asked in parallel.
    public func missingManifests(name: RepositoryName, among digests: [Digest]) throws(RegistryError) -> [Digest] {
        let exists = try inParallel(digests) { digest throws(RegistryError) in
            try self.ask { () throws(StoreError) in try self.store.head(self.layout.manifest(name, digest)) != nil }
        }
        return zip(digests, exists).filter { !$0.1 }.map(\.0)
    }

    /// Streams a blob, or a half-open range of its bytes. Nothing is verified: the bytes are what the store holds.
    ///
    /// - Parameters:
    ///   - isCancelled: asked about once a second where the store may be silent for long; true ends the transfer with an error.
    ///   - begin: called once with the whole object's size before the first byte.
    ///   - receive: called for each piece; what the closures throw comes back inside ``RegistryError/store(_:)``.
    public func streamBlob(
        _ digest: Digest,
        range: Range<Int64>? = nil,
        isCancelled: @escaping @Sendable () -> Bool = { false },
        begin: (ObjectInfo) throws -> Void = { _ in },
        receive: (Span<UInt8>) throws -> Void
    ) throws(RegistryError) {
        let outcome = try ask { () throws(StoreError) in
            try store.get(
                layout.blob(digest),
                range: range,
                ifNoneMatch: nil,
                isCancelled: isCancelled,
                begin: begin,
                receive: receive
            )
        }
        guard case .complete = outcome else { throw .notFound("blob \(digest)") }
    }

    /// Stores a blob unless it is there already; returns false then. The caller has verified that `body` has this digest.
    ///
    /// - Parameter isMissing: it is known not to be there, so that nobody needs to look.
    @discardableResult
    public func pushBlob(
        _ digest: Digest,
        from body: ObjectBody,
        isMissing: Bool = false
    ) throws(RegistryError) -> Bool {
        guard !isMissing else {
            _ = try putBlob(digest, body, .none)
            return true
        }
        guard body.length <= store.capabilities.sizeOfALookBytes else { return try pushAfterALook(digest, body) }
        let looksFirst = looks.withLock { $0.begin(tells: store.capabilities.ifAbsent) }
        var isThere = false
        defer { looks.withLock { $0.end(found: isThere) } }
        if !looksFirst, try putWithoutALook(digest, body) { return true }
        // Whatever a store makes of conditions: only a look tells that a blob is there, and is what it must be.
        isThere = try !pushAfterALook(digest, body)
        return !isThere
    }

    private func pushAfterALook(_ digest: Digest, _ body: ObjectBody) throws(RegistryError) -> Bool {
        if try ask({ () throws(StoreError) in try store.holds(layout.blob(digest), body) }) { return false }
        _ = try putBlob(digest, body, .none)
        return true
    }

    /// Only if nothing is there, where the store can tell; else over what may be there.
    ///
    /// - Returns: whether it was stored: false also when a condition, or a store that lets nobody overwrite, may be why nothing was.
    private func putWithoutALook(_ digest: Digest, _ body: ObjectBody) throws(RegistryError) -> Bool {
        let condition = store.capabilities.ifAbsent ? PutCondition.ifAbsent : .none
        do throws(RegistryError) {
            guard case .stored = try putBlob(digest, body, condition) else { return false }
            return true
        } catch {
            guard case .store(let error) = error else { throw error }
            switch error.kind {
            case .damagedBody, .denied, .conflict, .unsupported, .other: return false
            default: throw .store(error)
            }
        }
    }

    private func putBlob(
        _ digest: Digest,
        _ body: ObjectBody,
        _ condition: PutCondition
    ) throws(RegistryError) -> PutOutcome {
        try ask { () throws(StoreError) in
            try store.put(
                layout.blob(digest),
                body,
                contentType: MediaType.octetStream.rawValue,
                condition: condition
            )
        }
    }

    /// Deleting a blob that does not exist succeeds, as in the seed.
    public func deleteBlob(_ digest: Digest) throws(RegistryError) {
        try ask { () throws(StoreError) in try store.delete(layout.blob(digest)) }
    }

    /// Asks for each element at once, as far as there are workers; the answers are in the elements' order. The first error ends it.
    func inParallel<Element: Sendable, Answer: Sendable>(
        _ elements: [Element],
        _ ask: @escaping @Sendable (Element) throws(RegistryError) -> Answer
    ) throws(RegistryError) -> [Answer] {
        let answers = Monitor([Result<Answer, RegistryError>?](repeating: nil, count: elements.count))
        workers.forEach(below: elements.count) { index in
            let answer = Result { () throws(RegistryError) in try ask(elements[index]) }
            answers.withLock { $0[index] = answer }
        }
        var results: [Answer] = []
        for answer in answers.withLock({ $0 }) {
            guard let answer else { preconditionFailure("an element was not asked for") }
            results.append(try answer.get())
        }
        return results
    }

    func ask<Answer>(_ body: () throws(StoreError) -> Answer) throws(RegistryError) -> Answer {
        do throws(StoreError) {
            return try body()
        } catch {
            throw .store(error)
        }
    }
}
