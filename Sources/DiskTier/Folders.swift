internal import OCI
internal import Synchronization
internal import System

/// What the tier's folders take of the volume: a block each at first, more as names come to lie in them, which most file systems keep.
final class Folders: Sendable {
    private let allocated = Mutex<(of: [String: Int64], sum: Int64)>(([:], 0))

    func note(_ path: String, _ bytes: Int64) {
        allocated.withLock { $0.sum += bytes - ($0.of.updateValue(bytes, forKey: path) ?? 0) }
    }

    /// Of all that were looked at.
    var bytes: Int64 { allocated.withLock { $0.sum } }
}

extension DiskTier {
    /// Of the ceiling. No eviction makes a folder smaller: without a limit, those of many files would leave a lowered ceiling no room at all.
    private static let foldersShare: Int64 = 16

    /// Looks at what a folder takes. Where that cannot be asked for, it is as before.
    func measureFolder(_ path: String) {
        guard let status = try? fileSystem.status(at: path) else { return }
        folders.note(path, status.allocated)
        ledger.update { entries in
            let bytes = min(folders.bytes, ledger.ceilingBytes / Self.foldersShare)
            // What an earlier run left was known to be no more than this.
            entries.unknownBytes = max(0, entries.unknownBytes - max(0, bytes - entries.folderBytes))
            entries.folderBytes = bytes
        }
    }

    /// Of one that cannot be read, those in it are as before too.
    func measureFolders() {
        for name in ["", "/index", "/incoming", "/uploads", "/quarantine"] { measureFolder(directory + name) }
        for algorithm in DigestAlgorithm.allCases {
            let root = "\(directory)/blobs/\(algorithm.rawValue)"
            measureFolder(root)
            for folder in (try? fileSystem.entries(of: root)) ?? [] { measureFolder("\(root)/\(folder.name)") }
        }
    }
}
