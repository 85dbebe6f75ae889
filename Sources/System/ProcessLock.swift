internal import Glibc

/// The sole right to a directory among the processes of this machine, held until the value goes or the process ends (`flock(2)`).
public final class ProcessLock: Sendable {
    private let file: File

    private static let triesLimit = 20

    /// Somebody else holds the lock.
    public struct Held: Error, Equatable {
        /// Their process id; `nil` when they have not written it yet.
        public let processID: Int32?
    }

    public enum Failure: Error {
        case held(Held)
        case file(FileError)
    }

    /// Takes the lock file at `path`, creating it when missing, and writes this process's id into it.
    public init(path: String) throws(Failure) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .file(FileError(operation: "open", path: path, code: errno)) }
        file = File(owning: descriptor, path: path)
        var tries = 0
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard errno == EWOULDBLOCK else { throw .file(FileError(operation: "flock", path: path, code: errno)) }
            let owner = Self.owner(of: file)
            tries += 1
            // A child between fork and exec still has what this process has let go.
            guard owner == getpid(), tries < Self.triesLimit else { throw .held(Held(processID: owner)) }
            usleep(10_000)
        }
        let text = Array("\(getpid())\n".utf8)
        do throws(FileError) {
            try LocalFileSystem().truncate(file, to: 0)
            try LocalFileSystem().write(text.span, to: file, at: 0)
        } catch {
            throw .file(error)
        }
    }

    /// An unreadable id only makes the message poorer, so the reason is dropped.
    private static func owner(of file: File) -> Int32? {
        guard let bytes = try? LocalFileSystem().read(file, at: 0, count: 32) else { return nil }
        return Int32(String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
    }
}
