internal import ObjectStorage
internal import OCI
internal import System

/// How far ``Registry/rebuildCatalog(progress:)`` has come.
public struct RebuildProgress: Sendable, Equatable {
    /// Of the listing, digest copies and other keys included.
    public var objects = 0
    public var repositories = 0
    public var tags = 0

    public init() {}
}

extension Registry {
    /// Makes `catalog.json` anew from a listing of the bucket, whatever state it is in.
    ///
    /// Pushes and deletes may go on meanwhile: what they change in the catalog is kept. A tag deleted right after the listing passed it may
    /// stay in the catalog until the next rebuild; nobody resolves it there.
    ///
    /// - Parameter progress: called after each page of the listing.
    @discardableResult
    public func rebuildCatalog(progress: (RebuildProgress) -> Void = { _ in }) throws(RegistryError) -> Catalog {
        try catalogWriter.rebuild { () throws(RegistryError) in
            try listedCatalog(progress)
        }
    }

    private func listedCatalog(_ report: (RebuildProgress) -> Void) throws(RegistryError) -> Catalog {
        var catalog = Catalog()
        var newest: [String: WallTime] = [:]
        var progress = RebuildProgress()
        try ask { () throws(StoreError) in
            try store.listAll(prefix: layout.manifests) { page in
                for object in page.objects {
                    progress.objects += 1
                    guard let (repository, tag) = layout.repositoryAndTag(of: object.key) else { continue }
                    progress.tags += 1
                    let name = repository.description
                    catalog.repositories[name, default: Catalog.Repository(updatedAt: catalog.updatedAt)]
                        .tags[tag.description] = layout.relativeTag(repository, tag)
                    if let modified = object.lastModified, newest[name].map({ $0 < modified }) ?? true {
                        newest[name] = modified
                    }
                }
                progress.repositories = catalog.repositories.count
                report(progress)
            }
        }
        for (name, modified) in newest { catalog.repositories[name]?.updatedAt = modified.rfc3339 }
        return catalog
    }
}
