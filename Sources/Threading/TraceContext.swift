/// The trace that the work of this thread belongs to (W3C Trace Context): it goes on to whatever is asked of the origin for it.
///
/// Threads and pool jobs that are started take it along.
public enum TraceContext {
    /// A `traceparent` header.
    @TaskLocal public static var current: String?

    /// `body`, with the context that this thread has now.
    static func carrying(_ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        guard let context = current else { return body }
        return { $current.withValue(context, operation: body) }
    }
}
