internal import FoundationEssentials
internal import OCI

/// The global index of repositories and tags, as `catalog.json` holds it.
///
/// It is derived: it can always be made anew from a listing of the bucket.
public struct Catalog: Sendable, Equatable, Codable {
    public struct Repository: Sendable, Equatable, Codable {
        /// Tag to the tag's key without the bucket prefix.
        public var tags: [String: String]
        /// RFC 3339.
        public var updatedAt: String

        public init(tags: [String: String] = [:], updatedAt: String) {
            self.tags = tags
            self.updatedAt = updatedAt
        }

        /// Go writes an empty map as `null` when it was never made.
        public init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            tags = try container.decodeIfPresent([String: String].self, forKey: .tags) ?? [:]
            updatedAt = try container.decodeIfPresent(String.self, forKey: .updatedAt) ?? ""
        }
    }

    public var repositories: [String: Repository]
    /// RFC 3339.
    public var updatedAt: String

    public init(repositories: [String: Repository] = [:], updatedAt: String = "0001-01-01T00:00:00Z") {
        self.repositories = repositories
        self.updatedAt = updatedAt
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        // Every writer names it, be it `null`: what does not is another document, or none.
        repositories = try container.decode([String: Repository]?.self, forKey: .repositories) ?? [:]
        updatedAt = try container.decodeIfPresent(String.self, forKey: .updatedAt) ?? ""
    }

    init(parsing bytes: [UInt8]) throws(RegistryError) {
        do {
            self = try JSONDecoder().decode(Catalog.self, from: Data(bytes))
        } catch {
            throw .catalogUnreadable("it is not JSON of the known shape")
        }
    }

    /// Keys sorted, as Go writes maps.
    func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return try Array(encoder.encode(self))
        } catch {
            preconditionFailure("a catalog of strings cannot fail to encode: \(error)")
        }
    }
}

/// One tag more or less in the catalog.
enum CatalogChange: Sendable, Hashable {
    case add(name: String, tag: String, key: String)
    case remove(name: String, tag: String)
}

extension Catalog {
    /// Returns false when nothing had to change.
    mutating func apply(_ change: CatalogChange, now: String) -> Bool {
        switch change {
        case .add(let name, let tag, let key):
            repositories[name, default: Repository(updatedAt: now)].tags[tag] = key
            repositories[name]?.updatedAt = now
        case .remove(let name, let tag):
            guard repositories[name]?.tags.removeValue(forKey: tag) != nil else { return false }
            repositories[name]?.updatedAt = now
            if repositories[name]?.tags.isEmpty == true { repositories[name] = nil }
        }
        updatedAt = now
        return true
    }

    /// Whether the change is in effect here.
    func reflects(_ change: CatalogChange) -> Bool {
        switch change {
        case .add(let name, let tag, _): repositories[name]?.tags[tag] != nil
        case .remove(let name, let tag): repositories[name]?.tags[tag] == nil
        }
    }

    /// What turned `old` into this.
    func changes(since old: Catalog) -> [CatalogChange] {
        let (before, now) = (old.additions, additions)
        let removals = before.subtracting(now).compactMap { change -> CatalogChange? in
            guard case .add(let name, let tag, _) = change, repositories[name]?.tags[tag] == nil else { return nil }
            return .remove(name: name, tag: tag)
        }
        return removals + now.subtracting(before)
    }

    /// What makes this of an empty catalog.
    private var additions: Set<CatalogChange> {
        var additions: Set<CatalogChange> = []
        for (name, repository) in repositories {
            for (tag, key) in repository.tags { additions.insert(.add(name: name, tag: tag, key: key)) }
        }
        return additions
    }
}
