public import DiskTier
public import EdgeCache
internal import OCI
internal import System

/// Carries out ``CacheRequest``s on a cache, telling of each thing as it happens.
///
/// Safe to use from many threads; ``run(_:emit:)`` blocks until the work is done.
public final class CacheAdministration: Sendable {
    let tier: DiskTier
    /// Of a running server; `nil` for a stopped one's directory.
    let running: EdgeCache?
    /// The ceiling that a server has or will have, and what it leaves of the file system to others.
    let ceilingBytes: Int64
    let volumeFloorBytes: Int64
    private let openEdge: @Sendable () throws(CacheFailure) -> EdgeCache

    /// For a running server.
    public init(tier: DiskTier, edge: EdgeCache) {
        self.tier = tier
        running = edge
        ceilingBytes = tier.statistics.ceilingBytes
        volumeFloorBytes = tier.minimumFreeBytes
        openEdge = { edge }
    }

    /// For a stopped one's directory.
    ///
    /// - Parameters:
    ///   - ceilingBytes, volumeFloorBytes: what a server on it would have.
    ///   - openEdge: makes what reaches the origin; called only for what cannot be known without it.
    public init(
        stopped tier: DiskTier,
        ceilingBytes: Int64,
        volumeFloorBytes: Int64,
        openEdge: @escaping @Sendable () throws(CacheFailure) -> EdgeCache
    ) {
        self.tier = tier
        running = nil
        self.ceilingBytes = ceilingBytes
        self.volumeFloorBytes = volumeFloorBytes
        self.openEdge = openEdge
    }

    /// Does what is asked. Everything that there is to say goes to `emit`, errors too; when it returns false, the work ends.
    public func run(_ request: CacheRequest, emit: (CacheEvent) -> Bool) {
        do throws(CacheFailure) {
            try run(ParsedRequest(request), emit)
        } catch {
            _ = emit(.error(error))
        }
    }

    func run(_ request: ParsedRequest, _ emit: (CacheEvent) -> Bool) throws(CacheFailure) {
        let done = try withoutActuallyEscaping(emit) { emit throws(CacheFailure) in
            let output = EventOutput(emit)
            switch request.operation {
            case .ls: try list(request, output)
            case .stat: try describe(request, output)
            case .prewarm: try prewarm(request, output)
            case .verify: try verify(request, output)
            case .pin, .unpin, .evict: try change(request, output)
            }
            return output.done
        }
        _ = emit(.done(done))
    }

    func edge() throws(CacheFailure) -> EdgeCache { try openEdge() }

    func onDisk<Answer>(_ body: () throws(DiskTierError) -> Answer) throws(CacheFailure) -> Answer {
        do throws(DiskTierError) {
            return try body()
        } catch {
            throw CacheFailure(.failed, "\(error)")
        }
    }
}

/// Where a request's events go, and what they sum up to.
final class EventOutput {
    var done = CacheEvent.Done()
    private let emit: (CacheEvent) -> Bool

    init(_ emit: @escaping (CacheEvent) -> Bool) {
        self.emit = emit
    }

    func send(_ event: CacheEvent) throws(CacheFailure) {
        guard emit(event) else { throw CacheFailure(.cancelled, "cancelled") }
    }

    /// What comes next is tried all the same.
    func problem(_ what: String, _ reason: String) throws(CacheFailure) {
        done.problems += 1
        try send(.problem(what, reason))
    }

    /// Does something for each target; what fails for one is a problem of that one.
    func forEach(_ targets: [CacheTarget], _ body: (CacheTarget) throws(CacheFailure) -> Void) throws(CacheFailure) {
        for target in targets {
            do throws(CacheFailure) {
                try body(target)
            } catch {
                guard error.kind != .cancelled else { throw error }
                try problem(target.description, error.message)
            }
        }
    }
}
