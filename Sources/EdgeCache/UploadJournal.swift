internal import DiskTier
internal import Logging
internal import System

/// The records of the upload sessions, a file each beside the bytes.
///
/// They are written for a process that ends, not for a power cut: what that may damage is found by the hash in the end, or the session is gone.
struct UploadJournal: Sendable {
    let tier: DiskTier
    let fileSystem: any FileSystem
    let log: Logger

    private static let dataSuffix = ".data"
    private static let remoteSuffix = ".remote"
    private static let newSuffix = ".new"
    private static let bootLimitBytes = 64

    static func dataName(_ id: String) -> String { id + dataSuffix }

    /// The kernel's run; empty when it does not say.
    let boot: String

    init(tier: DiskTier, fileSystem: any FileSystem, log: Logger) {
        self.tier = tier
        self.fileSystem = fileSystem
        self.log = log
        // Without it, bytes are hashed again after each restart.
        let bytes = try? fileSystem.read(
            fileSystem.open("/proc/sys/kernel/random/boot_id", .read),
            at: 0,
            count: Self.bootLimitBytes
        )
        boot = String(decoding: (bytes ?? []).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    private func path(_ name: String) -> String { "\(tier.uploadDirectory)/\(name)" }

    /// A record that cannot be written costs a client the resumption after a restart, nothing now.
    func save(_ id: String, _ record: UploadRecord) { save(record.encoded, as: id) }

    /// Written as soon as an upload begins at the origin, so that the next run can abort it.
    func saveRemote(_ id: String, _ record: RemoteRecord) { save(record.encoded, as: id + Self.remoteSuffix) }

    private func save(_ bytes: [UInt8], as name: String) {
        do throws(FileError) {
            let temporary = path(name + Self.newSuffix)
            try fileSystem.write(bytes.span, to: create(temporary), at: 0)
            try fileSystem.rename(temporary, to: path(name))
        } catch {
            log.warning("upload not recorded", metadata: ["upload": "\(name)", "error": "\(error)"])
        }
    }

    /// Where an earlier attempt may have ended half way. The directory is made when there is none.
    private func create(_ path: String) throws(FileError) -> File {
        do throws(FileError) {
            return try fileSystem.open(path, .create)
        } catch {
            if error.isNotFound {
                try fileSystem.createDirectory(tier.uploadDirectory)
            } else if error.isAlreadyThere {
                try fileSystem.remove(path)
            } else {
                throw error
            }
            return try fileSystem.open(path, .create)
        }
    }

    /// Removes a session's files; first the record, so that none is ever without its bytes.
    func remove(_ id: String) {
        for name in [id, Self.dataName(id), id + Self.remoteSuffix] { remove(file: name) }
    }

    private func remove(file name: String) {
        do throws(FileError) {
            try fileSystem.remove(path(name))
        } catch {
            log.warning("a file of an upload stays behind", metadata: ["file": "\(path(name))", "error": "\(error)"])
        }
    }

    /// What an earlier run has left. Files that belong to no session go.
    func load() -> [(id: String, record: UploadRecord)] {
        do throws(FileError) {
            let names = try fileSystem.entries(of: tier.uploadDirectory).map(\.name)
            var records: [(id: String, record: UploadRecord)] = []
            for id in names where !id.contains(".") {
                let remote = try fileSystem.contents(at: path(id + Self.remoteSuffix)).flatMap { RemoteRecord($0) }
                guard let bytes = try fileSystem.contents(at: path(id)),
                    let record = UploadRecord(bytes, remote: remote)
                else {
                    log.warning("upload dropped: its record is damaged", metadata: ["upload": "\(id)"])
                    continue
                }
                records.append((id, record))
            }
            var known: Set<String> = []
            for (id, record) in records {
                known.formUnion([id, id + Self.remoteSuffix])
                if record.isInFile { known.insert(Self.dataName(id)) }
            }
            for name in names where !known.contains(name) { remove(file: name) }
            return records
        } catch {
            log.error("uploads cannot be taken up again", metadata: ["error": "\(error)"])
            return []
        }
    }
}
