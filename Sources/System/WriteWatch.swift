internal import Synchronization

/// Tells whether somebody else may have changed a file that threads of this process write to, by the time of its last change (`stat(2)`,
/// `st_ctim`), which nobody can set back, and by its size. A change of its owner, mode, links or attributes moves that time too: it is a
/// suspicion, which stays until the file has proved right.
///
/// What comes while a write of ours is under way stays unnoticed, unless the file is shorter then, as does what comes within the same tick of
/// the kernel's clock.
public final class WriteWatch: Sendable {
    /// So often a file that others change meanwhile is read again.
    private static let readings = 3

    private struct State {
        var underWay = 0
        var begun: UInt64 = 0
        /// Counts the looks at the time after a change of ours. The last one has seen all that was changed before: the time itself need not
        /// grow, as the clock may be set back.
        var looks: UInt64 = 0
        /// As of the last look; `nil` before the first.
        var changed: Int64?
        /// The file is at least so long.
        var end: Int64
        var isSuspect: Bool
    }

    public let file: File
    let fileSystem: any FileSystem
    private let state: Mutex<State>

    /// - Parameter end: the file is at least so long, before anything is written.
    public init(_ file: File, end: Int64 = 0, isSuspect: Bool = false, in fileSystem: any FileSystem) {
        self.file = file
        self.fileSystem = fileSystem
        state = Mutex(State(end: end, isSuspect: isSuspect))
    }

    public func write(_ bytes: Span<UInt8>, at offset: Int64) throws(FileError) {
        try look()
        begin()
        defer { end() }
        try fileSystem.write(bytes, to: file, at: offset)
        let end = offset + Int64(bytes.count)
        state.withLock { $0.end = max($0.end, end) }
    }

    /// Another change of ours.
    ///
    /// - Parameter end: where the file may end from then on, if it becomes shorter.
    public func change<Failure: Error>(
        to end: Int64 = .max,
        _ body: () throws(Failure) -> Void
    ) throws(Failure) {
        // What cannot be looked at now is looked at later.
        try? look()
        begin()
        defer { self.end() }
        state.withLock { $0.end = min($0.end, end) }
        try body()
    }

    private func begin() {
        state.withLock { state in
            state.underWay += 1
            state.begun += 1
        }
    }

    private func end() {
        noteChange()
        state.withLock { $0.underWay -= 1 }
    }

    /// Whatever the file is now, it is by us, unless it is too short. What cannot be looked at now is looked at later.
    private func noteChange() {
        let (number, end) = state.withLock { state in
            state.looks += 1
            return (state.looks, state.end)
        }
        let status = try? fileSystem.status(of: file)
        state.withLock { state in
            if number == state.looks { state.changed = status?.changedNanoseconds }
            if let status, status.size < end { state.isSuspect = true }
        }
    }

    /// Somebody else may have changed the file since the first change of ours, or since it proved right.
    public func isSuspect() throws(FileError) -> Bool {
        try look()
        return state.withLock { $0.isSuspect }
    }

    /// What was there has gone: somebody else has changed the file.
    public func distrust() { state.withLock { $0.isSuspect = true } }

    private func look() throws(FileError) {
        let before = state.withLock { $0 }
        guard !before.isSuspect else { return }
        let status = try fileSystem.status(of: file)
        state.withLock { state in
            // It may have been a change of ours.
            let isOurs = before.underWay > 0 || state.begun != before.begun || before.changed == nil
            if !isOurs && status.changedNanoseconds != before.changed || status.size < before.end {
                state.isSuspect = true
            }
        }
    }

    /// Trusts the file if what is in it now proves right, and nobody changes it meanwhile; returns whether it does.
    ///
    /// - Parameter isRight: reads it. Nothing of ours is under way.
    public func proves(_ isRight: () throws(FileError) -> Bool) throws(FileError) -> Bool {
        for _ in 0..<Self.readings {
            let before = try fileSystem.status(of: file).changedNanoseconds
            guard try isRight() else { return false }
            guard try fileSystem.status(of: file).changedNanoseconds == before else { continue }
            state.withLock { ($0.changed, $0.isSuspect) = (before, false) }
            return true
        }
        return false
    }
}
