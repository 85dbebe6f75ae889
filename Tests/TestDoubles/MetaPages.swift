internal import Glibc

/// Lets the next write of a meta page fail of the LMDB environment that is open in this folder. Only they go through a descriptor with
/// `O_DSYNC`; it leads to one that cannot be written.
public func failNextMetaWrite(of folder: String) -> Bool {
    for descriptor in 3..<Int32(1024) where fcntl(descriptor, F_GETFL) & O_DSYNC != 0 {
        var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let length = readlink("/proc/self/fd/\(descriptor)", &target, target.count)
        guard length > 0, String(decoding: target[..<length], as: UTF8.self) == folder + "/data.mdb" else { continue }
        let reading = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(reading) }
        return dup2(reading, descriptor) == descriptor
    }
    return false
}
