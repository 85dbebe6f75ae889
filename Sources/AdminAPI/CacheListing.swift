internal import DiskTier
internal import EdgeCache
internal import OCI

extension CacheAdministration {
    /// `ls`: everything, page by page, so that a long list takes no memory here.
    func list(_ request: ParsedRequest, _ output: EventOutput) throws(CacheFailure) {
        for kind in request.kinds {
            switch kind {
            case .pin: if request.isPinned != false { try listPins(output) }
            case .fill: if request.isPinned != true { try listFills(output) }
            case .blob: try list(.blob, request, output)
            case .manifest: try list(.manifest, request, output)
            case .tag: try list(.tag, request, output)
            }
        }
    }

    private func listFills(_ output: EventOutput) throws(CacheFailure) {
        for fill in running?.fillsUnderWay ?? [] {
            let entry = CacheEvent.Entry(
                kind: .fill,
                digest: fill.digest.description,
                size: fill.size,
                availableBytes: fill.availableBytes
            )
            try output.send(.entry(entry))
        }
    }

    private func listPins(_ output: EventOutput) throws(CacheFailure) {
        try forEachPin { pin throws(CacheFailure) in
            try output.send(.entry(CacheEvent.Entry(kind: .pin, size: pin.bytes, name: pin.name, isPinned: true)))
        }
    }

    private func forEachPin(_ body: (Pin) throws(CacheFailure) -> Void) throws(CacheFailure) {
        var last: String?
        repeat {
            let pins = try onDisk { () throws(DiskTierError) in try tier.pins(after: last) }
            for pin in pins { try body(pin) }
            last = pins.last?.name
        } while last != nil
    }

    private func list(
        _ kind: InventoryKind,
        _ request: ParsedRequest,
        _ output: EventOutput
    ) throws(CacheFailure) {
        try forEachEntry(of: kind, in: request.repository) { entry throws(CacheFailure) in
            if let isPinned = request.isPinned, entry.isPinned != isPinned { return }
            output.done.add(entry)
            try output.send(.entry(CacheEvent.Entry(entry)))
        }
    }

    func forEachEntry(
        of kind: InventoryKind,
        in repository: RepositoryName? = nil,
        _ body: (InventoryEntry) throws(CacheFailure) -> Void
    ) throws(CacheFailure) {
        var cursor: InventoryCursor?
        repeat {
            let page = try onDisk { () throws(DiskTierError) in
                try tier.inventory(of: kind, in: repository, after: cursor)
            }
            for entry in page.entries { try body(entry) }
            cursor = page.next
        } while cursor != nil
    }
}

// MARK: - stat

extension CacheAdministration {
    /// `stat`: the whole, or each target.
    func describe(_ request: ParsedRequest, _ output: EventOutput) throws(CacheFailure) {
        if request.targets.isEmpty { return try output.send(.totals(totals())) }
        try output.forEach(request.targets) { target throws(CacheFailure) in
            switch target {
            case .digest(let digest):
                let entries = try entries(of: digest)
                if entries.isEmpty { throw CacheFailure(.failed, "it is not in the cache") }
                for entry in entries { try output.send(.entry(CacheEvent.Entry(entry))) }
            case .image(let name, let reference):
                let image = try contents(of: name, reference, request.platform)
                for missing in image.missing { try output.problem(target.description, missing) }
                for part in image.parts { try output.send(.part(describe(part, of: target))) }
            }
        }
    }

    /// A blob, or the manifests with this digest in whatever repositories.
    func entries(of digest: Digest) throws(CacheFailure) -> [InventoryEntry] {
        if let blob = try onDisk({ () throws(DiskTierError) in try tier.inventoryEntry(of: digest) }) { return [blob] }
        var found: [InventoryEntry] = []
        try forEachEntry(of: .manifest) { entry in
            if entry.digest == digest { found.append(entry) }
        }
        return found
    }

    private func describe(_ part: ImagePart, of target: CacheTarget) throws(CacheFailure) -> CacheEvent.Part {
        let isCached: Bool
        switch part.role {
        case .index(let name), .manifest(let name):
            isCached = try onDisk { () throws(DiskTierError) in
                try tier.manifest(repository: name, digest: part.digest) != nil
            }
        case .config, .layer:
            isCached = try onDisk { () throws(DiskTierError) in try tier.inventoryEntry(of: part.digest) != nil }
        }
        let isPinned = try onDisk { () throws(DiskTierError) in try tier.isPinned(part.item) }
        return CacheEvent.Part(
            image: target.description,
            role: part.role.name,
            digest: part.digest.description,
            size: part.size,
            isCached: isCached,
            isPinned: isPinned,
            platform: part.platform?.description
        )
    }

    private func totals() throws(CacheFailure) -> CacheEvent.Totals {
        // Until then the books count the worst; a server's move while it is asked.
        if running == nil { tier.waitUntilSettled() }
        let statistics = tier.statistics
        let inventory = try onDisk { () throws(DiskTierError) in try tier.inventoryTotals() }
        return CacheEvent.Totals(
            directory: tier.directory,
            ceilingBytes: ceilingBytes,
            usedBytes: statistics.usedBytes,
            reservedBytes: statistics.reservedBytes,
            volumeAvailableBytes: inventory.volumeAvailableBytes,
            volumeFloorBytes: volumeFloorBytes,
            indexBytes: statistics.indexBytes,
            indexLiveBytes: Int64(inventory.indexLiveBytes),
            indexMapBytes: Int64(inventory.indexMapBytes),
            blobFiles: inventory.blobFiles,
            inlineBlobs: inventory.inlineBlobs,
            manifests: inventory.manifests,
            tags: inventory.tags,
            pins: inventory.pins,
            pinnedBytes: statistics.pinnedBytes,
            evictedBlobs: running.map { _ in statistics.evictedBlobs },
            evictedBytes: running.map { _ in statistics.evictedBytes },
            fills: running?.fillsUnderWay.count,
            uploads: running?.openUploads,
            hits: running?.activitySoFar.hits,
            misses: running?.activitySoFar.misses
        )
    }
}

extension CacheEvent.Entry {
    init(_ entry: InventoryEntry) {
        kind = .blob
        digest = entry.digest.description
        size = entry.size
        isPinned = entry.isPinned
        isVerified = entry.isVerified
        switch entry.content {
        case .blob(let isInline): place = isInline ? "index" : "file"
        case .manifest(let repository):
            kind = .manifest
            name = "\(repository)@\(entry.digest)"
        case .tag(let repository, let tag):
            kind = .tag
            size = nil
            name = "\(repository):\(tag)"
        }
    }
}

extension CacheEvent.Done {
    mutating func add(_ entry: InventoryEntry) {
        switch entry.content {
        case .blob:
            blobs += 1
            bytes += entry.size
        case .manifest:
            manifests += 1
            bytes += entry.size
        case .tag: break
        }
    }
}
