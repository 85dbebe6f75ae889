internal import DiskTier
internal import OCI

extension CacheAdministration {
    /// `pin`, `unpin`, `evict`: each target for itself.
    func change(_ request: ParsedRequest, _ output: EventOutput) throws(CacheFailure) {
        try output.forEach(request.targets) { target throws(CacheFailure) in
            switch request.operation {
            case .unpin: try unpin(target, request.platform, output)
            case .evict: try evict(target, request.platform, output)
            default: try pin(target, request.platform, output)
            }
        }
    }

    /// Pins everything of a target under its pin's name.
    ///
    /// - Parameter sizes: of blobs that may have found no room here.
    func pin(
        _ target: CacheTarget,
        _ platform: Platform?,
        _ output: EventOutput,
        _ sizes: [Digest: Int64] = [:]
    ) throws(CacheFailure) {
        let items = try items(of: target, platform, output, sizes).all
        try onDisk { () throws(DiskTierError) in try tier.pin(target.pinName(platform), items) }
        output.done.add(items)
    }

    private func unpin(_ target: CacheTarget, _ platform: Platform?, _ output: EventOutput) throws(CacheFailure) {
        let pins = try onDisk { () throws(DiskTierError) in
            try pinNames(of: target, platform).map { name throws(DiskTierError) in try tier.unpin(name) }
        }.compactMap(\.self)
        guard !pins.isEmpty else {
            throw CacheFailure(.failed, "there is no such pin; `forebay cache ls --kind pin` lists them")
        }
        // What several of them held was one piece of content.
        output.done.add(Array(Set(pins.flatMap(\.items))))
    }

    /// Without a platform, all pins of an image: those of its platforms follow its own.
    private func pinNames(of target: CacheTarget, _ platform: Platform?) throws(DiskTierError) -> [String] {
        let name = target.pinName(platform)
        guard platform == nil else { return [name] }
        return [name] + (try tier.pins(after: name)).map(\.name).prefix { $0.hasPrefix("\(name) (") }
    }

    private func evict(_ target: CacheTarget, _ platform: Platform?, _ output: EventOutput) throws(CacheFailure) {
        let image = try items(of: target, platform, output)
        let evicted = try onDisk { () throws(DiskTierError) in try tier.evict(image.all.map(\.item)) }
        let gone = evicted.items.filter { !image.fetched.contains($0) }
        guard !gone.isEmpty || !evicted.pinned.isEmpty else {
            throw CacheFailure(.failed, "nothing of it is in the cache")
        }
        output.done.add(gone.map { PinnedItem($0) })
        output.done.bytes += evicted.bytes
        for item in evicted.pinned { try output.problem(item.description, "it is pinned, and stays; unpin it first") }
    }

    /// What a target stands for; `fetched` was not here before it was asked for. A digest is a blob, or manifests in whatever repositories.
    func items(
        of target: CacheTarget,
        _ platform: Platform?,
        _ output: EventOutput,
        _ sizes: [Digest: Int64] = [:]
    ) throws(CacheFailure) -> (all: [PinnedItem], fetched: Set<TierItem>) {
        switch target {
        case .digest(let digest):
            let manifests: [PinnedItem] = try entries(of: digest).compactMap { entry in
                guard case .manifest(let name) = entry.content else { return nil }
                return PinnedItem(.manifest(name, digest), size: entry.size)
            }
            if !manifests.isEmpty { return (manifests, []) }
            let size = try onDisk { () throws(DiskTierError) in try tier.size(of: digest) }
            return ([PinnedItem(.blob(digest), size: size ?? sizes[digest])], [])
        case .image(let name, let reference):
            let image = try contents(of: name, reference, platform)
            for missing in image.missing { try output.problem(target.description, missing) }
            let fetched = image.parts.filter(\.isFetched).map(\.item)
            return (image.parts.map { PinnedItem($0.item, size: $0.size) }, Set(fetched))
        }
    }
}

extension CacheTarget {
    /// What a pin of it is called: its own text, with the platform where a pin holds only an image's children for that.
    fileprivate func pinName(_ platform: Platform?) -> String {
        guard case .image = self, let platform else { return description }
        return "\(self) (\(platform))"
    }
}

extension ImagePart {
    var item: TierItem {
        switch role {
        case .index(let name), .manifest(let name): .manifest(name, digest)
        case .config, .layer: .blob(digest)
        }
    }
}

extension CacheEvent.Done {
    fileprivate mutating func add(_ items: [PinnedItem]) {
        for item in items {
            if case .blob = item.item { blobs += 1 } else { manifests += 1 }
            bytes += item.size ?? 0
        }
    }
}
