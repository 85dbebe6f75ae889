internal import Synchronization
public import System

/// How a store fares, for readiness and metrics.
public struct StoreHealth: Sendable, Equatable {
    public enum State: Sendable, Equatable {
        case up
        /// Requests fail at once; one is let through to try again after this.
        case down(retryAfterSeconds: Int)
        /// One request tries whether the store is back; the others fail at once.
        case probing
    }

    public var state = State.up
    /// When it went down; `nil` while it is up.
    public var downSince: WallTime?
    /// What made it count as down, as the log has it.
    public var cause: String?
    /// Since the start: how often it went down.
    public var outages = 0
    /// Since the start: requests sent again, and those that were not because too many had been.
    public var retries = 0
    public var retriesDenied = 0
    /// `nil` for a store without a network.
    public var connections: Connections?

    public struct Connections: Sendable, Equatable {
        /// Since the start.
        public var opened: Int
        /// By a request that is under way, or kept for the next one.
        public var inUse: Int
        public var idle: Int

        public init(opened: Int, inUse: Int, idle: Int) {
            (self.opened, self.inUse, self.idle) = (opened, inUse, idle)
        }
    }

    public init() {}
}

extension ObjectStore {
    public func check() throws(StoreError) { try check(isCancelled: { false }) }

    /// A store that is never looked at is up.
    public var health: StoreHealth { StoreHealth() }
    public var availability: StoreAvailability { .always }
}

/// Whether a store counts as down, or has never answered yet, for whoever has to know it for each answer: a relaxed load.
public final class StoreAvailability: Sendable {
    static let always = StoreAvailability(isDown: false)

    private let down: Atomic<Bool>

    package init(isDown: Bool) { down = Atomic(isDown) }

    public var isDown: Bool { down.load(ordering: .relaxed) }

    /// Returns what it was.
    @discardableResult
    package func set(isDown: Bool) -> Bool { down.exchange(isDown, ordering: .relaxed) }
}

/// Something that an operator should know about a store. Each is told when it comes about, not for each request.
public enum StoreEvent: Sendable, CustomStringConvertible {
    /// The store counts as down: requests fail at once from now on.
    case wentDown(cause: StoreError)
    case cameBack(afterSeconds: Int64)
    /// The store would have fewer requests, and what was asked of it failed for that: told once a minute.
    case throttles(StoreError)
    /// The bucket is in another region than was configured.
    case moved(from: S3Endpoint, to: S3Endpoint)
    /// Requests are signed with this machine's clock and so many seconds more: none when it is right again.
    case clockCorrected(offsetSeconds: Int64)
    /// Requests are signed with what this source gave, until it ends.
    case credentials(source: String, until: WallTime?)
    /// A source of credentials could not be used; what it gave before is used as long as it is valid.
    case credentialsFailed(reason: String)

    /// Worth a warning, not just a note.
    public var isTrouble: Bool {
        switch self {
        case .wentDown, .throttles, .moved, .credentialsFailed: true
        case .clockCorrected(let seconds): seconds != 0
        case .cameBack, .credentials: false
        }
    }

    public var description: String {
        switch self {
        case .wentDown(let cause):
            "the origin is down: until it is back, what is cached is served and the rest is refused; check its service and the network; "
                + "last error: \(cause)"
        case .throttles(let error):
            "the origin wants fewer requests: what it refuses is refused here; raise its limits, or lower s3-connection-limit; last error: \(error)"
        case .cameBack(let seconds): "the origin is back after \(seconds) s"
        case .moved(let from, let to):
            "the bucket is in region \(to.region), not in \(from.region): requests go to \(to) from now on; set s3-region to \(to.region)"
        case .clockCorrected(offsetSeconds: 0):
            "this machine's clock agrees with the store's again: requests are signed with its time"
        case .clockCorrected(let seconds):
            "this machine's clock differs from the store's by \(seconds) s: requests are signed with the store's time; set the clock"
        case .credentials(let source, let end?): "credentials from \(source), valid until \(end.rfc3339)"
        case .credentials(let source, nil): "credentials from \(source)"
        case .credentialsFailed(let reason): reason
        }
    }
}
