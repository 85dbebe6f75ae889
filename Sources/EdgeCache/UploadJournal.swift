internal import DiskTier
internal import Logging
internal import Synchronization
internal import System

/// The records of the upload sessions, a file each beside the bytes, and the room that all of their files take.
///
/// They are written for a process that ends, not for a power cut: what that may damage is found by the hash in the end, or the session is gone.
/// Of one session's files, each is written by one thread at a time.
final class UploadJournal: Sendable {
    private let tier: DiskTier
    private let fileSystem: any FileSystem
    private let log: Logger
    /// By the files' names.
    private let rooms = Mutex<[String: Reservation]>([:])

    private static let dataSuffix = ".data"
    private static let remoteSuffix = ".remote"
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

    /// Bytes that were written then are what they were.
    func isOfThisBoot(_ boot: String) -> Bool { boot == self.boot && !boot.isEmpty }

    /// That of the file with this name, which may be to come.
    func room(of name: String) -> Reservation {
        let new = tier.newUploadReservation(isSmall: !name.hasSuffix(Self.dataSuffix))
        return rooms.withLock { rooms in
            if let room = rooms[name] { return room }
            rooms[name] = new
            return new
        }
    }

    /// A record that cannot be written, for want of room say, costs a client the resumption after a restart, nothing now.
    func save(_ id: String, _ record: UploadRecord) {
        // Its last part once found no room: content is not evicted for it again and again.
        if record.isPassing, room(of: id).held == 0 { return }
        save(record.encoded, as: id)
    }

    /// Written as soon as an upload begins at the origin, so that the next run can abort it.
    func saveRemote(_ id: String, _ record: RemoteRecord) { save(record.encoded, as: id + Self.remoteSuffix) }

    private func save(_ bytes: [UInt8], as name: String) {
        let room = room(of: name)
        let isNews = room.held > 0
        do throws(DiskTierError) {
            try tier.replaceUploadFile(name, with: bytes, room)
        } catch {
            log.log(
                level: isNews || !error.isNoSpace ? .warning : .debug,
                "upload not recorded: it ends with this process",
                metadata: ["upload": "\(name)", "error": "\(error)"]
            )
        }
    }

    /// Removes a session's files; first the record, so that none is ever without its bytes.
    func remove(_ id: String) {
        for name in [id, Self.dataName(id), id + Self.remoteSuffix] { remove(file: name) }
    }

    private func remove(file name: String) {
        tier.removeUploadFile(name, room(of: name))
        rooms.withLock { _ = $0.removeValue(forKey: name) }
    }

    /// What an earlier run has left. Files that belong to no session go.
    func load() -> [(id: String, record: UploadRecord)] {
        do throws(FileError) {
            let names = try fileSystem.entries(of: tier.uploadDirectory).map(\.name)
            enter(names)
            var records: [(id: String, record: UploadRecord)] = []
            for id in names where !id.contains(".") {
                let remote = try contents(of: id + Self.remoteSuffix).flatMap { RemoteRecord($0) }
                guard let bytes = try contents(of: id),
                    let record = UploadRecord(bytes, remote: remote),
                    !record.isInFile || room(of: Self.dataName(id)).held > 0
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

    /// `nil` when there is no such file, or something else in its place.
    private func contents(of name: String) throws(FileError) -> [UInt8]? {
        do throws(FileError) {
            return try fileSystem.contents(at: path(name), .readOwn)
        } catch {
            guard error.isReplaced else { throw error }
            return nil
        }
    }

    /// Whatever becomes of them, they are there. One that cannot even be looked at is as good as gone.
    private func enter(_ names: [String]) {
        for name in names {
            let isSmall = !name.hasSuffix(Self.dataSuffix)
            guard let room = try? tier.reservationOfUploadFile(name, isSmall: isSmall) else { continue }
            rooms.withLock { $0[name] = room }
        }
        tier.restoreCeiling()
    }
}
