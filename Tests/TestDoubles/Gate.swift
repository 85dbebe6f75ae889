import Threading

/// Holds threads until a test lets them go.
public final class Gate: Sendable {
    private let state = Monitor((arrived: 0, isOpen: false))

    public init() {}

    public func pass() {
        state.update { $0.arrived += 1 }
        _ = state.wait { $0.isOpen ? true : nil }
    }

    public func open() { state.update { $0.isOpen = true } }

    public func waitForArrivals(_ count: Int = 1) {
        _ = state.wait { $0.arrived >= count ? true : nil }
    }
}
