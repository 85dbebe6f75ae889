internal import System

/// Where a result goes: a place that a flag names, or standard output.
struct Output {
    static let standard = Output("-")

    let path: String

    init(_ path: String) { self.path = path }

    var isStandardOutput: Bool { path == "-" || path == "/dev/stdout" }

    /// The same for all names of one place.
    var place: String { isStandardOutput ? "-" : ResultFile(path).place }

    /// Finds out before the work, not after it, that there is no place for its result.
    func check() throws {
        guard !isStandardOutput else { return }
        guard !path.isEmpty else { throw Misuse("a result's file has an empty name") }
        do {
            try ResultFile(path).check()
        } catch {
            throw Unavailable(description: "\(path) cannot be written: \(error)")
        }
    }

    func write(_ bytes: [UInt8]) throws {
        guard !isStandardOutput else {
            guard writeToStandardOutput(String(decoding: bytes, as: UTF8.self)) else {
                throw Unavailable(description: "standard output cannot be written")
            }
            return
        }
        do {
            try ResultFile(path).write(bytes)
        } catch {
            throw Unavailable(description: "\(path) cannot be written: \(error)")
        }
    }
}
