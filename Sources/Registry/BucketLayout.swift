public import OCI
public import ObjectStorage

/// Where everything lies in the bucket: the one place that spells a key.
///
/// ```
/// <prefix>catalog.json
/// <prefix>manifests/<repository>/<tag>.json
/// <prefix>manifests/<repository>/_digests/<algorithm>-<hex>.json
/// <prefix>manifests/<repository>/_referrers/<algorithm>-<hex>/<algorithm>-<hex>.json
/// <prefix>blobs/<algorithm>/<hex>
/// <prefix>_uploads/<token>                             a blob in parts whose digest is not known yet
/// <prefix>_probes/…, <prefix>_locks/…                  for moments
/// ```
///
/// The layout is the one of the Go package `registry` of cocoonstack/epoch, so that both can serve one bucket; sha512 and referrers are
/// additions that the other does not see. No repository component starts with `_`, so no repository or tag can be mistaken for `_digests`.
public struct BucketLayout: Sendable {
    /// So that the longest names still make keys.
    public static let maximumPrefixBytes = 400

    /// Put before every key; empty, or ends as the operator chose, usually with `/`.
    public let prefix: String

    public init(prefix: String = "epoch/") {
        precondition(prefix.utf8.count <= Self.maximumPrefixBytes, "a prefix of \(prefix.utf8.count) bytes")
        self.prefix = prefix
    }

    public var catalog: ObjectKey { key("catalog.json") }

    public func blob(_ digest: Digest) -> ObjectKey {
        key("blobs/\(digest.algorithm.rawValue)/\(digest.hex)")
    }

    public func tag(_ name: RepositoryName, _ tag: Tag) -> ObjectKey {
        key(relativeTag(name, tag))
    }

    public func manifest(_ name: RepositoryName, _ digest: Digest) -> ObjectKey {
        key("manifests/\(name)/_digests/\(fileName(digest)).json")
    }

    /// The entry of a manifest among the referrers of its subject. The seed skips these keys: they lie a level below the tags.
    public func referrer(_ name: RepositoryName, subject: Digest, _ digest: Digest) -> ObjectKey {
        key("manifests/\(name)/_referrers/\(fileName(subject))/\(fileName(digest)).json")
    }

    /// All entries of a subject's referrers start with this.
    public func referrers(_ name: RepositoryName, _ subject: Digest) -> String {
        "\(prefix)manifests/\(name)/_referrers/\(fileName(subject))/"
    }

    /// Every blob starts with this.
    var blobs: String { "\(prefix)blobs/" }

    /// Where a blob is put together whose digest is not known yet.
    func unnamedBlob(_ token: String) -> ObjectKey { key("_uploads/\(token)") }

    var unnamedBlobs: String { "\(prefix)_uploads/" }

    /// An object to try out with what the store can do; the token keeps nodes that start together apart.
    func probe(_ token: String) -> ObjectKey { key("_probes/\(token)") }

    /// The tickets of those who want to change the catalog, where the store has no conditional writes.
    var catalogLock: String { "\(prefix)_locks/catalog/" }

    /// Every tag and digest copy starts with this.
    var manifests: String { "\(prefix)manifests/" }

    /// What `catalog.json` records for a tag: its key without the prefix.
    public func relativeTag(_ name: RepositoryName, _ tag: Tag) -> String {
        "manifests/\(name)/\(tag).json"
    }

    /// Everything of one repository starts with this; so do the keys of repositories below it.
    public func repository(_ name: RepositoryName) -> String {
        "\(prefix)manifests/\(name)/"
    }

    /// The tag that a key of this repository stands for; `nil` for digest copies, other repositories' keys and anything unknown.
    public func tag(of key: ObjectKey, in name: RepositoryName) -> Tag? {
        let start = repository(name)
        guard key.description.hasPrefix(start), key.description.hasSuffix(".json") else { return nil }
        // A text that is no tag is somebody else's key: not an error.
        return try? Tag(key.description.dropFirst(start.count).dropLast(".json".count))
    }

    /// The repository and tag that a key anywhere in the bucket stands for; `nil` for everything else.
    func repositoryAndTag(of key: ObjectKey) -> (RepositoryName, Tag)? {
        let path = key.description
        guard path.hasPrefix(manifests), let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return nil }
        // What is no name is somebody else's key, or a digest copy.
        guard slash > path.index(path.startIndex, offsetBy: manifests.count),
            let name = try? RepositoryName(path[..<slash].dropFirst(manifests.count)),
            let tag = tag(of: key, in: name)
        else { return nil }
        return (name, tag)
    }

    /// A digest without its colon.
    private func fileName(_ digest: Digest) -> String {
        "\(digest.algorithm.rawValue)-\(digest.hex)"
    }

    /// Names are validated values and the prefix is checked when the program starts, so a key is always well formed.
    private func key(_ relative: String) -> ObjectKey {
        do {
            return try ObjectKey(prefix + relative)
        } catch {
            preconditionFailure("\(error)")
        }
    }
}
