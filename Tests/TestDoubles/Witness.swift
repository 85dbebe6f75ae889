public import Threading

/// Tells when the last reference to it has gone.
public final class Witness: Sendable {
    private let isGone: Monitor<Bool>

    public init(_ isGone: Monitor<Bool>) { self.isGone = isGone }

    deinit { isGone.update { $0 = true } }
}
