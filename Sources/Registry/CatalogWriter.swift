internal import OCI
internal import ObjectStorage
internal import System
internal import Threading

/// Writes changes into `catalog.json`. Changes that arrive while a write is under way share the next one.
final class CatalogWriter: Sendable {
    private let file: CatalogFile
    private let batches: Batcher<[CatalogChange], RegistryError>

    init(store: any ObjectStore, layout: BucketLayout, time: any TimeSource, random: any RandomSource) {
        let file = CatalogFile(store: store, layout: layout, time: time, random: random)
        self.file = file
        batches = Batcher { requests in
            let changes = requests.flatMap(\.self)
            let result = Result { () throws(RegistryError) in
                try file.change { catalog, now in
                    var isChanged = false
                    for change in changes where catalog.apply(change, now: now) { isChanged = true }
                    return isChanged
                } until: { catalog in
                    changes.allSatisfy(catalog.reflects)
                }
            }
            return requests.map { _ in result }
        }
    }

    /// Returns once the changes are in the bucket.
    func apply(_ changes: [CatalogChange]) throws(RegistryError) {
        if !changes.isEmpty { try batches.perform(changes) }
    }

    /// Puts another catalog in its place, with what others change meanwhile.
    ///
    /// - Parameter listed: what the bucket holds, found after the current catalog was read.
    func rebuild(_ listed: () throws(RegistryError) -> Catalog) throws(RegistryError) -> Catalog {
        let before = try file.read(unreadable: Catalog()).catalog
        let fresh = try listed()
        var result = fresh
        try file.change(unreadable: before) { catalog, now in
            // What was pushed or deleted during the listing may be missing in it or still be there.
            result = fresh
            for change in catalog.changes(since: before) { _ = result.apply(change, now: now) }
            result.updatedAt = now
            catalog = result
            return true
        } until: { catalog in
            catalog.repositories == result.repositories
        }
        return result
    }
}

/// `catalog.json` as something to change.
///
/// Lost updates between processes are ruled out by a conditional write where the store has one; elsewhere by a lock among them, and by
/// reading back and changing again, should a program that knows no lock have come between.
private struct CatalogFile: Sendable {
    /// How often a change is tried against other writers before its pushes fail.
    static let maximumAttempts = 30

    let store: any ObjectStore
    let key: ObjectKey
    let time: any TimeSource
    let random: any RandomSource
    let lock: BakeryLock
    private let layout: BucketLayout

    init(store: any ObjectStore, layout: BucketLayout, time: any TimeSource, random: any RandomSource) {
        self.store = store
        self.time = time
        self.random = random
        self.layout = layout
        key = layout.catalog
        lock = BakeryLock(store: store, folder: layout.catalogLock, time: time, random: random)
    }

    /// - Parameters:
    ///   - unreadable: what to take for a catalog that cannot be read; `nil` makes that an error.
    ///   - body: changes the catalog; may run more than once. False leaves it as it is.
    ///   - isDone: whether the change is in effect in what is read back.
    func change(
        unreadable: Catalog? = nil,
        _ body: (inout Catalog, _ now: String) -> Bool,
        until isDone: (Catalog) -> Bool
    ) throws(RegistryError) {
        /// False when somebody else was faster.
        func tryOnce() throws(RegistryError) -> Bool {
            var (catalog, etag) = try read(unreadable: unreadable)
            guard body(&catalog, time.wallTime().rfc3339) else { return true }
            return try replace(catalog, etag: etag)
        }
        try learn()
        for attempt in 0..<Self.maximumAttempts {
            if attempt > 0 { pause(attempt) }
            if isConditional {
                if try tryOnce() { return }
            } else if try lock(tryOnce), isDone(try read().catalog) {
                return
            }
        }
        throw .catalogContended(attempts: Self.maximumAttempts)
    }

    func read(unreadable: Catalog? = nil) throws(RegistryError) -> (catalog: Catalog, etag: String?) {
        guard case .complete(let bytes, let info) = try store.contents(key, limitBytes: Registry.catalogLimitBytes)
        else {
            if !isConditional { try confirmAbsence() }
            return (Catalog(), nil)
        }
        do throws(RegistryError) {
            return (try Catalog(parsing: bytes), info.etag)
        } catch {
            guard let unreadable else { throw error }
            return (unreadable, info.etag)
        }
    }

    /// Where no condition on the write protects it, a catalog that is once said to be missing would be begun anew without all that it has.
    private func confirmAbsence() throws(RegistryError) {
        do throws(StoreError) {
            let page = try store.list(prefix: key.description, delimiter: nil, after: nil, continuation: nil, limit: 1)
            guard page.objects.first?.key == key else { return }
            let message = "the store denied an object that it lists"
            throw StoreError(.get, in: store.description, key: key, .conflict, message, isRetryable: true)
        } catch {
            throw .store(error)
        }
    }

    private func replace(_ catalog: Catalog, etag: String?) throws(RegistryError) -> Bool {
        let condition: PutCondition =
            isConditional ? etag.map { .ifMatch($0) } ?? .ifAbsent : .none
        do throws(StoreError) {
            let body = ObjectBody.bytes(catalog.encoded())
            switch try store.put(key, body, contentType: "application/json", condition: condition) {
            case .stored: return true
            case .conditionFailed: return false
            }
        } catch {
            guard case .conflict = error.kind else { throw .store(error) }
            return false
        }
    }

    /// Nodes that protect the catalog in different ways undo each other's changes: nothing is written before it is known which way it is.
    private func learn() throws(RegistryError) {
        guard !store.capabilities.areKnown else { return }
        do throws(StoreError) {
            _ = try store.probe(at: layout.probe(random.token()))
        } catch {
            // What may not be tried is not honoured.
            guard !error.isRetryable else { throw .store(error) }
        }
    }

    private var isConditional: Bool { store.capabilities.ifAbsent && store.capabilities.ifMatch }

    /// Full jitter, so that two processes do not collide for ever.
    private func pause(_ attempt: Int) {
        let ceilingMilliseconds = UInt64(min(5 << attempt, 500))
        pauseThread(.milliseconds(Int64(random.next() % ceilingMilliseconds)))
    }
}
