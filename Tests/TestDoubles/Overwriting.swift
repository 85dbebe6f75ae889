internal import Glibc
internal import System

/// Writes over a file, at a moment that the kernel's clock tells from that of the last change, and puts its time of modification back.
public func overwriteLater(_ path: String, at offset: Int64 = 1000, _ bytes: [UInt8] = [0, 1]) throws {
    let files = LocalFileSystem()
    let file = try files.open(path, .readWrite)
    let before = try files.status(of: file)
    repeat {
        try files.write(bytes.span, to: file, at: offset)
        try files.setModified(file, nanoseconds: before.modifiedNanoseconds)
    } while try files.status(of: file).changedNanoseconds == before.changedNanoseconds
}

/// Changes what is known of a file but not its bytes, at a moment that the kernel's clock tells from that of the last change.
public func touchLater(_ path: String) throws {
    let files = LocalFileSystem()
    let before = try files.status(at: path)?.changedNanoseconds
    repeat { chmod(path, 0o640) } while try files.status(at: path)?.changedNanoseconds == before
}
