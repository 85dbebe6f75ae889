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
    private static let newSuffix = ".new"

    static func dataName(_ id: String) -> String { id + dataSuffix }

    private func path(_ name: String) -> String { "\(tier.uploadDirectory)/\(name)" }

    /// A record that cannot be written costs a client the resumption after a restart, nothing now.
    func save(_ id: String, _ record: UploadRecord) {
        let bytes = record.encoded
        do throws(FileError) {
            let temporary = path(id + Self.newSuffix)
            try fileSystem.createDirectory(tier.uploadDirectory)
            try fileSystem.remove(temporary)
            try fileSystem.write(bytes.span, to: fileSystem.open(temporary, .create), at: 0)
            try fileSystem.rename(temporary, to: path(id))
        } catch {
            log.warning("upload not recorded", metadata: ["upload": "\(id)", "error": "\(error)"])
        }
    }

    /// Removes a session's files; first the record, so that none is ever without its bytes.
    func remove(_ id: String) {
        for name in [id, Self.dataName(id), id + Self.newSuffix] { remove(file: name) }
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
                guard let bytes = try fileSystem.contents(at: path(id)), let record = UploadRecord(bytes) else {
                    log.warning("upload dropped: its record is damaged", metadata: ["upload": "\(id)"])
                    continue
                }
                records.append((id, record))
            }
            let known = Set(records.map(\.id) + records.filter(\.record.isInFile).map { Self.dataName($0.id) })
            for name in names where !known.contains(name) { remove(file: name) }
            return records
        } catch {
            log.error("uploads cannot be taken up again", metadata: ["error": "\(error)"])
            return []
        }
    }
}
