internal import LMDB
internal import OCI
internal import System

extension DiskTier {
    /// Looks at how much the volume has left. Other users of it may take what the ceiling would allow the tier.
    func observeVolume() {
        // What lands or goes while the volume is asked counts against the tier.
        let landed = ledger.current.landedBytes
        do throws(FileError) {
            let available = try fileSystem.space(at: configuration.directory).available
            let room = available - configuration.minimumFreeBytes
            ledger.update { $0.volumeLimitBytes = min(landed, $0.landedBytes) + room }
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

    /// Evicts for as long as some bytes are missing. On a volume without a single free block the index cannot even forget: then some files go first.
    ///
    /// - Returns: false when there is nothing to take.
    func evict(_ missing: () -> Int64) throws(DiskTierError) -> Bool {
        do throws(DiskTierError) {
            return try evictFiles(missing: missing)
        } catch {
            note(error)
            guard case .index(let reason) = error, reason.isNoSpace, try giveWay() else { throw error }
            return try evictFiles(missing: missing)
        }
    }

    /// Removes the files of some records that stay for a moment: to a reader they are misses. False when there were none.
    private func giveWay() throws(DiskTierError) -> Bool {
        let (index, readers) = (index, readers)
        let victims = try inIndex { () throws(LMDBError) in
            try index.read { transaction throws(LMDBError) in
                var victims: [Digest] = []
                try transaction.forEach(index.files) { queueKey, key in
                    // Pinned ones come last.
                    guard queueKey[0] != Sweep.pinnedSegment else { return false }
                    let key = [UInt8](key)
                    if let digest = Digest(key: key), !readers.isRead(Key.hash(key)) { victims.append(digest) }
                    return victims.count < 8
                }
                return victims
            }
        }
        for victim in victims { discard(path(of: victim), bytes: 0) }
        return !victims.isEmpty
    }
}
