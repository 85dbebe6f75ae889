/// A queue of at most `limit` elements between threads.
public final class BoundedQueue<Element: Sendable>: Sendable {
    private struct State {
        /// Empty before the head: what was taken is not held.
        var elements: [Element?] = []
        var head = 0
        /// How many of those at the head are urgent.
        var urgent = 0
        /// Taken, and not through yet.
        var inHand = 0
        var closed = false
        var count: Int { elements.count - head }
    }

    private let limit: Int
    private let ordinaryLimit: Int
    private let state = Monitor(State())

    /// - Parameter ordinaryLimit: elements that are not urgent are only taken while fewer than so many are in hand, those that were taken and
    ///   for which nobody has called ``finish()``.
    public init(limit: Int, ordinaryLimit: Int = .max) {
        precondition(limit > 0 && ordinaryLimit > 0)
        self.limit = limit
        self.ordinaryLimit = ordinaryLimit
    }

    public var count: Int { state.withLock { $0.count } }

    /// False when the queue is full or closed. Urgent elements are taken before the others.
    public func offer(_ element: Element, urgent: Bool = false) -> Bool {
        state.update { state in
            guard !state.closed, state.count < limit else { return false }
            if urgent {
                state.elements.insert(element, at: state.head + state.urgent)
                state.urgent += 1
            } else {
                state.elements.append(element)
            }
            return true
        }
    }

    /// Waits for room; false when the queue is closed.
    public func put(_ element: Element) -> Bool {
        let added: Bool? = state.wait { state in
            if state.closed { return false }
            guard state.count < limit else { return nil }
            state.elements.append(element)
            return true
        }
        state.update { _ in }
        return added ?? false
    }

    /// Waits for the oldest element that may be taken; `nil` when the queue is closed and empty, or the deadline passes.
    public func take(until deadline: Deadline = .never) -> Element? {
        let taken: Element?? = state.wait(until: deadline) { state in
            guard state.count > 0 else { return state.closed ? .some(nil) : nil }
            guard state.urgent > 0 || state.inHand < ordinaryLimit else { return nil }
            state.inHand += 1
            let element = state.elements[state.head].take()
            state.head += 1
            state.urgent = max(0, state.urgent - 1)
            if state.head > 64, state.head * 2 > state.elements.count {
                state.elements.removeFirst(state.head)
                state.head = 0
            }
            return element
        }
        state.update { _ in }
        return taken ?? nil
    }

    /// An element that was taken is done with.
    public func finish() {
        state.update { $0.inHand -= 1 }
    }

    /// Refuses new elements; those inside can still be taken.
    public func close() {
        state.update { $0.closed = true }
    }
}
