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
            largest.max(sample(), ordering: .relaxed)
            usleep(5_000)
        } while !isOver.load(ordering: .acquiring)
        ended.signal()
    }

    /// A walk is no snapshot: a file that goes and one that comes while it lasts are both counted. So what is above the most so far has
    /// to be seen three times in a row.
    private func sample() -> Int {
        var least = Int.max
        for _ in 0..<3 where least > largest.load(ordering: .relaxed) {
            var seen: Set<ino_t> = []
            least = min(least, allocatedBytes(below: folder, &seen))
        }
        return least
    }

    @discardableResult
    func finish() -> Int {
        isOver.store(true, ordering: .releasing)
        ended.wait()
        ended.signal()
        return largest.load(ordering: .relaxed)
    }
}

/// Bytes that all files below `folder` take on the disk, each counted once. What goes away meanwhile takes none.
private func allocatedBytes(below folder: String, _ seen: inout Set<ino_t>) -> Int {
    guard let stream = opendir(folder) else { return 0 }
    defer { closedir(stream) }
    var total = 0
    while let entry = readdir(stream) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        guard name != ".", name != ".." else { continue }
        let path = "\(folder)/\(name)"
        var status = stat()
        if Int32(entry.pointee.d_type) == Int32(DT_DIR) {
            total += allocatedBytes(below: path, &seen)
        } else if lstat(path, &status) == 0, seen.insert(status.st_ino).inserted {
            total += Int(status.st_blocks) * 512
        }
    }
    return total
}
