internal import LMDB
internal import OCI
internal import System

extension DiskTier {
    /// Looks at how much the volume has left. Other users of it may take what the ceiling would allow the tier.
    func observeVolume() {
        do throws(FileError) {
            let available = try fileSystem.space(at: configuration.directory).available
            let room = available - configuration.minimumFreeBytes
            ledger.update { $0.volumeLimitBytes = $0.knownBytes + room }
        } catch {
            // What was seen last still holds, and a full disk shows itself.
            note(.file(error))
        }
    }

    /// Why a reservation was not granted although all was evicted that could be.
    func noRoom(for bytes: Int64) -> DiskTierError {
        observeVolume()
        let (entries, floor) = (ledger.current, configuration.minimumFreeBytes)
        let room = entries.volumeLimitBytes - entries.knownBytes
        guard room < bytes else { return .noRoomNow(bytes: bytes) }
        return .volumeFull(availableBytes: max(0, room + floor), floorBytes: floor)
    }

    /// Evicts at least so many bytes. On a volume without a single free block the index cannot even forget: then the files go first.
    ///
    /// - Returns: false when there is nothing to take.
    func evict(atLeast bytes: Int64, for wanted: Int64) throws(DiskTierError) -> Bool {
        do throws(DiskTierError) {
            return try evictFiles(atLeast: bytes, for: wanted)
        } catch {
            note(error)
            guard case .index(let reason) = error, reason.isNoSpace, try giveWay() else { throw error }
            return try evictFiles(atLeast: bytes, for: wanted)
        }
    }

    /// Removes the files of some records that stay for a moment: to a reader they are misses. False when there were none.
    private func giveWay() throws(DiskTierError) -> Bool {
        let index = index
        // Changes nothing: pins are asked for in a write transaction.
        let victims = try inIndex { () throws(LMDBError) in
            try index.write { transaction throws(LMDBError) in
                var keys: [[UInt8]] = []
                try transaction.forEach(index.files) { _, key in
                    keys.append([UInt8](key))
                    return keys.count < 64
                }
                var victims: [Digest] = []
                for key in keys where victims.count < 8 {
                    guard let digest = Digest(key: key) else { continue }
                    if try !index.isPinned(Key.item(.blob(digest)), transaction) { victims.append(digest) }
                }
                return victims
            }
        }
        for victim in victims { discard(path(of: victim), bytes: 0) }
        return !victims.isEmpty
    }
}
