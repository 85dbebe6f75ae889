internal import LMDB
internal import OCI
internal import System

/// On-disk format; changed when an older program could misread what this one writes.
private let format = "forebay 3"

/// Written at an orderly stop: the index as it was then. An index that is not this one, however it came there, means an unclean stop.
struct CleanMark: Equatable {
    let run: UInt64
    let transaction: UInt64

    private var text: String { "run \(run) transaction \(transaction)\n" }

    func write(_ directory: String, _ fileSystem: any FileSystem) throws(FileError) {
        try replace(directory + "/clean", text, fileSystem)
    }

    func isWritten(_ directory: String, _ fileSystem: any FileSystem) throws(FileError) -> Bool {
        try fileSystem.contents(at: directory + "/clean", .readOwn) == Array(text.utf8)
    }
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
        _ fileSystem: any FileSystem,
        _ report: (Event) -> Void
    ) throws(DiskTierError) -> CacheIndex {
        let directory = configuration.directory
        do throws(DiskTierError) {
            try checkFormat(directory, fileSystem)
            return try openIndex(configuration, directory)
        } catch {
            guard error.isUnusable, configuration.rebuildsIndex else { throw error }
            try onDisk { () throws(FileError) in
                for file in ["data.mdb", "lock.mdb"] { try fileSystem.remove("\(directory)/index/\(file)") }
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
            try fileSystem.status(at: directory + "/index/data.mdb") != nil
        }
        if hasIndex { throw .unknownFormat(directory: directory, found: nil) }
        try onDisk { () throws(FileError) in try replace(directory + "/format", format + "\n", fileSystem) }
    }

    private static func openIndex(_ configuration: Configuration, _ directory: String) throws(DiskTierError)
        -> CacheIndex
    {
        do throws(LMDBError) {
            return try CacheIndex(
                directory: directory + "/index",
                mapBytes: configuration.indexMapBytes,
                maximumReaders: configuration.indexReaderLimit,
                policy: SharedPolicy(configuration.evictionPolicy.policy(capacityBytes: configuration.ceilingBytes))
            )
        } catch {
            throw error.isDamage ? .unusableIndex(directory: directory, error) : .index(error)
        }
    }

    static func beginRun(
        _ index: CacheIndex,
        _ directory: String,
        _ fileSystem: any FileSystem
    ) throws(DiskTierError) -> CacheIndex.Run {
        let last = try inIndex { () throws(LMDBError) in try index.runNumber() }
        let mark = CleanMark(run: last, transaction: index.statistics.lastTransaction)
        let isClean = try onDisk { () throws(FileError) in try mark.isWritten(directory, fileSystem) }
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
