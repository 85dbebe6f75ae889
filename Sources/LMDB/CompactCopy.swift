internal import CLMDB
internal import Glibc
internal import Synchronization
internal import Threading

extension Environment {
    /// So much is written before it is made sure that the disk has it, and that it is still wanted.
    private static let stepBytes = 4 << 20

    /// Goes on with a copy of the environment's file that leaves out the pages that deletes have freed (`mdb_env_copyfd2`, `MDB_CP_COMPACT`).
    /// Writers wait meanwhile; who reads waits for the change of the files only.
    ///
    /// - Parameters:
    ///   - path: of the copy, in the environment's folder.
    ///   - isWanted: asked every few MiB.
    ///   - install: puts the copy, which is durable, in the place of the environment's file, or removes it.
    /// - Returns: false, and nothing is left of the copy, when it was not wanted to its end.
    public func compact(
        through path: String,
        while isWanted: () -> Bool,
        install: () -> Void
    ) throws(LMDBError) -> Bool {
        try writing.withLock { _ throws(LMDBError) in
            guard try copyCompacted(to: path, while: isWanted) else { return false }
            do throws(LMDBError) {
                try reopen(after: install)
            } catch {
                unlink(path)
                throw error
            }
            return true
        }
    }

    private func copyCompacted(to path: String, while isWanted: () -> Bool) throws(LMDBError) -> Bool {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw LMDBError(operation: "open \(path)", code: errno) }
        defer { close(descriptor) }
        do throws(LMDBError) {
            guard let env else { throw .panic("mdb_env_copyfd2") }
            let isWhole = try Self.copyCompacted(env, to: descriptor, path, while: isWanted)
            if !isWhole { unlink(path) }
            return isWhole
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Through a pipe: the library asks nobody, but ends when nobody reads.
    private static func copyCompacted(
        _ env: OpaquePointer,
        to file: Int32,
        _ path: String,
        while isWanted: () -> Bool
    ) throws(LMDBError) -> Bool {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw LMDBError(operation: "pipe", code: errno) }
        let (output, input) = (ends[0], ends[1])
        let copied = Monitor<Int32?>(nil)
        // Whoever waits below keeps it open.
        nonisolated(unsafe) let env = env
        spawnThread(name: "copy") {
            let code = mdb_env_copyfd2(env, input, UInt32(MDB_CP_COMPACT))
            close(input)
            copied.update { $0 = code }
        }
        let isWhole = Result { () throws(LMDBError) in try drain(output, to: file, path, while: isWanted) }
        close(output)
        let code = copied.wait { $0 }
        guard try isWhole.get() else { return false }
        try check("mdb_env_copyfd2 \(path)", code ?? 0)
        return true
    }

    /// False when it is not wanted any more.
    private static func drain(
        _ output: Int32,
        to file: Int32,
        _ path: String,
        while isWanted: () -> Bool
    ) throws(LMDBError) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        var unsynced = 0
        while true {
            let count = Glibc.read(output, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw LMDBError(operation: "read", code: errno) }
            var written = 0
            while written < count {
                let more = buffer.withUnsafeBytes { Glibc.write(file, $0.baseAddress! + written, count - written) }
                if more < 0, errno == EINTR { continue }
                guard more >= 0 else { throw LMDBError(operation: "write \(path)", code: errno) }
                written += more
            }
            unsynced += count
            guard unsynced >= stepBytes || count == 0 else { continue }
            guard fdatasync(file) == 0 else { throw LMDBError(operation: "fdatasync \(path)", code: errno) }
            if count == 0 { return true }
            guard isWanted() else { return false }
            unsynced = 0
        }
    }
}
