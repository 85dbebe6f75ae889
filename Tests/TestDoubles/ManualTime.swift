internal import Synchronization
public import System

/// A clock that a test moves by hand.
public final class ManualTime: TimeSource {
    private let nanoseconds = Mutex<UInt64>(1_000_000_000_000)

    public init() {}

    public func advance(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        nanoseconds.withLock { $0 += UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000) }
    }

    public func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }

    public func wallTime() -> WallTime {
        let now = monotonicNanoseconds()
        return WallTime(
            seconds: 1_776_932_130 + Int64(now / 1_000_000_000),
            nanoseconds: Int32(now % 1_000_000_000)
        )
    }
}
