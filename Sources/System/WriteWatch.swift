internal import Synchronization

/// Tells whether somebody else may have changed a file that several threads of this process write to, by the time of its last change
/// (`stat(2)`, `st_ctim`), which nobody can set back. A change of its owner, mode, links or attributes moves that time too: it is a
/// suspicion, which stays until the file is read again.
///
/// What comes while a write of ours is under way stays unnoticed, as does what comes within the same tick of the kernel's clock.
public final class WriteWatch: Sendable {
    private struct State {
        var underWay = 0
        var begun: UInt64 = 0
        /// Counts the looks at the time after a write of ours. The last one has seen all that was written before: the time itself need not
        /// grow, as the clock may be set back.
        var looks: UInt64 = 0
        /// As of the last look; `nil` before the first.
        var changed: Int64?
        var isSuspect: Bool
    }

    private let file: File
    private let fileSystem: any FileSystem
    private let state: Mutex<State>

    public init(_ file: File, isSuspect: Bool = false, in fileSystem: any FileSystem) {
        self.file = file
        self.fileSystem = fileSystem
        state = Mutex(State(isSuspect: isSuspect))
    }

    public func write(_ bytes: Span<UInt8>, at offset: Int64) throws(FileError) {
        try look()
        state.withLock { state in
            state.underWay += 1
            state.begun += 1
        }
        defer { state.withLock { $0.underWay -= 1 } }
        do throws(FileError) {
            try fileSystem.write(bytes, to: file, at: offset)
            try noteChange()
        } catch {
            // It is not known what was written, nor when.
            state.withLock { ($0.looks, $0.changed) = ($0.looks + 1, nil) }
            throw error
        }
    }

    private func noteChange() throws(FileError) {
        let number = state.withLock { state in
            state.looks += 1
            return state.looks
        }
        let changed = try fileSystem.status(of: file).changedNanoseconds
        state.withLock { if number == $0.looks { $0.changed = changed } }
    }

    /// Somebody else may have changed the file since the first write of ours, or since ``trust()``.
    public func isSuspect() throws(FileError) -> Bool {
        try look()
        return state.withLock { $0.isSuspect }
    }

    /// What is in the file now is about to be read again.
    public func trust() throws(FileError) {
        try noteChange()
        state.withLock { $0.isSuspect = false }
    }

    private func look() throws(FileError) {
        let before = state.withLock { $0 }
        guard !before.isSuspect, before.underWay == 0, let changed = before.changed,
            try fileSystem.status(of: file).changedNanoseconds != changed
        else { return }
        state.withLock { state in
            // It may have been a write of ours.
            if state.begun == before.begun { state.isSuspect = true }
        }
    }
}
