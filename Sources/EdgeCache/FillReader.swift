internal import DiskTier
internal import System
internal import Threading

/// Reads along with a fill; when the local disk fails under it, goes on straight from the origin, as long as what the client has is true.
///
/// Sendable because one thread at a time reads for its request.
final class FillReader: BlobStream, @unchecked Sendable {
    /// Who reads no more than this at the end of a blob wants just that, as eStargz its footer and SOCI its last span (4 MiB by default), and does
    /// not wait for the whole. A longer rest may complete a pull that broke off, for which the last byte says that all of it is right, as may a
    /// good part of a small blob, which is soon there.
    private static let footerBytes: Int64 = 4 << 20
    private static let footerShare: Int64 = 4

    private let member: FillMember
    private let fills: Fills
    private let size: Int64
    private let object: ObjectVersion
    /// Where the client began.
    private var first: Int64?
    private var isGoingOn = false
    /// What had landed was gone.
    private var isCut = false
    private var fallback: PassThrough?
    /// What the client wants, and whether it is still there.
    private var wanted: Range<Int64>
    /// Where the bytes end that it may have before all of them have proved right.
    private var unprovedEnd: Int64
    private var isFooter = false
    private var isWanted: () -> Bool = { true }

    init(_ member: FillMember, _ fills: Fills, size: Int64) {
        self.member = member
        self.fills = fills
        self.size = size
        object = ObjectVersion(size: size, etag: member.fill.state.withLock { $0.etag })
        wanted = 0..<size
        unprovedEnd = size - 1
    }

    func begin(_ range: Range<Int64>, isWanted: @escaping () -> Bool) {
        wanted = range
        self.isWanted = isWanted
        // Unless it comes back for the last byte of what has just broken off before it.
        isFooter =
            size - range.lowerBound <= min(Self.footerBytes, size / Self.footerShare)
            && !fills.damages.contains(member.fill.digest)
    }

    var isPassing: Bool { fallback != nil }

    var file: File? { wantsWhole ? member.fill.state.withLock { $0.content?.file } : nil }

    func countInFile(from offset: Int64) -> Int64 {
        guard fallback == nil, wantsWhole,
            case .bytes(_, let count)? = member.fill.landed(at: offset, unproved: unprovedEnd)
        else { return 0 }
        goOn(at: offset)
        return offset + count == size && member.fill.isOverwritten ? 0 : count
    }

    func waitForFile(at offset: Int64) -> Bool {
        goOn(at: offset)
        guard fallback == nil, wantsWhole, case .bytes = waitForBytes(at: offset) else { return false }
        return countInFile(from: offset) > 0
    }

    private func waitForBytes(at offset: Int64) -> Fill.Readable {
        member.fill.waitForBytes(at: offset, unproved: unprovedEnd, patience: fills.limits.readerPatience) {
            fills.schedule(member.fill)
        }
    }

    func readAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {
        guard fallback == nil, isTrusted(from: first ?? offset),
            case .bytes(let file, let count)? = member.fill.landed(at: offset, unproved: unprovedEnd)
        else { return }
        let first = goOn(at: offset)
        let wanted = Int(min(count, Int64(buffer.freeCapacity)))
        let got = fills.fileSystem.readFromMemory(file, at: offset, count: wanted, into: &buffer)
        if !isTrue(to: offset + Int64(got), from: first) { buffer.removeLast(got) }
    }

    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        let first = goOn(at: offset)
        if let fallback { return try fallback.read(at: offset, into: &buffer) }
        let fill = member.fill
        if !isTrusted(from: first) {
            guard offset > first else { return try passBy(first, at: offset, into: &buffer) }
            // What the client has may be wrong.
            fill.waitUntilProved()
        }
        if isFooter, offset >= unprovedEnd {
            // The whole may be there in a moment.
            fill.waitUntilProved(.after(fills.limits.readerPatience))
            unprovedEnd = size
        }
        switch waitForBytes(at: offset) {
        case .failed(let error):
            throw error
        case .bytes(let file, let count):
            let wanted = Int(min(count, Int64(buffer.freeCapacity)))
            do throws(FileError) {
                let got = try fills.fileSystem.read(file, at: offset, count: wanted, into: &buffer)
                if got > 0, isTrue(to: offset + Int64(got), from: first) { return }
                buffer.removeLast(got)
                isCut = got == 0 || fill.isOverwritten
                if got == 0 { fills.overwritten(fill) }
            } catch {
                // The bytes still exist at the origin.
            }
            if !isCut, fill.isLive, !isTrusted(from: first) { return try read(at: offset, into: &buffer) }
        case .storageFailed:
            break
        }
        try passBy(first, at: offset, into: &buffer)
    }

    private var wantsWhole: Bool { wanted == 0..<size }

    private func isWhole(from first: Int64) -> Bool { first == 0 && wanted.upperBound == size }

    /// A file that somebody else may have written to gives its last byte when it is hashed again, for which a range need not wait.
    private func isTrusted(from first: Int64) -> Bool { isWhole(from: first) || !member.fill.isSuspect }

    /// Whether what was read up to `offset` is what landed: nobody else can have written to the file before. Of the whole, that is known with
    /// its end.
    private func isTrue(to offset: Int64, from first: Int64) -> Bool {
        isTrusted(from: first) && !(offset == wanted.upperBound && member.fill.isOverwritten)
    }

    private func passBy(_ first: Int64, at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError) {
        // What the client has may be wrong, and is not fetched again.
        guard offset == first || !isCut && !member.fill.isSuspect else { throw .tier(.damaged(member.fill.digest)) }
        let stream = PassThrough(fills, member.fill.digest, size: size, of: offset > first ? object : nil)
        try stream.begin(offset..<wanted.upperBound, isWhole: isWhole(from: first), isWanted: isWanted)
        fallback = stream
        try stream.read(at: offset, into: &buffer)
    }

    /// Where the client began. When it comes back for more, it has what it waited for.
    @discardableResult
    private func goOn(at offset: Int64) -> Int64 {
        let first = first ?? offset
        self.first = first
        if offset > first, !isGoingOn {
            isGoingOn = true
            fills.readAhead(member.fill)
        }
        return first
    }
}
