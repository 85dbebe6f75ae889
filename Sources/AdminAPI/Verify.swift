internal import DiskTier
internal import Hashing
internal import OCI
internal import System

extension CacheAdministration {
    /// `verify`: hashes the targets, or everything, again. What is damaged leaves the cache.
    func verify(_ request: ParsedRequest, _ output: EventOutput) throws(CacheFailure) {
        let meter = ProgressMeter(output)
        if request.targets.isEmpty { return try verifyAll(meter, output) }
        var wanted: [(item: TierItem, size: Int64)] = []
        var seen: Set<TierItem> = []
        try output.forEach(request.targets) { target throws(CacheFailure) in
            for item in try items(of: target, request.platform, output).all where seen.insert(item.item).inserted {
                guard let size = try size(of: item.item) else {
                    // Of an image, a part may well be elsewhere.
                    if case .digest = target { throw CacheFailure(.failed, "it is not in the cache") }
                    continue
                }
                wanted.append((item.item, size))
            }
        }
        try meter.begin(blobs: wanted.count(where: { $0.item.isBlob }), bytes: wanted.reduce(0) { $0 + $1.size })
        let verification = tier.verification()
        for (item, size) in wanted { try verify(item, size, verification, meter, output) }
        try meter.end()
    }

    private static let hashedKinds = [InventoryKind.blob, .manifest]

    private func verifyAll(_ meter: ProgressMeter, _ output: EventOutput) throws(CacheFailure) {
        var (count, bytes) = (0, Int64(0))
        for kind in Self.hashedKinds {
            try forEachEntry(of: kind) { entry in
                if kind == .blob { count += 1 }
                bytes += entry.size
            }
        }
        try meter.begin(blobs: count, bytes: bytes)
        let verification = tier.verification()
        for kind in Self.hashedKinds {
            try forEachEntry(of: kind) { entry throws(CacheFailure) in
                let item: TierItem =
                    if case .manifest(let name) = entry.content { .manifest(name, entry.digest) } else {
                        .blob(entry.digest)
                    }
                try verify(item, entry.size, verification, meter, output)
            }
        }
        try meter.end()
    }

    private func verify(
        _ item: TierItem,
        _ size: Int64,
        _ verification: Verification,
        _ meter: ProgressMeter,
        _ output: EventOutput
    ) throws(CacheFailure) {
        let outcome = try onDisk { () throws(DiskTierError) in try self.outcome(for: item, verification) }
        switch outcome {
        case .verdict(.verified):
            output.done.bytes += size
            if item.isBlob { output.done.blobs += 1 } else { output.done.manifests += 1 }
        case .verdict(.damaged):
            try output.problem(
                item.description,
                "damaged; it was taken out of the cache, and is fetched again when asked for"
            )
        case .verdict(.missing):
            try output.problem(item.description, "its file is gone; it is fetched again when asked for")
        // Evicted since it was listed.
        case .verdict(.unknown): break
        case .unread(let error): try output.problem(item.description, "not verified: \(error)")
        }
        try meter.add(item, size)
    }

    private enum Outcome {
        case verdict(Verdict)
        /// One that cannot be read at this moment keeps the others from nothing.
        case unread(FileError)
    }

    private func outcome(for item: TierItem, _ verification: Verification) throws(DiskTierError) -> Outcome {
        do throws(DiskTierError) {
            return .verdict(try verdict(on: item, verification))
        } catch {
            guard case .file(let reason) = error else { throw error }
            return .unread(reason)
        }
    }

    private func verdict(on item: TierItem, _ verification: Verification) throws(DiskTierError) -> Verdict {
        switch item {
        case .blob(let digest): return try verification.verify(digest)
        case .manifest(let name, let digest): return try tier.verify(manifest: digest, repository: name)
        }
    }

    private func size(of item: TierItem) throws(CacheFailure) -> Int64? {
        try onDisk { () throws(DiskTierError) in
            switch item {
            case .blob(let digest): try tier.inventoryEntry(of: digest)?.size
            case .manifest(let name, let digest):
                try tier.manifest(repository: name, digest: digest).map { Int64($0.bytes.count) }
            }
        }
    }
}

extension TierItem {
    fileprivate var isBlob: Bool { if case .blob = self { true } else { false } }
}

/// Tells how far work has come, now and then.
private final class ProgressMeter {
    private static let interval: Duration = .milliseconds(500)

    private let output: EventOutput
    private var progress = CacheEvent.Progress()
    private var last = ContinuousClock.now

    init(_ output: EventOutput) {
        self.output = output
    }

    func begin(blobs: Int, bytes: Int64) throws(CacheFailure) {
        progress.totalBlobs = blobs
        progress.totalBytes = bytes
        try output.send(.progress(progress))
    }

    func add(_ item: TierItem, _ bytes: Int64) throws(CacheFailure) {
        if item.isBlob { progress.blobs += 1 }
        progress.bytes += bytes
        progress.totalBlobs = max(progress.totalBlobs, progress.blobs)
        progress.totalBytes = max(progress.totalBytes, progress.bytes)
        let now = ContinuousClock.now
        guard now - last >= Self.interval else { return }
        last = now
        try output.send(.progress(progress))
    }

    /// What came or went meanwhile makes the total another: the end is always the whole.
    func end() throws(CacheFailure) {
        (progress.totalBlobs, progress.totalBytes) = (progress.blobs, progress.bytes)
        try output.send(.progress(progress))
    }
}
