internal import OCI

/// Streams a blob from the origin to a client without keeping it, for what does not fit on disk.
///
/// The whole is fetched from its start and verified, the end held back until the digest is known; clients that keep together share that
/// (``Passage``). Of a range just its bytes are fetched; their number is checked, the digest cannot be. While the object is doubted, a range that
/// ends where the blob does is the rest of it. However many transfers it takes, a client's bytes are all of one object.
///
/// Sendable because everything shared with other threads is in the passage; the rest belongs to the one reading thread.
final class PassThrough: BlobStream, @unchecked Sendable {
    private let fills: Fills
    private let digest: Digest
    private let size: Int64
    /// What the bytes are of that the client has.
    private var object: ObjectVersion?
    private var seat: Passage.Seat?
    /// Where the client reads, and where it ends.
    private var place: Int64 = 0
    private var end: Int64
    private var isWanted: () -> Bool = { true }

    init(_ fills: Fills, _ digest: Digest, size: Int64, of object: ObjectVersion? = nil) {
        self.fills = fills
        self.digest = digest
        self.size = size
        self.object = object
        end = size
    }

    /// Those that are told at the same moment begin together, whoever reads first.
    func begin(_ range: Range<Int64>, isWanted: @escaping () -> Bool) throws(EdgeError) {
        let isDoubted = range.upperBound == size && fills.damages.contains(digest)
        try begin(range, isWhole: range == 0..<size || isDoubted, isWanted: isWanted)
    }

    /// - Parameter isWhole: the client has all bytes before the range from elsewhere, and wants the rest; they are fetched again to verify the
    ///   whole, and not given out.
    func begin(_ range: Range<Int64>, isWhole: Bool, isWanted: @escaping () -> Bool) throws(EdgeError) {
        let wish: Passages.Wish =
            isWhole ? .whole(digest, size: size, from: range.lowerBound) : .part(digest, range, size: size)
        self.isWanted = isWanted
        seat = nil
        seat = try fills.passages.seat(for: wish, isWanted: isWanted)
        (place, end) = (range.lowerBound, range.upperBound)
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        if seat == nil || offset != place { try begin(offset..<size, isWanted: isWanted) }
        let before = buffer.count
        while try seat?.read(at: offset, into: &buffer, of: &object, from: fills, isWanted: isWanted) == false {
            try begin(offset..<end, isWanted: isWanted)
        }
        place += Int64(buffer.count - before)
    }
}
