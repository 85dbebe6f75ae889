internal import OCI
internal import ObjectStorage
internal import System
internal import Threading

/// Writes changes into `catalog.json`. Changes that arrive while a write is under way share the next one.
final class CatalogWriter: Sendable {
    private let batches: Batcher<[CatalogChange], RegistryError>

    init(store: any ObjectStore, key: ObjectKey, time: any TimeSource, random: any RandomSource) {
        let file = CatalogFile(store: store, key: key, time: time, random: random)
        batches = Batcher { requests in
            let result = Result { () throws(RegistryError) in try file.apply(requests.flatMap(\.self)) }
            return requests.map { _ in result }
        }
    }

    /// Returns once the changes are in the bucket.
    func apply(_ changes: [CatalogChange]) throws(RegistryError) {
        if !changes.isEmpty { try batches.perform(changes) }
    }
}

/// `catalog.json` as something to change.
///
/// Lost updates are ruled out by a conditional write where the store has one; elsewhere by reading back and merging again.
private struct CatalogFile: Sendable {
    /// How often a batch is tried against other writers before its pushes fail.
    static let maximumAttempts = 30

    let store: any ObjectStore
    let key: ObjectKey
    let time: any TimeSource
    let random: any RandomSource

    func apply(_ changes: [CatalogChange]) throws(RegistryError) {
        for attempt in 0..<Self.maximumAttempts {
            if attempt > 0 { pause(attempt) }
            var (catalog, etag) = try read()
            let now = time.wallTime().rfc3339
            var changed = false
            for change in changes where catalog.apply(change, now: now) { changed = true }
            guard changed else { return }
            if try replace(catalog, etag: etag), try isDurable(changes) { return }
        }
        throw .catalogContended(attempts: Self.maximumAttempts)
    }

    private func read() throws(RegistryError) -> (Catalog, etag: String?) {
        guard case .complete(let bytes, let info) = try store.contents(key, limitBytes: Registry.catalogLimitBytes)
        else { return (Catalog(), nil) }
        return (try Catalog(parsing: bytes), info.etag)
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

    /// Without conditional writes another writer may have replaced ours; then ours is merged into theirs.
    private func isDurable(_ changes: [CatalogChange]) throws(RegistryError) -> Bool {
        guard !isConditional else { return true }
        let (catalog, _) = try read()
        return changes.allSatisfy(catalog.reflects)
    }

    private var isConditional: Bool { store.capabilities.ifAbsent && store.capabilities.ifMatch }

    /// Full jitter, so that two processes do not collide for ever.
    private func pause(_ attempt: Int) {
        let ceilingMilliseconds = UInt64(min(5 << attempt, 500))
        pauseThread(.milliseconds(Int64(random.next() % ceilingMilliseconds)))
    }
}
