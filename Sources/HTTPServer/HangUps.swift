internal import CMicroHTTPD
internal import Glibc

/// Connections whose clients send nothing more.
///
/// libmicrohttpd 0.9.75 watches edges, and takes a read that did not fill its buffer for the last one: an end that came together with the bytes
/// before it is never read, and such a connection would stay until it times out. The loop watches for that end itself; from then on the
/// connection is looked at again until it is closed. It is suspended and resumed at once, since libmicrohttpd reads from what was resumed.
struct HangUps {
    private struct Look {
        var at: UInt64
        var pause: UInt64
    }

    /// Doubles with each look. A look counts as activity: the pause grows until the idle timeout is the shorter.
    private static let firstPauseNanoseconds: UInt64 = 10_000_000

    private var looks: [OpaquePointer: Look] = [:]

    mutating func began(_ connection: OpaquePointer) {
        looks[connection] = Look(at: 0, pause: Self.firstPauseNanoseconds)
    }

    /// It is about to wait for its next request.
    mutating func isThrough(_ connection: OpaquePointer) {
        if !looks.isEmpty, looks[connection] != nil { began(connection) }
    }

    mutating func closed(_ connection: OpaquePointer) {
        if !looks.isEmpty { looks[connection] = nil }
    }

    /// When somebody has to be looked at; `nil` when nobody does.
    var next: UInt64? { looks.isEmpty ? nil : looks.values.lazy.map(\.at).min() }

    /// Makes libmicrohttpd read from those that are due, when it runs next.
    mutating func look(now: UInt64) {
        guard let next, next <= now else { return }
        for (connection, look) in looks where look.at <= now {
            looks[connection] = Look(at: now + look.pause, pause: look.pause * 2)
            // What waits for another thread is resumed by that.
            guard !forebay_mhd_is_suspended(connection) else { continue }
            MHD_suspend_connection(connection)
            MHD_resume_connection(connection)
        }
    }
}
