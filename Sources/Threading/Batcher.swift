/// Shares expensive work: one batch runs at a time, and whatever is asked for meanwhile goes into the next.
///
/// There is no thread of its own: the first who finds no batch running runs one, for itself and for all who wait.
public final class Batcher<Request: Sendable, Failure: Error>: Sendable {
    /// Sendable because `result` is only touched with the queue's monitor held.
    private final class Ticket: @unchecked Sendable {
        let request: Request
        var result: Result<Void, Failure>?

        init(_ request: Request) { self.request = request }
    }

    private struct Queue {
        var waiting: [Ticket] = []
        var isRunning = false
    }

    private enum Turn {
        case done(Result<Void, Failure>)
        case run([Ticket])
    }

    private let queue = Monitor(Queue())
    private let run: @Sendable ([Request]) -> [Result<Void, Failure>]

    /// - Parameter run: does the requests of one batch and returns a result for each, in their order. Called by one thread at a time.
    public init(_ run: @escaping @Sendable ([Request]) -> [Result<Void, Failure>]) {
        self.run = run
    }

    /// Returns once the request was part of a batch.
    public func perform(_ request: Request) throws(Failure) {
        let ticket = Ticket(request)
        queue.withLock { $0.waiting.append(ticket) }
        while true {
            let turn: Turn? = queue.wait { queue in
                if let result = ticket.result { return .done(result) }
                guard !queue.isRunning else { return nil }
                queue.isRunning = true
                defer { queue.waiting = [] }
                return .run(queue.waiting)
            }
            switch turn {
            case .done(let result):
                return try result.get()
            case .run(let batch):
                let results = run(batch.map(\.request))
                precondition(results.count == batch.count, "a batch needs a result for each request")
                queue.update { queue in
                    queue.isRunning = false
                    for (ticket, result) in zip(batch, results) { ticket.result = result }
                }
            case nil:
                preconditionFailure("waiting without a deadline ended")
            }
        }
    }
}
