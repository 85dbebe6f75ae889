/// The trace that the work of this thread belongs to (W3C Trace Context): it goes on to whatever is asked of the origin for it.
///
/// Threads and pool jobs that are started take it along.
public struct TraceContext: Sendable, Equatable {
    /// A `traceparent` header.
    public let parent: String
    /// The `tracestate` that came with it, empty where there was none.
    public let state: String

    @TaskLocal public static var current: TraceContext?

    public init(parent: String, state: String = "") {
        self.parent = parent
        self.state = state
    }

    /// `body`, with the context that this thread has now.
    static func carrying(_ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        guard let context = current else { return body }
        return { $current.withValue(context, operation: body) }
    }
}
