internal import OCI
internal import Synchronization
internal import System

/// Damaged files, kept for whoever wants to know what happened to them. The oldest go first.
final class Quarantine: Sendable {
    struct Entry: Sendable {
        let name: String
        /// Blocks, in bytes.
        let bytes: Int64
    }

    static let maximumFiles = 64
    /// Of the ceiling, together.
    static let sharePercent: Int64 = 5

    private let entries = Mutex<[Entry]>([])

    /// Takes a file in; which have to go for it.
    func admit(_ entry: Entry, limitBytes: Int64) -> [Entry] {
        entries.withLock { entries in
            // A second file of a name has replaced the first one on the disk.
            var leaving = entries.filter { $0.name == entry.name }
            entries.removeAll { $0.name == entry.name }
            var sum = entries.reduce(entry.bytes) { $0 + $1.bytes }
            while !entries.isEmpty, entries.count >= Self.maximumFiles || sum > limitBytes {
                sum -= entries[0].bytes
                leaving.append(entries.removeFirst())
            }
            entries.append(entry)
            return leaving
        }
    }

    /// Replaces all, at the start; which of them have to go, the oldest first, under a lower ceiling.
    func load(_ all: [Entry], limitBytes: Int64) -> [Entry] {
        var (kept, sum) = (all[...], all.reduce(0) { $0 + $1.bytes })
        while let oldest = kept.first, sum > limitBytes {
            sum -= oldest.bytes
            kept = kept.dropFirst()
        }
        entries.withLock { $0 = Array(kept) }
        return Array(all[..<kept.startIndex])
    }
}

extension DiskTier {
    var quarantineDirectory: String { configuration.directory + "/quarantine" }

    /// Puts a damaged file aside: the index forgets it first, so that it is fetched again when it is next asked for.
    func quarantine(_ digest: Digest, _ record: BlobRecord) throws(DiskTierError) {
        guard case .file(let facts) = record.place, try unlink(digest, record) else { return }
        let limit = ledger.ceilingBytes * Quarantine.sharePercent / 100
        let name = "\(digest.algorithm.rawValue)-\(digest.hex)"
        guard facts.allocated <= limit, move(path(of: digest), to: "\(quarantineDirectory)/\(name)") else {
            cutShort(path(of: digest))
            discard(path(of: digest), bytes: facts.allocated)
            readers.release(facts.allocated, Key.hash(Key.digest(digest)))
            return report(damage: digest, kept: nil)
        }
        let leaving = damagedFiles.admit(Quarantine.Entry(name: name, bytes: facts.allocated), limitBytes: limit)
        for old in leaving where old.name != name { discard("\(quarantineDirectory)/\(old.name)", bytes: old.bytes) }
        let freed = leaving.reduce(0) { $0 + $1.bytes }
        ledger.update { entries in
            entries.committedBytes -= facts.allocated
            entries.quarantinedBytes += facts.allocated - freed
        }
        report(damage: digest, kept: "\(quarantineDirectory)/\(name)")
    }

    /// Tells who reads a damaged file, as far as that can be done: good ones lose their names too.
    private func cutShort(_ path: String) {
        guard let (file, _) = try? fileSystem.openRegular(path, .readWrite) else { return }
        try? fileSystem.truncate(file, to: 0)
    }

    /// Puts aside what lies in the place of a blob's file and is none.
    func putAside(_ digest: Digest, _ record: BlobRecord) throws(DiskTierError) {
        guard case .file(let facts) = record.place, try unlink(digest, record) else { return }
        ledger.update { $0.committedBytes -= facts.allocated }
        let kept = putAside(path(of: digest))
        if kept == nil { discard(path(of: digest), bytes: 0) }
        report(damage: digest, kept: kept)
    }

    /// Takes what is no file of ours out of the way: it takes no room, and whoever made it may look for it. Where it is then.
    func putAside(_ path: String) -> String? {
        let place = "\(quarantineDirectory)/\(random.token())"
        return move(path, to: place) ? place : nil
    }

    private func move(_ source: String, to destination: String) -> Bool {
        do throws(FileError) {
            try fileSystem.rename(source, to: destination)
            return true
        } catch {
            note(.file(error))
            return false
        }
    }

    /// The index knew a file that is gone.
    func missed(_ digest: Digest, _ record: BlobRecord) throws(DiskTierError) {
        guard try unlink(digest, record), case .file(let facts) = record.place else { return }
        ledger.update { $0.committedBytes -= facts.allocated }
        counters.missing.wrappingAdd(1, ordering: .relaxed)
        report(.missing(digest))
    }

    func report(damage digest: Digest, kept: String?) {
        counters.damaged.wrappingAdd(1, ordering: .relaxed)
        report(.damaged(digest, kept: kept))
    }

    /// Counts what earlier runs put aside: few files, bounded by what may lie there.
    func loadQuarantine() throws(DiskTierError) {
        let names = try onDisk { () throws(FileError) in try fileSystem.entries(of: quarantineDirectory) }
        var found: [(entry: Quarantine.Entry, changed: Int64)] = []
        for name in names where !name.isDirectory && !name.isLink {
            let path = "\(quarantineDirectory)/\(name.name)"
            guard let status = try onDisk({ () throws(FileError) in try fileSystem.status(at: path) }) else { continue }
            found.append((Quarantine.Entry(name: name.name, bytes: status.allocated), status.changedNanoseconds))
        }
        found.sort { $0.changed < $1.changed }
        let limit = ledger.ceilingBytes * Quarantine.sharePercent / 100
        let leaving = damagedFiles.load(found.map(\.entry), limitBytes: limit)
        for old in leaving { discard("\(quarantineDirectory)/\(old.name)", bytes: old.bytes) }
        let sum = found.dropFirst(leaving.count).reduce(0) { $0 + $1.entry.bytes }
        ledger.update { $0.quarantinedBytes = sum }
    }
}
