public import System

/// A blob that can be answered with.
public enum BlobContent: Sendable {
    /// Small, in memory.
    case bytes([UInt8])
    /// On disk, verified: what the file was then.
    case file(File, FileStatus)
    /// On its way from the origin.
    case stream(any BlobStream, size: Int64)

    /// In bytes.
    public var size: Int64 {
        switch self {
        case .bytes(let bytes): Int64(bytes.count)
        case .file(_, let status): status.size
        case .stream(_, let size): size
        }
    }

    /// Reading it leaves nothing here: it goes from the origin past the disk.
    public var isPassing: Bool {
        switch self {
        case .stream(is PassThrough, _): true
        case .stream(let reader as FillReader, _): reader.isPassing
        case .stream, .bytes, .file: false
        }
    }

    /// Takes what a client needs to read these bytes: where they go past the disk, this waits for a transfer.
    ///
    /// - Parameter isWanted: false when the client has hung up; asked while nothing comes for it.
    public func begin(_ range: Range<Int64>, isWanted: @escaping () -> Bool = { true }) throws(EdgeError) {
        if case .stream(let stream, _) = self { try stream.begin(range, isWanted: isWanted) }
    }
}

/// One reader's view of a blob that is still arriving.
public protocol BlobStream: AnyObject, Sendable {
    /// Called at most once, before anything is read: just these bytes will be.
    func begin(_ range: Range<Int64>, isWanted: @escaping () -> Bool) throws(EdgeError)
    /// Waits for bytes at `offset` and appends at least one. Offsets go up without gaps.
    ///
    /// The last byte of the blob comes only once the whole content has proved to have its digest: damage and short bodies end in
    /// an error here, never in a complete answer. Who reads just a little at the end does not wait for that.
    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError)
    /// Appends what can be had without waiting for anything, which may be nothing.
    func readAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>)
    /// The file that the blob comes to lie in, unless something happens to it, for a reader of the whole: what has come may be sent from there.
    var file: File? { get }
    /// How many bytes at `offset` may be sent from the file; never the last one before the whole has proved right.
    func countInFile(from offset: Int64) -> Int64
    /// Waits for such bytes; false when the reader has to go on by ``read(at:into:)``.
    func waitForFile(at offset: Int64) -> Bool
}

extension BlobStream {
    public func begin(_ range: Range<Int64>, isWanted: @escaping () -> Bool) throws(EdgeError) {}
    public func readAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {}
    public var file: File? { nil }
    public func countInFile(from offset: Int64) -> Int64 { 0 }
    public func waitForFile(at offset: Int64) -> Bool { false }
}
