internal import Glibc
internal import Synchronization

/// Tells whether somebody else may have changed a file that threads of this process write to. Whoever does has opened it (``FileObserver``), or moves
/// the time of its last change (`stat(2)`, `st_ctim`), which nobody can set back, or its size. A reader, or a change of its owner, mode, links or
/// attributes, does so too: it is a suspicion, which stays until the file has proved right.
///
/// While it is at rest, as nothing of ours is to come, only what others write counts.
///
/// Where the file cannot be observed, what comes while a write of ours is under way stays unnoticed, unless the file is shorter then.
public final class WriteWatch: Sendable {
    /// So often a file that others change meanwhile is read, or looked at, again.
    private static let readings = 3
    fileprivate struct State {
        var underWay = 0
        var begun: UInt64 = 0
        /// Counts the looks at the time after a change of ours. The last one has seen all that was changed before: the time itself need not
        /// grow, as the clock may be set back.
        var looks: UInt64 = 0
        /// As of the last look; `nil` before the first.
        var changed: Int64?
        /// The same, of the time that counts at rest.
        var written: Int64?
        /// The file is at least so long; at rest, just so long.
        var end: Int64 = 0
        /// What it took on the volume after a change of ours. A write gives no more than a few blocks of the file's own map back: a cut by its
        /// name (`truncate(2)`), which opens nothing, does.
        var allocated: Int64 = 0
        var isSuspect = false
        var isAtRest = false
        /// Others have opened it, and may have it open still.
        var isShared = false
        /// What was told, as far as it is not explained.
        var deeds: FileDeeds = []
    }

    public let file: File
    let fileSystem: any FileSystem
    private let observer: (any FileObserver)?
    private let state = Mutex(State())

    public init(_ file: File, in fileSystem: any FileSystem) {
        self.file = file
        self.fileSystem = fileSystem
        observer = fileSystem.observe(file)
    }

    /// Nothing that others do stays unnoticed.
    public var isExact: Bool { observer != nil }
}

// MARK: - Changes of ours

extension WriteWatch {
    public func write(_ bytes: Span<UInt8>, at offset: Int64) throws(FileError) {
        // Threads that write to one file wait for each other here. What the observer has to tell stays with it until somebody wants to know.
        try look(asksObserver: false) { begin(&$0) }
        var reached: Int64 = 0
        defer { end(isWrite: true, reached) }
        try fileSystem.write(bytes, to: file, at: offset)
        reached = offset + Int64(bytes.count)
    }

    public func resize(to size: Int64) throws(FileError) {
        try change { () throws(FileError) in
            state.withLock { $0.end = min($0.end, size) }
            try fileSystem.truncate(file, to: size)
            state.withLock { $0.end = size }
        }
    }

    /// Another change, after which the file is as long at least.
    public func change<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
        // What cannot be looked at now is looked at later.
        try? look()
        state.withLock { begin(&$0) }
        defer { end() }
        try body()
    }

    private func begin(_ state: inout State) {
        state.underWay += 1
        state.begun += 1
        endRest(&state)
    }

    /// Whatever the file is now, it is by us, unless it is too short: it reaches at least so far. What cannot be looked at now is looked at later.
    private func end(isWrite: Bool = false, _ reached: Int64 = 0) {
        let (number, end, allocated) = state.withLock { state in
            state.end = max(state.end, reached)
            state.looks += 1
            return (state.looks, state.end, state.allocated)
        }
        var status = try? fileSystem.status(of: file)
        // What ext4 is just writing out it counts for a moment neither as promised nor as taken.
        for _ in 0..<Self.readings where isWrite && status?.hasLost(of: allocated) == true {
            status = try? fileSystem.status(of: file)
        }
        state.withLock { state in
            if number == state.looks {
                (state.changed, state.written) = (status?.changedNanoseconds, status.map(written))
                if let status {
                    if isWrite, status.hasLost(of: state.allocated) { state.isSuspect = true }
                    state.allocated = status.allocated
                }
            }
            if let status, status.size < end { state.isSuspect = true }
            state.underWay -= 1
        }
    }
}

// MARK: - What others do

extension WriteWatch {
    /// Somebody else may have changed the file since the first change of ours, or since it proved right.
    public func isSuspect() throws(FileError) -> Bool {
        try look()
        return state.withLock { $0.isSuspect }
    }

    /// Somebody else has written to the file since it is at rest, as far as can be told: without an observer, a new name looks like that too.
    public func isOverwritten() -> Bool {
        // What cannot be looked at was not seen to change; whoever opens it next looks again.
        if isExact { try? look() }
        return state.withLock { $0.isSuspect }
    }

    /// What was there has gone: somebody else has changed the file.
    public func distrust() { state.withLock { $0.isSuspect = true } }

