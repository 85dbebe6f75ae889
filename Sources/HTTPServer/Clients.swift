internal import CMicroHTTPD
internal import Glibc
internal import Synchronization

/// The address of a client without its port.
struct ClientAddress: Sendable, Hashable {
    /// `AF_INET`, `AF_INET6`, or what else there is, which has no address to count by.
    let family: sa_family_t
    private let high: UInt64
    private let low: UInt64

    static let none = ClientAddress(nil)

    init(_ address: UnsafePointer<sockaddr>?) {
        var (high, low): (UInt64, UInt64) = (0, 0)
        family = address?.pointee.sa_family ?? 0
        let bytes = UnsafeRawPointer(address)
        switch Int32(family) {
        case AF_INET: low = UInt64(bytes!.load(as: sockaddr_in.self).sin_addr.s_addr)
        case AF_INET6:
            let offset = MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr)!
            high = bytes!.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            low = bytes!.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
        default: break
        }
        (self.high, self.low) = (high, low)
    }

    var isCounted: Bool { Int32(family) == AF_INET || Int32(family) == AF_INET6 }

    /// Of this machine (RFC 1122, 3.2.1.3; RFC 4291, 2.5.3), also as IPv6 writes IPv4.
    var isLoopback: Bool {
        let number = UInt64(bigEndian: low)
        return switch Int32(family) {
        case AF_INET: number >> 56 == 127
        case AF_INET6: high == 0 && (number == 1 || number >> 24 == 0xFFFF_7F)
        default: false
        }
    }

    /// Calls `body` with the address as the system writes it, port 0.
    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        var storage = sockaddr_storage()
        storage.ss_family = family
        var length = MemoryLayout<sockaddr>.size
        withUnsafeMutableBytes(of: &storage) { bytes in
            switch Int32(family) {
            case AF_INET:
                let offset = MemoryLayout<sockaddr_in>.offset(of: \.sin_addr)!
                bytes.storeBytes(of: UInt32(truncatingIfNeeded: low), toByteOffset: offset, as: UInt32.self)
                length = MemoryLayout<sockaddr_in>.size
            case AF_INET6:
                let offset = MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr)!
                bytes.storeBytes(of: high, toByteOffset: offset, as: UInt64.self)
                bytes.storeBytes(of: low, toByteOffset: offset + 8, as: UInt64.self)
                length = MemoryLayout<sockaddr_in6>.size
            default: break
            }
        }
        return withUnsafePointer(to: storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
        }
    }
}

/// Who is connected: the limits on connections, of all together and of each client address.
final class Clients: Sendable {
    private struct State {
        var total = 0
        var byAddress: [ClientAddress: Int] = [:]
    }

    private let limit: Int
    private let limitPerAddress: Int
    private let state = Mutex(State())

    /// - Parameter limitPerAddress: 0 is no limit.
    init(limit: Int, limitPerAddress: Int) {
        self.limit = limit
        self.limitPerAddress = limitPerAddress
    }

    var total: Int { state.withLock { $0.total } }

    /// False when it is one too many.
    func enter(_ address: ClientAddress) -> Bool {
        state.withLock { state in
            guard state.total < limit else { return false }
            if limitPerAddress > 0, address.isCounted {
                guard state.byAddress[address, default: 0] < limitPerAddress else { return false }
                state.byAddress[address, default: 0] += 1
            }
            state.total += 1
            return true
        }
    }

    func left(_ address: ClientAddress) {
        state.withLock { state in
            state.total -= 1
            guard limitPerAddress > 0, let count = state.byAddress[address] else { return }
            state.byAddress[address] = count > 1 ? count - 1 : nil
        }
    }
}
