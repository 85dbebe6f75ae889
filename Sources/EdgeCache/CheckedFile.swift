internal import DiskTier
internal import System

/// A file of the tier that is being hashed again, for one reader: it follows behind the hash, and gets the end once that is right.
final class CheckedFile: BlobStream {
    private let check: FileCheck
    private let fileSystem: any FileSystem

    init(_ check: FileCheck, _ fileSystem: any FileSystem) {
        self.check = check
        self.fileSystem = fileSystem
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        do throws(DiskTierError) {
            let count = min(Int64(buffer.freeCapacity), try check.waitForBytes(at: offset))
            do throws(FileError) {
                let got = try fileSystem.read(check.file, at: offset, count: Int(count), into: &buffer)
                // Cut short since: the rest is not there to be had.
                if got == 0 { throw FileError.truncated(check.file.path) }
            } catch {
                throw .file(error)
            }
            // The reader is behind the hash: with the last byte it is told whether these are the bytes that were hashed.
            if offset + count == check.size { try check.requireUntouched(fileSystem) }
        } catch {
            throw .tier(error)
        }
    }

    /// The file, once its bytes have proved right.
    func verified() throws(EdgeError) -> BlobContent {
        do throws(DiskTierError) {
            try check.waitUntilVerified()
        } catch {
            throw .tier(error)
        }
        return .file(check.file, check.status)
    }
}

extension BlobContent {
    /// What a part may be taken of. A part has an end of its own, which must not come before the whole has proved right.
    public func forRanges() throws(EdgeError) -> BlobContent {
        guard case .stream(let stream as CheckedFile, _) = self else { return self }
        return try stream.verified()
    }
}
