import Foundation
import Glibc
import Synchronization

/// The most bytes that the files below `folder` took on the disk at any time while `body` ran, as `du` counts.
func largestAllocation(below folder: String, during body: () throws -> Void) throws -> Int {
    let watch = DiskWatch(folder)
    Thread.detachNewThread { watch.run() }
    defer { watch.finish() }
    try body()
    return watch.finish()
}

/// Looks at a folder again and again, on a thread of its own.
private final class DiskWatch: Sendable {
    private let folder: String
    private let largest = Atomic<Int>(0)
    private let isOver = Atomic<Bool>(false)
    private let ended = DispatchSemaphore(value: 0)

    init(_ folder: String) { self.folder = folder }

    func run() {
        repeat {
            largest.max(allocatedBytes(), ordering: .relaxed)
            usleep(2_000)
        } while !isOver.load(ordering: .acquiring)
        ended.signal()
    }

    @discardableResult
    func finish() -> Int {
        isOver.store(true, ordering: .releasing)
        ended.wait()
        ended.signal()
        return largest.load(ordering: .relaxed)
    }

    private func allocatedBytes() -> Int {
        files(below: folder).reduce(0) { total, path in
            var status = stat()
            // A file that has gone meanwhile takes no bytes.
            guard stat("\(folder)/\(path)", &status) == 0 else { return total }
            return total + Int(status.st_blocks) * 512
        }
    }
}
