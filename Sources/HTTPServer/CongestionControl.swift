internal import Glibc

/// What decides how fast a connection sends (`TCP_CONGESTION` of `tcp(7)`).
struct CongestionControl: Equatable {
    /// Part of every kernel, and open to everybody.
    static let reno = CongestionControl(name: "reno")

    private let name: String

    private init(name: String) { self.name = name }

    /// `nil` where the kernel does not tell.
    init?(of socket: Int32) {
        var name = [UInt8](repeating: 0, count: 16)  // TCP_CA_NAME_MAX
        var length = socklen_t(name.count)
        guard getsockopt(socket, Int32(IPPROTO_TCP), TCP_CONGESTION, &name, &length) == 0 else { return nil }
        self.name = String(decoding: name.prefix(Int(length)).prefix { $0 != 0 }, as: UTF8.self)
    }

    /// BBR sends by timers.
    var paces: Bool { name.hasPrefix("bbr") }

    func use(on socket: Int32) {
        setsockopt(socket, Int32(IPPROTO_TCP), TCP_CONGESTION, name, socklen_t(name.utf8.count))
    }
}
