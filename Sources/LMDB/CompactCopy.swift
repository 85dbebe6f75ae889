internal import CLMDB
internal import Glibc
public import Threading

extension Environment {
    /// So much is written before it is made sure that the disk has it, and that there is time for more.
    private static let stepBytes = 4 << 20

    /// Writes what the environment holds, without the pages that deletes have freed, to a new file, durably (`mdb_env_copyfd2`,
    /// `MDB_CP_COMPACT`). Writers go on meanwhile; what they commit is not in it.
    ///
    /// - Returns: false, and nothing is left of it, when that takes longer than until the deadline.
    public func copyCompacted(to path: String, until deadline: Deadline) throws(LMDBError) -> Bool {
        let descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw LMDBError(operation: "open \(path)", code: errno) }
        defer { close(descriptor) }
        do throws(LMDBError) {
            var isWhole = false
            try withEnvironment { env throws(LMDBError) in
                isWhole = try Self.copyCompacted(env, to: descriptor, path, until: deadline)
            }
            if !isWhole { unlink(path) }
            return isWhole
        } catch {
            unlink(path)
            throw error
        }
    }

    /// Through a pipe: the library looks at no clock, but ends when nobody reads.
    private static func copyCompacted(
        _ env: OpaquePointer,
        to file: Int32,
        _ path: String,
        until deadline: Deadline
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
        let isWhole = Result { () throws(LMDBError) in try drain(output, to: file, path, until: deadline) }
        close(output)
        let code = copied.wait { $0 }
        guard try isWhole.get() else { return false }
        try check("mdb_env_copyfd2 \(path)", code ?? 0)
        return true
    }

    /// False at the deadline.
    private static func drain(
        _ output: Int32,
        to file: Int32,
        _ path: String,
        until deadline: Deadline
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
            if deadline.hasPassed { return false }
            unsynced = 0
        }
    }
}
