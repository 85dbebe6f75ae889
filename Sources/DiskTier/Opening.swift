internal import LMDB
internal import OCI
internal import System
internal import Threading

/// On-disk format; changed when an older program could misread what this one writes.
private let format = "forebay 4"

/// Written at an orderly stop, and taken at the next start: what the index was then. Without it, or with another one, the stop was not clean.
struct CleanMark: Equatable {
    /// An index that is not this one, however it came there, means an unclean stop.
    let index: String
    /// Whoever writes into the file moves it: then what LMDB follows blindly is looked at first.
    let file: String

    init(run: UInt64, transaction: UInt64, _ status: FileStatus) {
        index = Self.index(run: run, transaction: transaction)
        file = Self.file(status)
    }

    static func index(run: UInt64, transaction: UInt64) -> String { "run \(run) transaction \(transaction)" }

    static func file(_ status: FileStatus) -> String {
        "inode \(status.inode) size \(status.size) changed \(status.changedNanoseconds)"
    }

    func write(_ directory: String, _ fileSystem: any FileSystem) throws(FileError) {
        try replace(Self.path(directory), "\(index)\n\(file)\n", fileSystem)
    }

    /// Reads it and takes it away: a start that LMDB crashes is not repeated on the strength of it.
    static func take(_ directory: String, _ fileSystem: any FileSystem) throws(FileError) -> CleanMark? {
        guard let bytes = try fileSystem.contents(at: path(directory), .readOwn) else { return nil }
        try fileSystem.remove(path(directory))
        return CleanMark(String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init))
    }

    private init?(_ lines: [String]) {
        guard lines.count == 2 else { return nil }
        (index, file) = (lines[0], lines[1])
    }

    private static func path(_ directory: String) -> String { directory + "/clean" }
}

extension DiskTier {
    static func prepare(_ directory: String, _ fileSystem: any FileSystem) throws(DiskTierError) -> ProcessLock {
        try onDisk { () throws(FileError) in
            for folder in ["index", "incoming", "quarantine"] + DigestAlgorithm.allCases.map({ "blobs/\($0.rawValue)" })
            {
                try fileSystem.createDirectory("\(directory)/\(folder)")
            }
        }
        do throws(ProcessLock.Failure) {
            return try ProcessLock(path: directory + "/lock")
        } catch {
            switch error {
            case .held(let held): throw .held(directory: directory, processID: held.processID)
            case .file(let error): throw .file(error)
            }
        }
    }

    /// Opens the index, or begins a new one where the configuration says so. What the old one knew is not lost: the files are adopted.
    static func openIndex(
        _ configuration: Configuration,
        _ lastStop: CleanMark?,
        _ fileSystem: any FileSystem,
        _ report: (Event) -> Void
    ) throws(DiskTierError) -> CacheIndex {
        let directory = configuration.directory
        do throws(DiskTierError) {
            try checkFormat(directory, fileSystem)
            try checkStructure(configuration, lastStop, fileSystem)
            return try openIndex(configuration, directory)
        } catch {
            guard error.isUnusable, configuration.rebuildsIndex else { throw error }
            try onDisk { () throws(FileError) in
                for file in ["data.mdb", "lock.mdb"] { try fileSystem.remove("\(directory)/index/\(file)") }
                try fileSystem.remove(uncheckedMark(directory))
                try fileSystem.synchronize(directory: directory + "/index")
                try replace(directory + "/format", format + "\n", fileSystem)
            }
            report(.rebuilt(reason: error.description))
            return try openIndex(configuration, directory)
        }
    }

