internal import HTTPClient
internal import Synchronization
internal import System
internal import Threading

/// Waits where a registry says that it is asked too often, for a minute in which it says nothing else.
final class Patience: Sendable {
    private static let limit: Duration = .seconds(60)

    private let refusedSince = Mutex<ContinuousClock.Instant?>(nil)

    /// How long to wait before a request is sent again; `nil` when its answer stands.
    func pause(after response: Response) -> Duration? {
        let start = refusedSince.withLock { since in
            since = response.asksForPatience ? since ?? .now : nil
            return since
        }
        guard let start, .now - start < Self.limit else { return nil }
        let seconds =
            response.header("Retry-After").flatMap { Self.seconds($0, at: SystemTime().wallTime().seconds) } ?? 1
        return .seconds(min(max(seconds, 0.1), 30))
    }

    /// A number, or a date (RFC 9110, section 10.2.3).
    static func seconds(_ text: String, at now: Int64) -> Double? {
        Double(text) ?? WallTime(httpDate: text).map { Double($0.seconds - now) }
    }
}

extension Response {
    /// RFC 6585, section 4, and RFC 9110, section 15.6.4.
    var asksForPatience: Bool { status == 429 || status == 503 && header("Retry-After") != nil }
}

/// What is not measured is tried a few times: a registry that fails now and then can be measured all the same.
func insisting<Value>(
    on isTransient: (Failure) -> Bool = \.isTransient,
    _ body: () throws(Failure) -> Value
) throws(Failure) -> Value {
    for attempt in 0..<3 {
        do throws(Failure) {
            return try body()
        } catch {
            guard isTransient(error) else { throw error }
            pauseThread(.milliseconds(100 << (2 * attempt)))
        }
    }
    return try body()
}
