import Foundation
import Synchronization

/// Calls `body` with 0 to `count` - 1, each on a thread of its own; the results in that order.
func inParallel<Result: Sendable>(
    _ count: Int,
    _ body: @escaping @Sendable (Int) throws -> Result
) throws -> [Result] {
    let group = DispatchGroup()
    let results = Collected<Swift.Result<Result, any Error>>()
    for index in 0..<count {
        group.enter()
        Thread.detachNewThread {
            defer { group.leave() }
            results.add(index, Swift.Result { try body(index) })
        }
    }
    group.wait()
    return try results.ordered.map { try $0.get() }
}

private final class Collected<Element: Sendable>: Sendable {
    private let elements = Mutex<[Int: Element]>([:])

    func add(_ index: Int, _ element: Element) { elements.withLock { $0[index] = element } }
    var ordered: [Element] { elements.withLock { all in all.keys.sorted().map { all[$0]! } } }
}
