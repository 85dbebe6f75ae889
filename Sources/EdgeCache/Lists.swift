public import DiskTier
internal import Logging
internal import OCI
internal import Registry
internal import System

/// A part of a list of names, in lexical order.
public struct NamesAnswer: Sendable {
    public let names: [String]
    /// Further names follow.
    public let hasMore: Bool
    /// Seconds since the origin was asked, when it is down now and the list may be stale; else `nil`.
    public let staleSeconds: Int64?
}

extension EdgeCache {
    /// A page of a repository's tags, or of all repositories that have a tag; `nil` when the repository is unknown.
    ///
    /// As tags are, a list is believed for ``Configuration/tagTTL``, and while the origin is down for ``Configuration/staleIfError``. What this
    /// node changes itself is seen at once.
    ///
    /// - Parameters:
    ///   - last: only names after this one, which need not be in the list.
    ///   - limit: how many at most; `nil` for all.
    public func names(_ list: NameList, after last: String?, limit: Int?) throws(EdgeError) -> NamesAnswer? {
        let cached = cachedPage(list, last, limit)
        if let cached, age(since: cached.checkedAt) < configuration.tagTTL { return NamesAnswer(cached) }
        do throws(EdgeError) {
            guard let all = try listFlights.run(list, { Result { () throws(EdgeError) in try fetch(list) } }).get()
            else {
                return nil
            }
            return page(all, after: last, limit: limit)
        } catch {
            guard let cached, age(since: cached.checkedAt) < configuration.staleIfError else { throw error }
            log.warning("serving a stale list", metadata: ["list": "\(list)", "error": "\(error)"])
            return NamesAnswer(cached, staleSeconds: age(since: cached.checkedAt).components.seconds)
        }
    }

    /// Names of a repository were added or removed here.
    func forgetLists(_ name: RepositoryName) {
        for list in [NameList.tags(name), .repositories] {
            listFlights.forget(list)
            keep("\(list)") { () throws(DiskTierError) in
                try tier.forget(list)
                return true
            }
        }
    }

    private func fetch(_ list: NameList) throws(EdgeError) -> [String]? {
        let stamp = tier.listStamp()
        let names: [String]? = try atOrigin { () throws(RegistryError) in
            switch list {
            case .tags(let name): try registry.tagsIfPresent(name: name)?.map(\.description)
            case .repositories: try registry.catalog().repositories.keys.sorted()
            }
        }
        if let names, configuration.tagTTL > .zero || configuration.staleIfError > .zero {
            keep("\(list)") { () throws(DiskTierError) in
                try tier.record(list, names, checkedAt: time.wallTime(), since: stamp)
            }
        }
        return names
    }

    private func cachedPage(_ list: NameList, _ last: String?, _ limit: Int?) -> NamePage? {
        do throws(DiskTierError) {
            return try tier.page(of: list, after: last, limit: limit)
        } catch {
            tier.note(error)
            return nil
        }
    }

    private func page(_ names: [String], after last: String?, limit: Int?) -> NamesAnswer {
        let start = last.map { last in names.firstIndex { $0 > last } ?? names.count } ?? 0
        let shown = names[start...].prefix(limit ?? .max)
        return NamesAnswer(names: Array(shown), hasMore: shown.endIndex < names.count, staleSeconds: nil)
    }
}

extension NamesAnswer {
    fileprivate init(_ page: NamePage, staleSeconds: Int64? = nil) {
        self.init(names: page.names, hasMore: page.hasMore, staleSeconds: staleSeconds)
    }
}
