internal import System

extension DiskTier {
    /// Looks at how much the volume has left. Other users of it may take what the ceiling would allow the tier.
    func observeVolume() {
        guard configuration.minimumFreeBytes > 0 else { return }
        do throws(FileError) {
            let available = try fileSystem.space(at: configuration.directory).available
            let room = available - configuration.minimumFreeBytes
            ledger.update { $0.volumeLimitBytes = $0.usedBytes - $0.unknownBytes + room }
        } catch {
            // What was seen last still holds, and a full disk shows itself.
            note(.file(error))
        }
    }

    /// Why a reservation was not granted although all was evicted that could be.
    func noRoom(for bytes: Int64) -> DiskTierError {
        let (entries, floor) = (ledger.current, configuration.minimumFreeBytes)
        guard entries.volumeLimitBytes < ledger.ceilingBytes else { return .noRoomNow(bytes: bytes) }
        let left = entries.volumeLimitBytes - (entries.usedBytes - entries.unknownBytes) + floor
        return .volumeFull(availableBytes: max(0, left), floorBytes: floor)
    }
}
