internal import OCI
internal import ObjectStorage

/// What outlives this process of an upload session: everything that was acknowledged, and what is needed to go on from there.
///
/// ```
/// forebay-upload 1
/// repository library/debian
/// algorithm sha256
/// offset 33554432
/// used 1776932130
/// boot 1f0e1f9c-5b0c-4b8f-9d43-0f4a1c1f8d55
/// upload 2~Zk9…
/// part 1 16777216 0f343b0931126a20f133d67c2b018a3b
/// part 2 16777216 b2d1236c286a3c0704224fe4105eca49
/// hash 112
/// tail 0
///
/// <hash state><tail>
/// ```
struct UploadRecord: Sendable, Equatable {
    private static let format = "forebay-upload 1"

    var repository: RepositoryName
    var algorithm: DigestAlgorithm
    /// Bytes that were acknowledged.
    var offset: Int64
    /// Seconds since 1970.
    var lastUsed: Int64
    /// The digest that the bytes proved to have, when all that is missing is the origin.
    var verified: Digest?
    /// A request's bytes were dropped, by no fault of the client's.
    var hasDropped = false
    /// The running hash after `offset` bytes.
    var hashState: [UInt8]
    /// The last of the bytes, where they are in no file.
    var tail: [UInt8]
    /// Only the tail is here: everything before it is at the origin, in parts.
    var isPassing = false
    /// The kernel's run in which it was written: after another, the bytes may not be what was written.
    var boot = ""
    /// What the origin has.
    var remote: RemoteRecord?

    var isInFile: Bool { offset > tail.count && !isPassing }
}

/// What outlives this process of an upload's parts at the origin.
struct RemoteRecord: Sendable, Equatable {
    let upload: MultipartUpload
    let partBytes: Int64
    var parts: [UploadedPart] = []
}

extension UploadRecord {
    var encoded: [UInt8] {
        var lines = [
            Self.format, "repository \(repository)", "algorithm \(algorithm.rawValue)", "offset \(offset)",
            "used \(lastUsed)",
        ]
        lines.append("boot \(boot)")
        if isPassing { lines.append("passing 1") }
        if hasDropped { lines.append("dropped 1") }
        if let remote {
            lines.append("upload \(remote.upload.id)")
            lines += remote.parts.map { "part \($0.number) \($0.length) \($0.etag)" }
        }
        if let verified { lines.append("verified \(verified)") }
        lines += ["hash \(hashState.count)", "tail \(tail.count)", "", ""]
        return Array(lines.joined(separator: "\n").utf8) + hashState + tail
    }

    /// `nil` when the bytes are no record, or not all of one.
    ///
    /// - Parameter remote: the upload at the origin, as far as it was begun.
    init?(_ bytes: [UInt8], remote: RemoteRecord?) {
        var rest = bytes[...]
        var values: [Substring: Substring] = [:]
        var parts: [UploadedPart] = []
        guard Self.line(&rest) == Self.format[...] else { return nil }
        while true {
            guard let line: Substring = Self.line(&rest) else { return nil }
            if line.isEmpty { break }
            guard let space = line.firstIndex(of: " ") else { return nil }
            if let part = UploadedPart(line) {
                parts.append(part)
                continue
            }
            values[line[..<space]] = line[line.index(after: space)...]
        }
        func number(_ name: Substring) -> Int64? { values[name].flatMap { Int64(digits: $0.utf8) } }
        guard let name = values["repository"], let repository = try? RepositoryName(name),
            let algorithm = values["algorithm"].flatMap({ DigestAlgorithm(rawValue: String($0)) }),
            let offset = number("offset"), let lastUsed = number("used"),
            let hashBytes = number("hash"), let tailBytes = number("tail"),
            tailBytes <= offset, tailBytes <= rest.count, hashBytes == rest.count - Int(tailBytes)
        else { return nil }
        self.repository = repository
        self.algorithm = algorithm
        self.offset = offset
        self.lastUsed = lastUsed
        // Without it the closing request verifies once more.
        verified = values["verified"].flatMap { try? Digest($0) }
        hashState = Array(rest.prefix(Int(hashBytes)))
        tail = Array(rest.dropFirst(Int(hashBytes)))
        isPassing = values["passing"] != nil
        hasDropped = values["dropped"] != nil
        boot = values["boot"].map(String.init) ?? ""
        self.remote = remote
        // Parts of another upload, begun before, are none of this one.
        if let remote, values["upload"].map(String.init) == remote.upload.id { self.remote?.parts = parts }
    }

    /// Takes the next line off, without its end; `nil` when there is none.
    private static func line(_ rest: inout ArraySlice<UInt8>) -> Substring? {
        guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        let line = rest[..<end]
        rest = rest[(end + 1)...]
        return Substring(decoding: line, as: UTF8.self)
    }
}

extension RemoteRecord {
    var encoded: [UInt8] { Array("\(upload.key)\n\(upload.id)\n\(partBytes)\n".utf8) }

    /// `nil` for what cannot have been encoded, such as what is no key.
    init?(_ bytes: [UInt8]) {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count == 4, let key = try? ObjectKey(lines[0]), let size = Int64(digits: lines[2].utf8),
            1...S3Limits.largestPartBytes ~= size
        else {
            return nil
        }
        upload = MultipartUpload(key: key, id: String(lines[1]))
        partBytes = size
    }
}

extension UploadedPart {
    /// Reads a line `part <number> <length> <etag>`.
    fileprivate init?(_ line: Substring) {
        let words = line.split(separator: " ", maxSplits: 3)
        guard words.count == 4, words[0] == "part", let number = Int64(digits: words[1].utf8), number > 0,
            let length = Int64(digits: words[2].utf8)
        else { return nil }
        self.init(number: Int(number), etag: String(words[3]), length: length)
    }
}
