internal import Glibc
internal import Synchronization
public import System

/// The real file system, of which a simulated power cut takes back what was not synchronised: bytes of a file until it is, names of a
/// directory until that is.
///
/// What survives of each is drawn at random, as a disk would have it: all, nothing, or some blocks; a directory keeps its first changes.
public final class PowerCutFileSystem: FileSystem {
    private struct DirtyFile {
        let file: File
        /// What is on stable storage.
        let durable: [UInt8]
    }

    private enum Change {
        case created(String)
        /// `replaced` keeps the file that the name had before.
        case renamed(from: String, to: String, replaced: String?)
        case removed(String, kept: String)
    }

    private struct State {
        var dirty: [UInt64: DirtyFile] = [:]
        var changes: [String: [Change]] = [:]
        var shadows = 0
    }

    private let base: any FileSystem
    private let real = LocalFileSystem()
    private let shadow: String
    private let state = Mutex(State())

    /// - Parameters:
    ///   - base: what calls go to, which may fail some.
    ///   - shadow: an existing folder on the same volume, for what may come back.
    public init(_ base: any FileSystem = LocalFileSystem(), shadow: String) {
        self.base = base
        self.shadow = shadow
    }

    // MARK: - The cut

    /// Everything that was written by now is as a machine finds it that lost its power. No file may be in use.
    public func cutPower(_ random: inout some RandomNumberGenerator) throws {
        let lost = state.withLock { state in
            defer { state = State(shadows: state.shadows) }
            return state
        }
        for (_, dirty) in lost.dirty.sorted(by: { $0.key < $1.key }) { try tear(dirty, &random) }
        for (_, changes) in lost.changes.sorted(by: { $0.key < $1.key }) {
            let kept = Int.random(in: 0...changes.count, using: &random)
            for change in changes[kept...].reversed() { try undo(change) }
        }
    }

    private func tear(_ dirty: DirtyFile, _ random: inout some RandomNumberGenerator) throws {
        let block = 4096
        let fate = Int.random(in: 0..<3, using: &random)
        if fate == 0 { return }
        if fate == 1 {
            try real.truncate(dirty.file, to: 0)
            return try real.write(dirty.durable.span, to: dirty.file, at: 0)
        }
        // The size may be there before the bytes.
        let size = Int(try real.status(of: dirty.file).size)
        for start in stride(from: 0, to: size, by: block) where Bool.random(using: &random) {
            let old = dirty.durable.dropFirst(start).prefix(block)
            let bytes = Array(old) + [UInt8](repeating: 0, count: min(block, size - start) - old.count)
            try real.write(bytes.span, to: dirty.file, at: Int64(start))
        }
    }

    private func undo(_ change: Change) throws {
        switch change {
        case .created(let path):
            try real.remove(path)
        case .renamed(let source, let destination, let replaced):
            // A name that was given again since is on stable storage itself.
            if try real.status(at: source) == nil, try real.status(at: destination) != nil {
                try real.rename(destination, to: source)
            } else {
                try real.remove(destination)
            }
            if let replaced { try real.rename(replaced, to: destination) }
        case .removed(let path, let kept):
            if try real.status(at: path) == nil { try real.rename(kept, to: path) }
        }
    }

    // MARK: - Bookkeeping

    /// Before the first change since the last synchronisation.
    private func willChange(_ file: File) throws(FileError) {
        let status = try real.status(of: file)
        guard state.withLock({ $0.dirty[status.inode] == nil }) else { return }
        let durable = try real.read(file, at: 0, count: Int(status.size))
        state.withLock { $0.dirty[status.inode] = DirtyFile(file: file, durable: durable) }
    }

    private func note(_ change: Change, in directory: String) {
        state.withLock { $0.changes[directory, default: []].append(change) }
    }

    /// A second name for a file, out of sight.
    private func keep(_ path: String) -> String? {
        let kept = state.withLock { state in
            state.shadows += 1
            return "\(shadow)/\(state.shadows)"
        }
        return link(path, kept) == 0 ? kept : nil
    }

    private func forget(_ changes: [Change]) {
        for change in changes {
            switch change {
            case .created, .renamed(_, _, nil): break
            // A shadow that stays takes room in a folder that the test removes.
            case .renamed(_, _, let kept?), .removed(_, let kept): _ = try? real.remove(kept)
            }
        }
    }

    // MARK: - Calls

    public func open(_ path: String, _ mode: OpenMode) throws(FileError) -> File {
        let file = try base.open(path, mode)
        if case .create = mode {
            note(.created(path), in: parentDirectory(of: path))
            try willChange(file)
        }
        return file
    }

    public func write(_ bytes: Span<UInt8>, to file: File, at offset: Int64) throws(FileError) {
        try willChange(file)
        try base.write(bytes, to: file, at: offset)
    }

    public func observe(_ file: File) -> (any FileObserver)? { base.observe(file) }

    public func truncate(_ file: File, to size: Int64) throws(FileError) {
        try willChange(file)
        try base.truncate(file, to: size)
    }

    public func synchronize(_ file: File) throws(FileError) {
        try base.synchronize(file)
        let inode = try real.status(of: file).inode
        state.withLock { _ = $0.dirty.removeValue(forKey: inode) }
    }

    public func synchronize(directory: String) throws(FileError) {
        try base.synchronize(directory: directory)
        forget(state.withLock { $0.changes.removeValue(forKey: directory) } ?? [])
    }

    public func rename(_ source: String, to destination: String) throws(FileError) {
        let replaced = keep(destination)
        try base.rename(source, to: destination)
        note(.renamed(from: source, to: destination, replaced: replaced), in: parentDirectory(of: destination))
    }

    @discardableResult
    public func remove(_ path: String) throws(FileError) -> Bool {
        let kept = keep(path)
        let isRemoved = try base.remove(path)
        if isRemoved, let kept { note(.removed(path, kept: kept), in: parentDirectory(of: path)) }
        return isRemoved
    }

    public func status(of file: File) throws(FileError) -> FileStatus { try base.status(of: file) }
    public func status(at path: String) throws(FileError) -> FileStatus? { try base.status(at: path) }

    @discardableResult
    public func read(
        _ file: File,
        at offset: Int64,
        count: Int,
        into buffer: inout OutputSpan<UInt8>
    ) throws(FileError) -> Int {
        try base.read(file, at: offset, count: count, into: &buffer)
    }

    public func allocate(_ file: File, size: Int64) throws(FileError) { try base.allocate(file, size: size) }

    @discardableResult
    public func removeDirectory(_ path: String) throws(FileError) -> Bool { try base.removeDirectory(path) }
    public func createDirectory(_ path: String) throws(FileError) { try base.createDirectory(path) }
    public func entries(of directory: String) throws(FileError) -> [DirectoryEntry] { try base.entries(of: directory) }
    public func resolve(_ path: String) throws(FileError) -> String { try base.resolve(path) }
    public func lock(_ file: File) throws(FileError) { try base.lock(file) }

    public func setModified(_ file: File, nanoseconds: Int64) throws(FileError) {
        try base.setModified(file, nanoseconds: nanoseconds)
    }

    @discardableResult
    public func setAttribute(_ name: String, _ value: [UInt8], of file: File) throws(FileError) -> Bool {
        try base.setAttribute(name, value, of: file)
    }

    public func attribute(_ name: String, of file: File, limitBytes: Int) throws(FileError) -> [UInt8]? {
        try base.attribute(name, of: file, limitBytes: limitBytes)
    }

    public func space(at path: String) throws(FileError) -> VolumeSpace { try base.space(at: path) }
}
