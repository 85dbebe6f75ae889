internal import CGlibc
internal import Glibc

/// What this process takes (`getrusage(2)`, `proc(5)`).
public struct ProcessStatistics: Sendable {
    public let cpuSeconds: Double
    public let residentBytes: Int64
    public let virtualBytes: Int64
    public let openFiles: Int
    public let openFileLimit: Int64
    public let threads: Int

    public static func now() -> ProcessStatistics {
        var usage = rusage()
        getrusage(Int32(RUSAGE_SELF.rawValue), &usage)
        var limit = rlimit()
        getrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
        // A system without /proc just says less.
        let files = LocalFileSystem()
        let memory = numbers(in: "/proc/self/statm")
        let page = Int64(sysconf(Int32(_SC_PAGESIZE)))
        return ProcessStatistics(
            cpuSeconds: seconds(usage.ru_utime) + seconds(usage.ru_stime),
            residentBytes: memory.count > 1 ? memory[1] * page : 0,
            virtualBytes: memory.first.map { $0 * page } ?? 0,
            openFiles: (try? files.entries(of: "/proc/self/fd").count) ?? 0,
            openFileLimit: Int64(clamping: limit.rlim_cur),
            threads: (try? files.entries(of: "/proc/self/task").count) ?? 0
        )
    }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

    /// Files of the kernel say that they are empty.
    private static func numbers(in path: String) -> [Int64] {
        guard let file = try? LocalFileSystem().open(path, .read),
            let bytes = try? LocalFileSystem().read(file, at: 0, count: 256)
        else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).compactMap { Int64($0) }
    }
}