    private static func checkFormat(_ directory: String, _ fileSystem: any FileSystem) throws(DiskTierError) {
        let found = try onDisk { () throws(FileError) in try fileSystem.contents(at: directory + "/format", .readOwn) }
        if let found {
            let text = String(decoding: found.prefix(100).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
            guard text == format else { throw .unknownFormat(directory: directory, found: text) }
            return
        }
        let hasIndex = try onDisk { () throws(FileError) in
            try fileSystem.status(at: indexFile(directory)) != nil
        }
        if hasIndex { throw .unknownFormat(directory: directory, found: nil) }
        try onDisk { () throws(FileError) in try replace(directory + "/format", format + "\n", fileSystem) }
    }

    /// Looks at what LMDB follows blindly, unless nobody has written into the index since it was closed in order. A large one is left after a while:
    /// the first answer does not wait for it. It is looked at to its end at the next start, if there is no orderly stop before: LMDB may have crashed.
    private static func checkStructure(
        _ configuration: Configuration,
        _ lastStop: CleanMark?,
        _ fileSystem: any FileSystem
    ) throws(DiskTierError) {
        let directory = configuration.directory
        guard let status = try onDisk({ () throws(FileError) in try fileSystem.status(at: indexFile(directory)) }),
            lastStop?.file != CleanMark.file(status)
        else { return }
        let mark = uncheckedMark(directory)
        let wasLeft = try onDisk { () throws(FileError) in try fileSystem.status(at: mark) != nil }
        let deadline = wasLeft ? Deadline.never : .after(configuration.structureCheckLimit)
        let isChecked: Bool
        do throws(LMDBError) {
            isChecked = try Environment.checkStructure(path: directory + "/index", until: deadline)
        } catch {
            throw unusable(directory, error)
        }
        do throws(FileError) {
            if isChecked { try fileSystem.remove(mark) } else { try replace(mark, "", fileSystem) }
        } catch {
            // A full volume must not refuse the start: without the mark the next one leaves it too, and with it takes longer, no worse.
        }
    }

    static func indexFile(_ directory: String) -> String { directory + "/index/data.mdb" }
    private static func uncheckedMark(_ directory: String) -> String { directory + "/unchecked" }

    private static func unusable(_ directory: String, _ error: LMDBError) -> DiskTierError {
        error.isDamage ? .unusableIndex(directory: directory, error) : .index(error)
    }

    /// At an orderly stop.
    func markClean() throws(FileError) {
        let directory = configuration.directory
        guard !index.hasMetDamage, let status = try fileSystem.status(at: Self.indexFile(directory)) else { return }
        try fileSystem.remove(Self.uncheckedMark(directory))
        try CleanMark(run: run.number, transaction: index.statistics.lastTransaction, status).write(
            directory,
            fileSystem
        )
    }

    static func openIndex(_ configuration: Configuration, _ directory: String) throws(DiskTierError) -> CacheIndex {
        do throws(LMDBError) {
            return try CacheIndex(
                directory: directory + "/index",
                mapBytes: configuration.indexMapBytes,
                maximumReaders: configuration.indexReaderLimit,
                policy: SharedPolicy(configuration.evictionPolicy.policy(capacityBytes: configuration.ceilingBytes))
            )
        } catch {
            throw unusable(directory, error)
        }
    }

    static func beginRun(
        _ index: CacheIndex,
        _ lastStop: CleanMark?,
        _ directory: String,
        _ fileSystem: any FileSystem
    ) throws(DiskTierError) -> CacheIndex.Run {
        let last = try inIndex { () throws(LMDBError) in try index.runNumber() }
        let isClean = lastStop?.index == CleanMark.index(run: last, transaction: index.statistics.lastTransaction)
        do throws(DiskTierError) {
            return try inIndex { () throws(LMDBError) in try index.beginRun(isClean: isClean) }
        } catch {
            let reserve = startReserve(directory)
            guard error.isNoSpace, try onDisk({ () throws(FileError) in try fileSystem.remove(reserve) }) else {
                throw error
            }
            return try inIndex { () throws(LMDBError) in try index.beginRun(isClean: isClean) }
        }
    }

    // A start writes to the index, also where others have filled the volume since the last one.

    static let startReserveBytes: Int64 = 32 << 10

    private static func startReserve(_ directory: String) -> String { directory + "/start-reserve" }

    /// Without it, a start on a full volume may fail, no worse.
    static func keepStartReserve(_ directory: String, _ fileSystem: any FileSystem) {
        let path = startReserve(directory)
        do throws(FileError) {
            guard try fileSystem.status(at: path) == nil else { return }
            try fileSystem.allocate(fileSystem.open(path, .create), size: startReserveBytes)
        } catch {
            _ = try? fileSystem.remove(path)  // What is there of it is of no use.
        }
    }
}

extension DiskTierError {
    fileprivate var isUnusable: Bool {
        switch self {
        case .unknownFormat, .unusableIndex: true
        default: false
        }
    }
}

/// A small file, whole or not at all.
private func replace(_ path: String, _ text: String, _ fileSystem: any FileSystem) throws(FileError) {
    let temporary = path + ".new"
    try fileSystem.remove(temporary)
    let file = try fileSystem.open(temporary, .create)
    try fileSystem.write(Array(text.utf8).span, to: file, at: 0)
    try fileSystem.publish(file, from: temporary, as: path)
}