    func requireUntouched() throws(FileError) {
        if try isSuspect() { throw .overwritten(file.path) }
    }

    /// What the file is known to be after a change of ours, while it is at rest.
    func expect(_ status: FileStatus) {
        state.withLock { state in
            state.take(observer?.takeDeeds() ?? [])
            (state.changed, state.written) = (status.changedNanoseconds, written(status))
            state.deeds.remove(.renamedOrTouched)
        }
    }

    /// What somebody has mapped and writes to, only a time tells. A new name does not move that of the last write, and may be told of late.
    private func written(_ status: FileStatus) -> Int64 {
        isExact ? status.modifiedNanoseconds : status.changedNanoseconds
    }

    private func look(asksObserver: Bool = true, then next: (inout State) -> Void = { _ in }) throws(FileError) {
        let before = state.withLock { $0 }
        guard !before.isSuspect, !before.isAtRest else {
            if !before.isSuspect { try lookAtRest() }
            return state.withLock { next(&$0) }
        }
        let status = try fileSystem.status(of: file)
        state.withLock { state in
            if asksObserver { state.take(observer?.takeDeeds() ?? []) }
            // It may have been a change of ours.
            let isOurs = before.underWay > 0 || state.begun != before.begun || before.changed == nil
            if !isOurs && status.changedNanoseconds != before.changed || status.size < before.end {
                state.isSuspect = true
            }
            next(&state)
        }
    }

    private func lookAtRest() throws(FileError) {
        try state.withLock { state throws(FileError) in
            let status = try fileSystem.status(of: file)
            state.take(observer?.takeDeeds() ?? [])
            let isAsBefore = status.size == state.end && state.explains(written(status))
            if !isAsBefore { state.isSuspect = true }
            (state.changed, state.written) = (status.changedNanoseconds, written(status))
            state.deeds.remove(.renamedOrTouched)
        }
    }
}

extension FileStatus {
    /// It takes less than it did, by more than a few blocks of the file's own map.
    fileprivate func hasLost(of allocated: Int64) -> Bool { self.allocated < allocated / 16 * 15 }
}

extension WriteWatch.State {
    /// An opening is a suspicion while we write: what its owner writes cannot be told from ours.
    fileprivate mutating func take(_ deeds: FileDeeds) {
        self.deeds.formUnion(deeds)
        if deeds.contains(.opened) { isShared = true }
        if isAtRest ? deeds.contains(.written) : deeds.contains(.opened) { isSuspect = true }
    }

    /// Whether nothing but somebody who set it has moved the time, at rest.
    fileprivate func explains(_ written: Int64) -> Bool {
        self.written == nil || self.written == written || deeds.contains(.renamedOrTouched)
    }
}

// MARK: - Rest

extension WriteWatch {
    /// Nothing of ours is under way, nor comes until the next change.
    public func rest() {
        state.withLock { state in
            guard !state.isAtRest else { return }
            observer?.tellWrites(true)
            state.take(observer?.takeDeeds() ?? [])
            state.isAtRest = true
        }
    }

    private func endRest(_ state: inout State) {
        guard state.isAtRest else { return }
        defer { state.isAtRest = false }
        guard let observer else { return }
        state.take(observer.takeDeeds())
        // Who opens it after this is told of; who has it open still may write at any time.
        if state.isShared { state.isShared = observer.isAlone != true }
        observer.tellWrites(false)
        state.take(observer.takeDeeds())
        if state.isShared { state.isSuspect = true }
    }

    /// Trusts the file if what is in it now proves right, and nobody changes it meanwhile; returns whether it does. It is at rest then.
    ///
    /// - Parameter isRight: reads it. Nothing of ours is under way.
    public func proves(_ isRight: () throws(FileError) -> Bool) throws(FileError) -> Bool {
        rest()
        // What somebody has mapped and written to moves the time again only once it is on disk.
        if state.withLock({ $0.isShared }) { try fileSystem.synchronize(file) }
        for _ in 0..<Self.readings {
            state.withLock { state in
                state.take(observer?.takeDeeds() ?? [])
                state.deeds = []
            }
            let before = try fileSystem.status(of: file)
            state.withLock { $0.written = written(before) }
            guard try isRight() else { return false }
            if try trust() { return true }
        }
        return false
    }

    private func trust() throws(FileError) -> Bool {
        try state.withLock { state throws(FileError) in
            let status = try fileSystem.status(of: file)
            state.take(observer?.takeDeeds() ?? [])
            guard status.size == state.end, state.explains(written(status)), !state.deeds.contains(.written) else {
                return false
            }
            (state.changed, state.written) = (status.changedNanoseconds, written(status))
            state.isSuspect = false
            return true
        }
    }
}
