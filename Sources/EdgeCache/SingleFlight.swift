internal import Threading

/// Runs the same work once for all who ask for it at the same time.
final class SingleFlight<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private final class Flight: Sendable {
        let result = Monitor<Value?>(nil)
    }

    private let flights = Monitor<[Key: Flight]>([:])

    /// The result of `work`, or of the run of another thread that was under way already.
    func run(_ key: Key, _ work: () -> Value) -> Value {
        let (flight, isMine) = board(key)
        if isMine { land(flight, key, work()) }
        guard let value = flight.result.wait(for: { $0 }) else {
            preconditionFailure("waiting without a deadline ended")
        }
        return value
    }

    /// The same for one who waits no longer than `limit`: `nil` then, and the work goes on.
    func run(_ key: Key, within limit: Duration, _ work: @escaping @Sendable () -> Value) -> Value? {
        let (flight, isMine) = board(key)
        if isMine, !tryToSpawnThread(name: "flight", { [self] in land(flight, key, work()) }) {
            land(flight, key, work())
        }
        return flight.result.wait(until: .after(limit)) { $0 }
    }

    private func board(_ key: Key) -> (Flight, isMine: Bool) {
        flights.withLock { flights in
            if let running = flights[key] { return (running, false) }
            let flight = Flight()
            flights[key] = flight
            return (flight, true)
        }
    }

    private func land(_ flight: Flight, _ key: Key, _ value: Value) {
        flights.withLock { flights in
            if flights[key] === flight { flights[key] = nil }
        }
        flight.result.update { $0 = value }
    }

    /// Whoever asks from now on starts anew: what is under way may have looked before something was changed.
    func forget(_ key: Key) {
        flights.withLock { _ = $0.removeValue(forKey: key) }
    }
}
