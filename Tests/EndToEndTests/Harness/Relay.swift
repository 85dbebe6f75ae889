import FaultProxy

/// What stands between a program and its server.
extension FaultProxy {
    static func relay(to target: UInt16) throws -> FaultProxy { try FaultProxy(to: target, port: Ports.free()) }

    var endpoint: Endpoint { Endpoint(port: port) }

    /// The requests for the bytes of blobs.
    var blobRequests: [String] { requestLines.filter { $0.contains("/blobs/") } }
}
