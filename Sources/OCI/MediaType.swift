/// A media type as the specifications spell it.
public struct MediaType: Sendable, Hashable, RawRepresentable, Codable, CustomStringConvertible {
    public let rawValue: String

    public init(rawValue: String) { self.rawValue = rawValue }

    public static let imageManifest = MediaType(rawValue: "application/vnd.oci.image.manifest.v1+json")
    public static let imageIndex = MediaType(rawValue: "application/vnd.oci.image.index.v1+json")
    public static let dockerManifest = MediaType(rawValue: "application/vnd.docker.distribution.manifest.v2+json")
    public static let dockerManifestList = MediaType(
        rawValue: "application/vnd.docker.distribution.manifest.list.v2+json"
    )
    public static let octetStream = MediaType(rawValue: "application/octet-stream")

    /// The type without parameters, in lower case, as two types are compared.
    public var essence: MediaType {
        let end = rawValue.firstIndex(of: ";") ?? rawValue.endIndex
        return MediaType(rawValue: rawValue[..<end].trimmingBlanks().lowercased())
    }

    public var description: String { rawValue }
}

extension StringProtocol {
    fileprivate func trimmingBlanks() -> String {
        var view = self[...]
        while view.first == " " || view.first == "\t" { view.removeFirst() }
        while view.last == " " || view.last == "\t" { view.removeLast() }
        return String(view)
    }
}
