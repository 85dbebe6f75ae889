internal import DiskTier
internal import EdgeCache
internal import OCI
internal import System
internal import Threading

extension CacheAdministration {
    /// Blobs that one request fetches at once.
    private static let prewarmThreads = 4
    /// Between two words on how far it has come.
    private static let progressInterval: Duration = .milliseconds(500)

    /// `prewarm`: fetches what is missing of images and blobs, as a client that asks for them would.
    func prewarm(_ request: ParsedRequest, _ output: EventOutput) throws(CacheFailure) {
        let edge = try edge()
        var wanted: [(digest: Digest, size: Int64)] = []
        var seen: Set<Digest> = []
        try output.forEach(request.targets) { target throws(CacheFailure) in
            switch target {
            case .digest(let digest):
                guard let size = try atEdge({ () throws(EdgeError) in try edge.sizeAnew(digest) }) else {
                    throw CacheFailure(.failed, "there is no such blob, \(try nowhere())")
                }
                if seen.insert(digest).inserted { wanted.append((digest, size)) }
            case .image(let name, let reference):
                let image = try contents(of: name, reference, request.platform, from: .asServed)
                for missing in image.missing { try output.problem(target.description, missing) }
                output.done.manifests += image.parts.count - image.blobs.count
                for blob in image.blobs where seen.insert(blob.digest).inserted {
                    wanted.append((blob.digest, blob.size))
                }
            }
        }
        try fetch(wanted, edge, output)
        guard request.pins else { return }
        let fetched = output.done
        let sizes = Dictionary(uniqueKeysWithValues: wanted.map { ($0.digest, $0.size) })
        try output.forEach(request.targets) { target throws(CacheFailure) in
            try pin(target, request.platform, output, sizes)
        }
        (output.done.blobs, output.done.bytes, output.done.manifests) = (
            fetched.blobs, fetched.bytes, fetched.manifests
        )
    }

    private func fetch(
        _ wanted: [(digest: Digest, size: Int64)],
        _ edge: EdgeCache,
        _ output: EventOutput
    ) throws(CacheFailure) {
        let work = PrewarmWork(wanted, edge, tier)
        for _ in 0..<min(Self.prewarmThreads, wanted.count) { spawnThread(name: "prewarm") { work.run() } }
        do throws(CacheFailure) {
            while true {
                let (progress, problems, isDone) = work.news(within: Self.progressInterval)
                for problem in problems { try output.problem(problem.what, problem.reason) }
                try output.send(.progress(progress))
                if isDone { break }
            }
        } catch {
            work.cancel()
            throw error
        }
        work.sumUp(&output.done)
    }

    private func atEdge<Answer>(_ body: () throws(EdgeError) -> Answer) throws(CacheFailure) -> Answer {
        do throws(EdgeError) {
            return try body()
        } catch {
            throw CacheFailure(.failed, "\(error)")
        }
    }
}

/// Blobs that several threads fetch.
private final class PrewarmWork: Sendable {
    private struct State {
        var next = 0
        var finished = 0
        /// Of those, the ones that are here now.
        var good = 0
        var goodBytes: Int64 = 0
        /// Read so far, also of what comes to nothing.
        var bytes: Int64 = 0
        /// What of the good ones was here before.
        var presentBlobs = 0
        var presentBytes: Int64 = 0
        var problems: [CacheEvent.Problem] = []
        var isCancelled = false

        mutating func addPresent(_ bytes: Int64) {
            presentBlobs += 1
            presentBytes += bytes
        }
    }

    private let wanted: [(digest: Digest, size: Int64)]
    private let totalBytes: Int64
    private let edge: EdgeCache
    private let tier: DiskTier
    private let state = Monitor(State())

    init(_ wanted: [(digest: Digest, size: Int64)], _ edge: EdgeCache, _ tier: DiskTier) {
        self.wanted = wanted
        self.edge = edge
        self.tier = tier
        totalBytes = wanted.reduce(0) { $0 + $1.size }
    }

    func cancel() { state.update { $0.isCancelled = true } }

    func run() {
        while true {
            let index: Int? = state.withLock { state in
                guard !state.isCancelled, state.next < wanted.count else { return nil }
                defer { state.next += 1 }
                return state.next
            }
            guard let index else { return }
            let reason = fetch(wanted[index].digest)
            state.update { state in
                state.finished += 1
                if let reason {
                    state.problems.append(CacheEvent.Problem(what: wanted[index].digest.description, reason: reason))
                } else {
                    state.good += 1
                }
            }
        }
    }

    /// What has happened since the last call: waits for the end, but no longer than `limit`.
    func news(
        within limit: Duration
    ) -> (progress: CacheEvent.Progress, problems: [CacheEvent.Problem], isDone: Bool) {
        let deadline = Deadline.after(limit)
        _ = state.wait(until: deadline) { $0.finished == wanted.count ? true : nil }
        return state.withLock { state in
            defer { state.problems = [] }
            var progress = CacheEvent.Progress()
            progress.bytes = state.bytes
            progress.totalBytes = totalBytes
            progress.blobs = state.good
            progress.totalBlobs = wanted.count
            return (progress, state.problems, state.finished == wanted.count)
        }
    }

    func sumUp(_ done: inout CacheEvent.Done) {
        state.withLock { state in
            (done.blobs, done.bytes) = (state.good - state.presentBlobs, state.goodBytes - state.presentBytes)
            (done.presentBlobs, done.presentBytes) = (state.presentBlobs, state.presentBytes)
        }
    }

    /// Whoever asks for it here says that it is there, whatever the origin said a moment ago.
    private func found(_ digest: Digest, _ status: inout CacheStatus) throws(EdgeError) -> BlobContent? {
        if let content = try edge.find(digest, noting: { status = $0 }) { return content }
        return try edge.sizeAnew(digest) == nil ? nil : edge.blob(digest)
    }

    /// Reads the blob as a client does, until the tier has it; why it has not in the end, or `nil`.
    private func fetch(_ digest: Digest) -> String? {
        do {
            var status = CacheStatus.miss
            guard let content = try found(digest, &status) else { return "there is no such blob at the origin" }
            if case .stream(let stream, let size) = content {
                if let reason = try read(stream, of: content) { return reason }
                edge.waitForFill(of: digest)
                if try tier.size(of: digest) == nil { return noRoom(for: size) }
            } else {
                state.withLock { $0.bytes += content.size }
            }
            state.withLock { state in
                state.goodBytes += content.size
                if status == .hit { state.addPresent(content.size) }
            }
            return nil
        } catch {
            return "\(error)"
        }
    }

    /// Reads to the end; why not, or `nil`.
    private func read(_ stream: any BlobStream, of content: BlobContent) throws(EdgeError) -> String? {
        var offset: Int64 = 0
        while offset < content.size {
            if state.withLock({ $0.isCancelled }) { return "cancelled" }
            if content.isPassing { return noRoom(for: content.size) }
            let piece = try [UInt8](capacity: 1 << 20) { (buffer: inout OutputSpan<UInt8>) throws(EdgeError) in
                try stream.read(at: offset, into: &buffer)
            }
            offset += Int64(piece.count)
            state.withLock { $0.bytes += Int64(piece.count) }
        }
        return nil
    }

    private func noRoom(for size: Int64) -> String {
        let ceiling = tier.statistics.ceilingBytes
        guard size > ceiling else { return "the cache has no room for it" }
        return "\(DiskTierError.neverFits(bytes: size, ceilingBytes: ceiling))"
    }
}
