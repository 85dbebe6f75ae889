internal import HTTPClient
internal import Synchronization
internal import System

/// How much the clock of a service that hands out credentials is ahead of this machine's, as its answers tell. Whoever says when credentials
/// end says so by it.
final class ServiceClock: Sendable {
    private let offset = Atomic<Int64>(0)

    /// Nothing where the clocks differ by no more than what the network takes.
    var offsetSeconds: Int64 { offset.load(ordering: .relaxed) }

    func set(by response: Response, _ time: any TimeSource) {
        guard let date = response.header("Date").flatMap({ WallTime(httpDate: $0) }) else { return }
        let difference = date.seconds - time.wallTime().seconds
        offset.store(abs(difference) > S3Limits.clockToleranceSeconds ? difference : 0, ordering: .relaxed)
    }

    /// The beginning of a message about what may be the clock's fault.
    var warning: String {
        offsetSeconds == 0 ? "" : "this machine's clock differs from the service's by \(offsetSeconds) s, set it; "
    }
}
