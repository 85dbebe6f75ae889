internal import Synchronization
public import System

/// A clock that a test moves by hand.
public final class ManualTime: TimeSource {
    private let nanoseconds = Mutex<UInt64>(1_000_000_000_000)

    private let origin: Int64

    public init() { origin = 1_776_932_130 }

    /// A clock that says this now.
    public init(at moment: WallTime) { origin = moment.seconds - 1_000 }

    public func advance(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        nanoseconds.withLock { $0 += UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000) }
    }

    public func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }

    public func wallTime() -> WallTime {
        let now = monotonicNanoseconds()
        return WallTime(
            seconds: origin + Int64(now / 1_000_000_000),
            nanoseconds: Int32(now % 1_000_000_000)
        )
    }
}
