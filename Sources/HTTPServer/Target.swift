internal import Glibc

/// What a request line asks for, as it came.
struct Target {
    let path: String
    /// What follows the `?`; empty when there is none.
    let query: String
    /// Nothing is encoded in the path, and no segment begins with a dot.
    let isPlain: Bool
    /// The path's ``UnsafeRawBufferPointer/mark``.
    let mark: UInt64
    /// Where libmicrohttpd found its end: behind it comes a zero, and then the version.
    private let end: UnsafePointer<CChar>?

    /// Nearly every target is a plain path, which is looked through once and copied once.
    init(_ text: UnsafePointer<CChar>?) {
        guard let text else {
            (path, query, isPlain, mark, end) = ("", "", true, 0, nil)
            return
        }
        let bytes = UnsafeRawBufferPointer(start: text, count: strlen(text))
        end = text + bytes.count
        let target = String(decoding: bytes, as: UTF8.self)
        guard bytes.first == UInt8(ascii: "/"), Self.isPlain(bytes) else {
            (path, query) = Self.split(target)
            (isPlain, mark) =
                path.utf8.withContiguousStorageIfAvailable {
                    let bytes = UnsafeRawBufferPointer($0)
                    return (Self.isPlain(bytes), bytes.mark)
                } ?? (false, 0)
            return
        }
        (path, query, isPlain, mark) = (target, "", true, bytes.mark)
    }

    /// Ends at a zero that the client has sent, and something follows before the version.
    func isCut(before version: UnsafePointer<CChar>) -> Bool { end.map { $0 + 1 != version } ?? false }

    private static func isPlain(_ path: UnsafeRawBufferPointer) -> Bool {
        guard path.hasMark({ $0.controls | $0.marks("%") | $0.marks("?") | $0.marks(".") }) else { return true }
        var last: UInt8 = 0
        for byte in path {
            switch byte {
            case 0...31, 127, UInt8(ascii: "%"), UInt8(ascii: "?"): return false
            case UInt8(ascii: ".") where last == UInt8(ascii: "/") || last == 0: return false
            default: last = byte
            }
        }
        return true
    }

    private static func split(_ target: String) -> (path: String, query: String) {
        var origin = target[...]
        // The absolute form names the server again (RFC 9112, section 3.2.2).
        if !origin.hasPrefix("/"), let scheme = origin.firstRange(of: "://") {
            let rest = origin[scheme.upperBound...]
            origin = rest.firstIndex(of: "/").map { rest[$0...] } ?? "/"
        }
        let mark = origin.firstIndex(of: "?")
        let path = String(origin[..<(mark ?? origin.endIndex)])
        return (path, mark.map { String(origin[origin.index(after: $0)...]) } ?? "")
    }
}
