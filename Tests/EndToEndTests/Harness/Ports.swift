import FaultProxy
import Glibc
import Synchronization

/// Loopback ports that nobody listens on: below the range the kernel picks from, and no port twice in one run.
enum Ports {
    private static let next = Atomic<Int>(0)
    private static let first = 20_000 + Int(getpid()) % 100 * 100
    private static let end = 32_000

    static func free() throws -> UInt16 {
        for _ in first..<end + first {
            let step = next.wrappingAdd(1, ordering: .relaxed).oldValue
            let port = UInt16(20_000 + (first - 20_000 + step) % (end - 20_000))
            if let listener = try? Socket.listen(port: port) {  // refused: somebody has it, try the next
                listener.shutDown()
                return port
            }
        }
        throw MissingRequirement(description: "no free loopback port")
    }
}
