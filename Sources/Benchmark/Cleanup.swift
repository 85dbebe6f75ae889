internal import OCI
internal import Synchronization
internal import Threading

/// What a run has put into registries, noted before it is sent: an upload that was cut off may be there all the same.
final class Ledger: Sendable {
    struct Entry: Sendable {
        let registry: RegistryClient
        let url: String
        let isManifest: Bool
        /// Came by being pulled: a cache that cannot be told to drop it lets it age.
        let isCopy: Bool
    }

    private let entries = Mutex<[Entry]>([])

    func note(_ content: Content, in registry: RegistryClient, isCopy: Bool = false) {
        add(Entry(registry: registry, url: registry.blobURL(content.digest), isManifest: false, isCopy: isCopy))
    }

    func note(_ image: Image, in registry: RegistryClient) {
        let url = registry.manifestURL(image.digest.description)
        add(Entry(registry: registry, url: url, isManifest: true, isCopy: false))
    }

    private func add(_ entry: Entry) { entries.withLock { $0.append(entry) } }

    /// Deletes everything, manifests first, since a registry may refuse to delete blobs that one refers to. What is left, in words.
    func clean(progress: (String) -> Void) -> [String] {
        let all = entries.withLock { entries in
            defer { entries = [] }
            return entries
        }
        guard !all.isEmpty else { return [] }
        progress("deleting \(all.count) objects")
        let refusals = Mutex<[Refusal: Int]>([:])
        for entries in [all.filter(\.isManifest), all.filter { !$0.isManifest }] {
            let pool = WorkerPool(name: "bench-clean", threads: 8, queueLimit: 8)
            pool.forEach(below: entries.count) { index in
                guard let refusal = entries[index].delete() else { return }
                refusals.withLock { $0[refusal, default: 0] += 1 }
            }
            pool.close()
        }
        return refusals.withLock { $0 }.map { $0.sentence(count: $1) }.sorted()
    }
}

/// Why objects are left.
private struct Refusal: Hashable {
    let place: String
    let isManifest: Bool
    let isCopy: Bool
    let reason: String

    func sentence(count: Int) -> String {
        let kind = isManifest ? "manifest" : "blob"
        let what = "\(count) \(isCopy ? "cached " : "")\(kind)\(count == 1 ? "" : "s")"
        return "left in \(place): \(what), since a delete is answered with \(reason)"
    }
}

extension Ledger.Entry {
    /// `nil` when it is gone.
    fileprivate func delete() -> Refusal? {
        func refusal(_ reason: String) -> Refusal {
            Refusal(
                place: "\(registry.target)/\(registry.repository)",
                isManifest: isManifest,
                isCopy: isCopy,
                reason: reason
            )
        }
        do throws(Failure) {
            let status = try registry.delete(url)
            return (200..<300).contains(status) || status == 404 || status == 410 ? nil : refusal("status \(status)")
        } catch {
            return refusal("'\(error.kind)'")
        }
    }
}
