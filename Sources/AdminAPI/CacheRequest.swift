public import OCI

/// What somebody wants of a cache: the same for a running server, over its admin socket, and for a stopped one's directory.
public struct CacheRequest: Codable, Sendable {
    public enum Operation: String, Codable, Sendable, CaseIterable {
        case ls, stat, pin, unpin, evict, prewarm, verify
    }

    /// What `ls` lists.
    public enum Kind: String, Codable, Sendable, CaseIterable {
        case blob, manifest, tag
        /// A blob on its way from the origin.
        case fill
        /// What a pin holds together.
        case pin
    }

    public var operation: Operation
    /// Digests and images.
    public var targets: [String]
    /// Which children of an index count: `os/architecture`, with or without a variant. Without one, all do.
    public var platform: String?
    /// Without any, all kinds.
    public var kinds: [Kind]?
    /// Only this repository's manifests and tags.
    public var repository: String?
    /// Only what is pinned, or only what is not.
    public var isPinned: Bool?
    /// Whether `prewarm` pins what it fetched.
    public var pins: Bool?

    public init(_ operation: Operation, _ targets: [String] = []) {
        self.operation = operation
        self.targets = targets
    }
}

/// A piece of content, or an image with all that hangs on it.
public enum CacheTarget: Sendable, Hashable, CustomStringConvertible {
    case digest(Digest)
    case image(RepositoryName, Reference)

    /// Reads `sha256:…`, `repository`, `repository:tag`, `repository@digest` and `repository:tag@digest`; the tag is `latest` when none is given.
    public init(_ text: String) throws(CacheFailure) {
        do throws(NameError) {
            if DigestAlgorithm.allCases.contains(where: { text.hasPrefix("\($0.rawValue):") }), !text.contains("/") {
                self = .digest(try Digest(text))
            } else if let at = text.lastIndex(of: "@") {
                let name = Self.split(text[..<at]).name
                self = .image(try RepositoryName(name), .digest(try Digest(text[text.index(after: at)...])))
            } else {
                let (name, tag) = Self.split(text[...])
                self = .image(try RepositoryName(name), .tag(try Tag(tag ?? "latest")))
            }
        } catch {
            throw CacheFailure(
                .invalid,
                "'\(error.text)' in '\(text)': \(error); write a digest (sha256:…) or an image as this registry knows it, without a host: "
                    + "repository, repository:tag or repository@digest"
            )
        }
    }

    /// The repository's part, and the tag's.
    private static func split(_ text: Substring) -> (name: Substring, tag: Substring?) {
        let lastSlash = text.lastIndex(of: "/") ?? text.startIndex
        guard let colon = text[lastSlash...].firstIndex(of: ":") else { return (text, nil) }
        return (text[..<colon], text[text.index(after: colon)...])
    }

    public var description: String {
        switch self {
        case .digest(let digest): digest.description
        case .image(let name, .tag(let tag)): "\(name):\(tag)"
        case .image(let name, .digest(let digest)): "\(name)@\(digest)"
        }
    }
}

/// Why something could not be done.
public struct CacheFailure: Error, Codable, Sendable, CustomStringConvertible {
    public enum Kind: String, Codable, Sendable {
        /// The request makes no sense.
        case invalid
        /// Something that is needed cannot be had now.
        case unavailable
        case failed
        /// Nobody waits for the answer any more, or the server ends.
        case cancelled
    }

    public let kind: Kind
    public let message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    public var description: String { message }
}

/// A request of which every part was understood.
struct ParsedRequest: Sendable {
    let operation: CacheRequest.Operation
    let targets: [CacheTarget]
    let platform: Platform?
    let kinds: [CacheRequest.Kind]
    let repository: RepositoryName?
    let isPinned: Bool?
    let pins: Bool

    init(_ request: CacheRequest) throws(CacheFailure) {
        operation = request.operation
        var targets: [CacheTarget] = []
        for text in request.targets { targets.append(try CacheTarget(text)) }
        self.targets = targets
        platform = request.platform.flatMap { Platform($0) }
        if let text = request.platform, platform == nil {
            throw CacheFailure(.invalid, "platform '\(text)': write os/architecture, for example linux/arm64")
        }
        kinds = request.kinds.flatMap { $0.isEmpty ? nil : $0 } ?? CacheRequest.Kind.allCases
        do throws(NameError) {
            repository = try request.repository.map { text throws(NameError) in try RepositoryName(text) }
        } catch {
            throw CacheFailure(.invalid, "\(error)")
        }
        isPinned = request.isPinned
        pins = request.pins ?? false
        switch operation {
        case .pin, .unpin, .evict, .prewarm:
            if targets.isEmpty { throw CacheFailure(.invalid, "\(operation.rawValue): name what to work on") }
        case .ls, .stat, .verify: break
        }
    }
}
