internal import Glibc

/// The path of a Unix-domain socket in a form that fits the kernel's `sockaddr_un`, however deep the socket lies (`unix(7)`).
///
/// A path that is too long is reached through a descriptor of its directory, which this value keeps open.
public final class SocketPath: Sendable {
    /// What `sun_path` holds beside the closing zero.
    public static let maximumBytes = 107

    /// As it was given, for messages.
    public let path: String
    /// What to bind or connect to, as long as this value lives.
    public let address: String
    private let directory: File?

    public init(_ path: String) throws(FileError) {
        self.path = path
        guard path.utf8.count > Self.maximumBytes else {
            address = path
            directory = nil
            return
        }
        let parent = parentDirectory(of: path)
        let descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileError(operation: "open", path: parent, code: errno) }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        address = "/proc/self/fd/\(descriptor)/\(name)"
        directory = File(owning: descriptor, path: parent)
        guard address.utf8.count <= Self.maximumBytes else {
            throw FileError(operation: "bind", path: path, code: ENAMETOOLONG)
        }
    }
}
