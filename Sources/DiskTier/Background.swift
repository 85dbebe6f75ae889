internal import Threading

/// The tier's own threads. They do not keep it alive, and ``stop()`` waits for them.
final class Background: Sendable {
    private struct State {
        var running = 0
        var isStopping = false
        var isPressed = false
    }

    private let state = Monitor(State())

    /// False when the tier is about to end; nothing runs then.
    func start(_ name: String, _ tier: DiskTier, _ body: @escaping @Sendable (DiskTier) -> Void) -> Bool {
        let isStarted = state.withLock { state in
            if !state.isStopping { state.running += 1 }
            return !state.isStopping
        }
        guard isStarted else { return false }
        spawnThread(name: name) { [weak tier, self] in
            Self.run(tier, body)
            state.update { $0.running -= 1 }
        }
        return true
    }

    /// The tier is released when this returns.
    private static func run(_ tier: consuming DiskTier?, _ body: (DiskTier) -> Void) {
        if let tier { body(tier) }
    }

    var isStopping: Bool { state.withLock { $0.isStopping } }

    /// Pauses a background thread; false when it is to end.
    func pause(_ duration: Duration) -> Bool {
        state.wait(until: .after(duration)) { $0.isStopping ? false : nil } ?? true
    }

    /// Waits for ``press()``; false when the thread is to end.
    func waitForPressure() -> Bool {
        let isPressed: Bool? = state.wait { state in
            if state.isStopping { return false }
            guard state.isPressed else { return nil }
            state.isPressed = false
            return true
        }
        return isPressed ?? false
    }

    /// The tier is above its high watermark.
    func press() {
        let isNew = state.withLock { !$0.isPressed }
        if isNew { state.update { $0.isPressed = true } }
    }

    func stop() {
        state.update { $0.isStopping = true }
        _ = state.wait { $0.running == 0 ? true : nil }
    }
}
