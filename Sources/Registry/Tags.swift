internal import Hashing
public import OCI
internal import ObjectStorage

extension Registry {
    /// All tags of a repository in the lexical order of the tags themselves, without the digest copies.
    ///
    /// `nil` when the repository is unknown: it has neither a tag nor a digest copy.
    public func tagsIfPresent(name: RepositoryName) throws(RegistryError) -> [Tag]? {
        var tags: [Tag] = []
        var isKnown = false
        try forEachObject(below: layout.repository(name)) { object in
            tags.append(contentsOf: layout.tag(of: object.key, in: name).map { [$0] } ?? [])
        } prefix: { prefix in
            if prefix == layout.repository(name) + "_digests/" { isKnown = true }
        }
        guard isKnown || !tags.isEmpty else { return nil }
        // Keys end in `.json`, which sorts differently from the bare tag.
        return tags.sorted()
    }

    /// All tags of a repository.
    public func tags(name: RepositoryName) throws(RegistryError) -> [Tag] {
        guard let tags = try tagsIfPresent(name: name) else { throw .notFound("repository \(name)") }
        return tags
    }

    /// The global index as it lies in the bucket; an empty one when there is none yet.
    public func catalog() throws(RegistryError) -> Catalog {
        try catalogWithDigest().catalog
    }

    /// The global index, and the SHA-256 of its bytes (`nil` when there is none yet).
    public func catalogWithDigest() throws(RegistryError) -> (catalog: Catalog, digest: Digest?) {
        let object = try store.contents(layout.catalog, limitBytes: Self.catalogLimitBytes)
        guard case .complete(let bytes, _) = object else { return (Catalog(), nil) }
        return (try Catalog(parsing: bytes), Digest(of: bytes))
    }

    /// Calls `object` for each key directly in a folder, and `prefix` for each folder in it.
    func forEachObject(
        below folder: String,
        _ object: (ListedObject) -> Void,
        prefix: (String) -> Void = { _ in }
    ) throws(RegistryError) {
        try ask { () throws(StoreError) in
            try store.listAll(prefix: folder, delimiter: "/") { page in
                page.objects.forEach(object)
                page.commonPrefixes.forEach(prefix)
            }
        }
    }
}
