public import System

/// A blob that can be answered with.
public enum BlobContent: Sendable {
    /// Small, in memory.
    case bytes([UInt8])
    /// On disk, verified; `size` is the file's.
    case file(File, size: Int64)
    /// On its way from the origin.
    case stream(any BlobStream, size: Int64)

    /// In bytes.
    public var size: Int64 {
        switch self {
        case .bytes(let bytes): Int64(bytes.count)
        case .file(_, let size), .stream(_, let size): size
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
}

/// One reader's view of a blob that is still arriving.
public protocol BlobStream: AnyObject, Sendable {
    /// Waits for bytes at `offset` and appends at least one. Offsets go up without gaps.
    ///
    /// The last byte of the blob comes only once the whole content has proved to have its digest: damage and short bodies end in
    /// an error here, never in a complete answer.
    func read(at offset: Int64, into buffer: inout OutputSpan<UInt8>) throws(EdgeError)
    /// Appends what can be had without waiting for anything, which may be nothing.
    func readAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>)
}

extension BlobStream {
    public func readAtOnce(at offset: Int64, into buffer: inout OutputSpan<UInt8>) {}
}
