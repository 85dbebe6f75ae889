internal import Synchronization

/// Tells whether somebody else has written to a file that several threads of this process write to, by the time of its last change
/// (`stat(2)`, `st_ctim`), which nobody can set back.
///
/// What comes while a write of ours is under way stays unnoticed, as does what comes within the same tick of the kernel's clock.
public final class WriteWatch: Sendable {
    private struct State {
        var underWay = 0
        var begun: UInt64 = 0
        /// After our last write; `nil` before the first.
        var changed: Int64?
    }

    private let file: File
    private let fileSystem: any FileSystem
    private let state = Mutex(State())

    public init(_ file: File, in fileSystem: any FileSystem) {
        self.file = file
        self.fileSystem = fileSystem
    }

    public func write(_ bytes: Span<UInt8>, at offset: Int64) throws(FileError) {
        state.withLock { state in
            state.underWay += 1
            state.begun += 1
        }
        var changed: Int64?
        defer {
            state.withLock { state in
                state.underWay -= 1
                // After one that failed it is not known, as before the first.
                state.changed = changed.map { max($0, state.changed ?? $0) }
            }
        }
        try fileSystem.write(bytes, to: file, at: offset)
        changed = try fileSystem.status(of: file).changedNanoseconds
    }

    /// Nobody else has written to it since our last write.
    public func isAsLeft() throws(FileError) -> Bool {
        let before = state.withLock { $0 }
        guard before.underWay == 0, let changed = before.changed else { return true }
        guard try fileSystem.status(of: file).changedNanoseconds != changed else { return true }
        // It may have been a write of ours.
        return state.withLock { $0.begun != before.begun }
    }
}
