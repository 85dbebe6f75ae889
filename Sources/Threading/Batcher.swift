internal import Synchronization

/// Shares expensive work: one batch runs at a time, and whatever is asked for meanwhile goes into the next.
///
/// There is no thread of its own: the first who finds no batch running runs one, for itself and for all who wait.
public final class Batcher<Request: Sendable, Failure: Error>: Sendable {
    private enum Turn: Sendable {
        /// To run the next batch.
        case lead
        case done(Result<Void, Failure>)
    }

    /// Each waits by itself, so that nobody is woken in vain.
    private struct Ticket: Sendable {
        let request: Request
        let turn = Monitor<Turn?>(nil)
    }

    private struct Queue {
        var waiting: [Ticket] = []
        var isRunning = false
    }

    private let queue = Mutex(Queue())
    private let run: @Sendable ([Request]) -> [Result<Void, Failure>]

    /// - Parameter run: does the requests of one batch and returns a result for each, in their order. Called by one thread at a time.
    public init(_ run: @escaping @Sendable ([Request]) -> [Result<Void, Failure>]) {
        self.run = run
    }

    /// Returns once the request was part of a batch.
    public func perform(_ request: Request) throws(Failure) {
        let ticket = Ticket(request: request)
        let leads = queue.withLock { queue in
            queue.waiting.append(ticket)
            defer { queue.isRunning = true }
            return !queue.isRunning
        }
        let turn: Turn? = leads ? .lead : ticket.turn.wait { $0 }
        switch turn {
        case .done(let result): return try result.get()
        case .lead: return try runBatch().get()
        case nil: preconditionFailure("waiting without a deadline ended")
        }
    }

    /// Returns the result of the first, who is the caller.
    private func runBatch() -> Result<Void, Failure> {
        let batch = queue.withLock { queue in
            defer { queue.waiting = [] }
            return queue.waiting
        }
        let results = run(batch.map { $0.request })
        precondition(results.count == batch.count, "a batch needs a result for each request")
        let next = queue.withLock { queue in
            queue.isRunning = !queue.waiting.isEmpty
            return queue.waiting.first
        }
        next?.turn.update { $0 = .lead }
        for (ticket, result) in zip(batch, results).dropFirst() { ticket.turn.update { $0 = .done(result) } }
        return results[0]
    }
}
